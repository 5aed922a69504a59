"""What the DNG of a NEF, CR2, RW2 or RAF takes over is all there, maker's notes included."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from raw_files import MATRIX, rich_dng, scene
from trees import contents

from kpn_cli.output.dng_source import is_auxiliary_image, tags_kept_from_dng, tags_kept_from_raw
from kpn_cli.output.dng_writer import write_tree
from kpn_cli.tiff import fields, reader, writer
from kpn_cli.tiff.reader import read_tree

#: Real files whose pictures are cut off: their directories are whole.
RAWS = Path(__file__).parents[3] / "shared" / "raw" / "bad"
needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")


def exiftool(path: Path) -> set[str]:
    """Group, name and value of all that Exif, GPS and the maker's notes say."""
    done = subprocess.run(
        ["exiftool", "-a", "-G1", "-s", path], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    groups = ("[ExifIFD]", "[GPS]", "[Canon", "[Nikon", "[Panasonic]", "[FujiFilm]")
    return {line for line in done.stdout.splitlines() if line.startswith(groups)}


@needs_exiftool
@pytest.mark.skipif(not RAWS.is_dir(), reason="needs ../shared/raw")
@pytest.mark.parametrize("name", ["Nikon.nef", "CanonRaw.cr2", "Panasonic.rw2", "FujiFilm.raf"])
def test_exiftool_reads_the_same_exif_and_makers_notes(tmp_path, name):
    source = RAWS / f"t_images__{name}"
    tree = read_tree(source)
    main, exif, gps = tags_kept_from_raw(tree)
    camera = [tag for ifd in reversed(tree.ifds) for tag in ifd if tag.code in (271, 272)]
    pieces = [bytes(1000)] * 100  # stand for the mosaic, which the notes lie among
    ifd = fields.merge(
        main, camera, [fields.byte_field(50706, bytes((1, 3, 0, 0)))],
        [fields.ifd_field(34665, exif), fields.segments_field(324, pieces)],
        [fields.long_field(325, *map(len, pieces))], [fields.ifd_field(34853, gps)] if gps else [],
    )  # fmt: skip
    write_tree(tmp_path / "a.dng", [ifd], tree.order)
    before = exiftool(source)
    assert len(before) > 60
    assert before <= exiftool(tmp_path / "a.dng")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_camera_profile_is_a_small_file_of_the_same_tags(tmp_path, order):
    rich_dng(tmp_path / "a.dng", scene(60, 80), order)
    tree = read_tree(tmp_path / "a.dng")
    ((profile,),) = (tag.data.segments for tag in tree.ifds[0] if tag.code == 50933)
    expected = [(fields.ascii_field(50936, "Vivid"), fields.signed_rational_field(50721, *MATRIX))]
    assert profile == writer.tiff_bytes(expected, order, 0x4352)


def test_masks_are_kept_and_renderings_are_not(tmp_path):
    _, _, mask = rich_dng(tmp_path / "a.dng", scene(60, 80))
    (kept,) = tags_kept_from_dng(read_tree(tmp_path / "a.dng", is_auxiliary_image)).auxiliary
    assert contents([kept]) == contents([mask])


def test_a_tree_without_a_mosaic_has_nothing_to_keep(tmp_path):
    (tmp_path / "a.tif").write_bytes(writer.tiff_bytes([(fields.ascii_field(271, "maker"),)]))
    assert tags_kept_from_dng(read_tree(tmp_path / "a.tif")) is None
    assert tags_kept_from_raw(None) == ((), (), ())


def _entries(count: int, value: int) -> bytes:
    """A table of so many tags whose value of 8 bytes lies there."""
    tags = (struct.pack("<HHLL", code, 2, 8, value) for code in range(1000, 1000 + count))
    return b"".join(tags)


def hostile_profiles(directories: int, pointers: int, entries: int) -> bytes:
    """A chain of directories, all of which point to one profile again and again.

    The profile is a chain of directories, all of which have the same values at one place.
    """
    table = 2 + 12 * entries + 4
    profile_at = 8 + directories * (2 + 12 + 4)
    offsets_at = profile_at + 8 + directories * table
    data = struct.pack("<2sHL", b"II", 42, 8)
    for number in range(directories):
        following = 8 + (number + 1) * 18 if number + 1 < directories else 0
        data += struct.pack("<HHHLLL", 1, 50933, 4, pointers, offsets_at, following)
    data += struct.pack("<2sHL", b"II", 0x4352, 8)
    for number in range(directories):
        following = 8 + (number + 1) * table if number + 1 < directories else 0
        data += struct.pack("<H", entries) + _entries(entries, 8) + struct.pack("<L", following)
    return data + struct.pack("<L", profile_at) * pointers


class Counted(io.BytesIO):
    """A file that knows how many bytes were read of it."""

    count = 0

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize("entries", [1, 30, 500])
def test_profiles_named_again_and_again_are_read_once(tmp_path, monkeypatch, entries):
    data = hostile_profiles(64, 64, entries)
    file = Counted(data)
    monkeypatch.setattr(reader, "open", lambda path, mode: file, raising=False)
    tree = read_tree(tmp_path / "a.dng")
    # Headers of profiles: eight bytes a pointer, whoever reads them.
    assert file.count <= len(data) + 8 * 64 * 64 + 64 * 6 + 16
    profiles = [piece for ifd in tree.ifds for tag in ifd for piece in tag.data.segments]
    assert sum(map(len, profiles)) <= 2 * len(data)


def test_directories_of_profiles_count_towards_the_limit(tmp_path):
    (tmp_path / "a.dng").write_bytes(hostile_profiles(40, 2, 3) + bytes(4000))
    ifds = read_tree(tmp_path / "a.dng").ifds
    assert len(ifds) == 64 - 40
    assert [len(ifd) for ifd in ifds] == [1] + [0] * 23  # later ones name the same profile


def test_entries_and_values_are_no_more_bytes_than_the_file_has(tmp_path):
    # 60 directories of 100 tags that all have the same 4000 bytes.
    table = b"".join(struct.pack("<HHLL", code, 7, 4000, 8) for code in range(100))
    data = struct.pack("<2sHL", b"II", 42, 4008) + bytes(4000)
    for number in range(60):
        following = 4008 + (number + 1) * 1206 if number < 59 else 0
        data += struct.pack("<H", 100) + table + struct.pack("<L", following)
    (tmp_path / "a.dng").write_bytes(data)
    tags = [tag for ifd in read_tree(tmp_path / "a.dng").ifds for tag in ifd]
    assert 0 < sum(12 + len(tag.data) for tag in tags) <= len(data)


def test_values_of_a_profile_may_lie_anywhere(tmp_path, monkeypatch):
    # As many wishes for a place as there are values would cost their square.
    packed = []
    encode = writer.tiff_bytes
    monkeypatch.setattr(
        reader, "tiff_bytes", lambda ifds, *rest: (packed.extend(ifds), encode(ifds, *rest))[1]
    )
    rich_dng(tmp_path / "a.dng", scene(60, 80))
    read_tree(tmp_path / "a.dng")
    assert [tag.offset for ifd in packed for tag in ifd] == [None, None]
