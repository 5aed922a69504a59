"""A result says of itself what is true of it, and not what was true of its source."""

from __future__ import annotations

from dataclasses import replace

import exifread
import pytest
import tifffile
from dng_factory import write_dng
from dng_results import NOISE, NOW, identity
from raw_files import BLACK, WHITE, nef, rich_dng, scene

from kpn_cli.output.develop import preview
from kpn_cli.output.dng_source import is_auxiliary_image
from kpn_cli.output.dng_writer import write_denoised_dng
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.tiff import fields
from kpn_cli.tiff.fields import Ifds
from kpn_cli.tiff.reader import fractions, integers, read_tree, walk

RAW = 32803
UNIQUE = bytes(range(16))


def source_of(folder, name: str, *extra):
    if name.endswith("nef"):
        return nef(folder / name, scene(160, 264))
    mosaic = scene(160, 264)
    return write_dng(folder / name, mosaic, black=(BLACK,), white=WHITE, extra=extra)


def directories(path):
    """The directory of the mosaic, and IFD 0."""
    tree = read_tree(path)
    (raw,) = (ifd for ifd in walk(tree.ifds) if integers(ifd, 262) == (RAW,))
    return raw, tree.ifds[0]


def codes(ifd) -> set[int]:
    return {tag.code for tag in ifd}


# --- noise ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dng", "a.nef"])
@pytest.mark.parametrize(("strength", "said"), [(0.3, 0.3), (1, 1), (2.5, 1)])
def test_the_noise_reduction_is_told_in_the_directory_of_the_mosaic(tmp_path, name, strength, said):
    source = source_of(tmp_path, name, (50935, 5, 1, (0, 1), True))
    raw, main = directories(identity(source, tmp_path / "b.dng", strength=strength))
    assert fractions(raw, 50935) == pytest.approx((said,))
    assert 50935 not in codes(main)


def test_noise_reduction_in_ifd_0_of_the_source_gives_way(tmp_path):
    main, raw, _ = rich_dng(tmp_path / "a.dng", scene(160, 208))
    data = (tmp_path / "a.dng").read_bytes()
    assert 50935 not in codes(main) | codes(raw)
    # RawDataUniqueID's place in the table: a tag that the source does not need.
    old, new = (50781).to_bytes(2, "little"), (50935).to_bytes(2, "little")
    entry = data.index(old + b"\x01\x00\x10\x00\x00\x00")
    changed = new + b"\x05\x00\x02\x00\x00\x00"
    (tmp_path / "a.dng").write_bytes(data[:entry] + changed + data[entry + 8 :])
    assert 50935 in codes(read_tree(tmp_path / "a.dng").ifds[0])
    raw, main = directories(identity(tmp_path / "a.dng", tmp_path / "b.dng", strength=1))
    assert (50935 in codes(raw), 50935 in codes(main)) == (True, False)


@pytest.mark.parametrize("value", [None, 0, 0.5])
def test_without_denoising_the_sources_noise_reduction_stays(tmp_path, value):
    extra = [] if value is None else [(50935, 5, 1, (int(10 * value), 10), True)]
    source = source_of(tmp_path, "a.dng", *extra)
    raw, main = directories(identity(source, tmp_path / "b.dng", strength=0))
    assert fractions(raw, 50935) == (() if value is None else (value,))
    assert 50935 not in codes(main)
    raw, _ = directories(identity(source_of(tmp_path, "a.nef"), tmp_path / "c.dng", strength=0))
    assert 50935 not in codes(raw)


@pytest.mark.parametrize("name", ["a.dng", "a.nef"])
@pytest.mark.parametrize("shot", [0.0, 2.0])
def test_a_noise_profile_that_readers_take_for_damaged_is_left_out(tmp_path, name, shot):
    source = source_of(tmp_path, name)
    noise = replace(NOISE, shot=(shot, *NOISE.shot[1:]))
    raw, main = directories(identity(source, tmp_path / "b.dng", noise=noise))
    assert 51041 not in codes(raw) | codes(main)
    raw, _ = directories(identity(source, tmp_path / "c.dng"))
    assert 51041 in codes(raw)


