"""What the DNG of a NEF, CR2, RW2 or RAF takes over is all there, maker's notes included."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from raw_files import MATRIX, rich_dng, scene
from trees import contents

from kpn_cli import tiff
from kpn_cli.dng import write_tree
from kpn_cli.dng_copy import is_kept_whole, kept_of_any_raw, kept_of_dng
from kpn_cli.tiff_tree import read_tree

#: Real files whose pictures are cut off: their directories are whole.
RAWS = Path(__file__).parents[2] / "shared" / "raw" / "bad"
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
    main, exif, gps = kept_of_any_raw(tree)
    camera = [tag for ifd in reversed(tree.ifds) for tag in ifd if tag.code in (271, 272)]
    pieces = [bytes(1000)] * 100  # stand for the mosaic, which the notes lie among
    ifd = tiff.merge(
        main, camera, [tiff.byte_tag(50706, bytes((1, 3, 0, 0)))],
        [tiff.ifd_tag(34665, exif), tiff.pieces_tag(324, pieces)],
        [tiff.long_tag(325, *map(len, pieces))], [tiff.ifd_tag(34853, gps)] if gps else [],
    )  # fmt: skip
    write_tree(tmp_path / "a.dng", [ifd], tree.order)
    before = exiftool(source)
    assert len(before) > 60
    assert before <= exiftool(tmp_path / "a.dng")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_camera_profile_is_a_small_file_of_the_same_tags(tmp_path, order):
    rich_dng(tmp_path / "a.dng", scene(60, 80), order)
    tree = read_tree(tmp_path / "a.dng")
    ((profile,),) = (tag.data.pieces for tag in tree.ifds[0] if tag.code == 50933)
    expected = [(tiff.ascii_tag(50936, "Vivid"), tiff.signed_rational_tag(50721, *MATRIX))]
    assert profile == tiff.encode(expected, order, 0x4352)


def test_masks_are_kept_and_renderings_are_not(tmp_path):
    _, _, mask = rich_dng(tmp_path / "a.dng", scene(60, 80))
    (kept,) = kept_of_dng(read_tree(tmp_path / "a.dng", is_kept_whole)).others
    assert contents([kept]) == contents([mask])


def test_a_tree_without_a_mosaic_has_nothing_to_keep(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff.encode([(tiff.ascii_tag(271, "maker"),)]))
    assert kept_of_dng(read_tree(tmp_path / "a.tif")) is None
    assert kept_of_any_raw(None) == ((), (), ())