# --- identity ---------------------------------------------------------------------------


def test_the_result_is_no_frame_of_the_sources_sequence(tmp_path):
    sequence = b"burst\0Burst\0 \0" + bytes(9)
    source = source_of(tmp_path, "a.dng", (52548, 7, len(sequence), sequence, True))
    assert 52548 in codes(read_tree(source).ifds[0])
    raw, main = directories(identity(source, tmp_path / "b.dng"))
    assert 52548 not in codes(raw) | codes(main)


def test_the_original_is_named_only_if_it_was_no_dng(tmp_path):
    for name, extra, original in (
        ("é.nef", (), "é.nef\0".encode()),
        ("a.dng", (), None),
        # Its converter made it from another format.
        ("c.dng", [(50827, 1, 9, b"IMG1.CR2\0", True)], b"IMG1.CR2\0"),
    ):
        source = source_of(tmp_path, name, *extra)
        _, main = directories(identity(source, tmp_path / "b.dng"))
        found = [bytes(tag.data) for tag in main if tag.code == 50827]
        assert found == ([] if original is None else [original])


@pytest.mark.parametrize("name", ["a.dng", "a.nef"])
def test_the_picture_has_an_id_of_its_own(tmp_path, name):
    old = fields.ascii_field(42016, "0123456789abcdef" * 2)
    if name == "a.nef":
        source = nef(tmp_path / name, scene(160, 264), old)
    else:
        source = write_dng(
            tmp_path / name, scene(160, 264), white=WHITE, exif={42016: (2, "0123" * 8)}
        )
    output = identity(source, tmp_path / "b.dng", unique_id=UNIQUE)
    with output.open("rb") as file:
        assert str(exifread.process_file(file)["EXIF ImageUniqueID"]) == UNIQUE.hex()
    output = identity(source, tmp_path / "c.dng")
    assert 42016 not in {tag.code for ifd in walk(read_tree(output).ifds) for tag in ifd}


def test_a_new_dng_gives_the_size_of_its_own_picture(tmp_path):
    old = [fields.integer_field(40962, 1920), fields.integer_field(40963, 1440)]
    output = identity(nef(tmp_path / "a.nef", scene(160, 264), *old), tmp_path / "b.dng")
    with output.open("rb") as file:
        said = exifread.process_file(file)
    width, height = (str(said[f"EXIF ExifImage{side}"]) for side in ("Width", "Length"))
    raw, _ = directories(output)
    assert (int(width), int(height)) == integers(raw, 50720)


def test_a_new_dng_names_the_camera_as_its_profiles_do(tmp_path):
    output = identity(nef(tmp_path / "a.nef", scene(160, 264)), tmp_path / "b.dng")
    with tifffile.TiffFile(output) as file:
        tags = {tag.code: tag.value for tag in file.pages[0].tags}
    assert (tags[50708], tags[271], tags[272]) == ("Nikon D750", "NIKON CORPORATION", "NIKON D750")


def test_a_dng_whose_frame_libraw_sees_otherwise_keeps_its_names(tmp_path):
    """Its result is a new DNG, but no result of another raw format."""
    source = source_of(tmp_path, "a.dng", (50827, 1, 9, b"IMG1.CR2\0", True))
    info, tree = read_info(source), read_tree(source, is_auxiliary_image)
    taller = tuple(fields.long_field(257, 9999) if tag.code == 257 else tag for tag in tree.ifds[0])
    planes = read_planes(info)
    write_denoised_dng(
        tmp_path / "b.dng", info, replace(tree, ifds=(taller,)), planes, preview(info, planes),
        modified=NOW,
    )  # fmt: skip
    main = {tag.code: tag.data for tag in read_tree(tmp_path / "b.dng").ifds[0]}
    assert main[50827] == b"IMG1.CR2\0"
    assert main[50708] == b"kpn test camera\0"
    assert isinstance(main[330], Ifds)
