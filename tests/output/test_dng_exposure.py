"""A DNG that is to be shown brighter, or whose white stands for more light, says so everywhere."""

from __future__ import annotations

import struct
from pathlib import Path

import exifread
import numpy as np
import pytest
import tifffile
from dng_factory import write_dng
from dng_results import NOISE, NOW, identity, linear_samples, rendered
from hypothesis import given
from hypothesis import strategies as st
from raw_files import BLACK, WHITE, nef, opcode, opcode_list, rich_dng, scene

from kpn_cli.output import dng_opcodes
from kpn_cli.output.dng_exposure import with_exposure
from kpn_cli.output.dng_levels import OUTPUT_BLACK, OUTPUT_WHITE
from kpn_cli.output.dng_source import is_auxiliary_image
from kpn_cli.output.dng_writer import write_denoised_dng
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.tiff import fields
from kpn_cli.tiff.reader import numbers, read_tree

STEP = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
GREY = np.full((12, 16, 3), 128, np.uint8)


def exposure_of(path: Path) -> float | None:
    """BaselineExposure, as another program reads it."""
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags.get(50730)
        return tag.value[0] / tag.value[1] if tag else None


def written(source: Path, output: Path, planes: np.ndarray, **options) -> tuple[str, ...]:
    """Write planes with the tags of a source; return the notes."""
    tree = read_tree(source, is_auxiliary_image)
    options = {"noise": NOISE, "modified": NOW} | options
    return write_denoised_dng(output, read_info(source), tree, planes, GREY, **options)


def plain_dng(path: Path, *extra: tuple) -> Path:
    return write_dng(path, scene(96, 128), black=(BLACK,), white=WHITE, extra=extra)


def tags_of(path: Path) -> tuple[dict[int, object], dict[int, object]]:
    """Values of IFD 0 and of the mosaic's directory."""
    main = {tag.code: tag for tag in read_tree(path).ifds[0]}
    mosaic = main[330].data.ifds[0]
    return {code: tag.data for code, tag in main.items()}, {tag.code: tag.data for tag in mosaic}


def bright_planes(info) -> np.ndarray:
    """Planes of a ramp up to 4 times the white of a frame, which is grey in daylight."""
    shape = read_planes(info).shape
    ramp = np.linspace(-0.01, 4, shape[-1], dtype=np.float32)
    return np.broadcast_to(ramp, shape) * np.float32([0.6, 1, 1, 0.8])[:, None, None]


# --- lift ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_lift_changes_baseline_exposure_and_nothing_else(tmp_path, order):
    rich_dng(tmp_path / "a.dng", scene(160, 208), order)
    before = tags_of(identity(tmp_path / "a.dng", tmp_path / "b.dng"))
    after = tags_of(identity(tmp_path / "a.dng", tmp_path / "c.dng", lift=2.0))
    assert exposure_of(tmp_path / "b.dng") == pytest.approx(0.35, abs=1e-6)
    assert exposure_of(tmp_path / "c.dng") == pytest.approx(2.35, abs=1e-6)
    assert after[1] == before[1] and 51041 in before[1]
    samples = [read_planes(read_info(tmp_path / name)) for name in ("b.dng", "c.dng")]
    np.testing.assert_array_equal(*samples)
    assert {code for code in before[0] if before[0][code] != after[0][code]} == {50730}


def test_a_lift_is_written_if_the_source_states_no_exposure(tmp_path):
    source = plain_dng(tmp_path / "a.dng")
    assert exposure_of(identity(source, tmp_path / "b.dng")) is None
    assert exposure_of(identity(source, tmp_path / "c.dng", lift=1.5)) == 1.5
    nef(tmp_path / "a.nef", scene(96, 128))
    assert exposure_of(identity(tmp_path / "a.nef", tmp_path / "d.dng", lift=1.5)) == 1.5


def test_the_exposure_for_a_low_clipping_point_and_the_lift_are_added(tmp_path):
    mosaic = np.minimum(scene(128, 256).astype(int) * 9, 60000).astype(np.uint16)
    source = nef(tmp_path / "a.nef", mosaic)
    low = exposure_of(identity(source, tmp_path / "b.dng"))
    assert low == pytest.approx(np.log2((60000 - 600) / (65535 - 600)), abs=1e-4)
    for options, more in (({"lift": 2.0}, 2), ({"lift": 1.0, "headroom": 8.0}, 4)):
        output = identity(source, tmp_path / "c.dng", **options)
        assert exposure_of(output) == pytest.approx(low + more, abs=1e-5)
        assert read_info(output).white == read_info(tmp_path / "b.dng").white


@pytest.mark.parametrize(
    "value", [(0, 0), (1, 0), (-20, 1), (17, 1)], ids=["0/0", "1/0", "too dark", "too bright"]
)
def test_a_senseless_exposure_counts_as_0_and_is_told(tmp_path, value):
    source = plain_dng(tmp_path / "a.dng", (50730, 10, 1, value, True))
    planes = read_planes(read_info(source))
    (note,) = written(source, tmp_path / "b.dng", planes, lift=2.0)
    assert "BaselineExposure" in note
    assert exposure_of(tmp_path / "b.dng") == 2
    # Without a lift it stays as it is.
    assert written(source, tmp_path / "c.dng", planes) == ()
    with tifffile.TiffFile(tmp_path / "c.dng") as tif:
        assert tif.pages[0].tags[50730].value == value


@given(st.binary(max_size=24), st.sampled_from([1, 2, 3, 4, 5, 7, 9, 10, 11, 12]))
def test_any_baseline_exposure_gives_a_finite_one(data, kind):
    ifd = (fields.ascii_field(271, "maker"), fields.Field(50730, kind, 1, data))
    size, each = fields.TYPE_LAYOUT[kind]
    if len(data) % (size * each):
        return  # the reader drops these
    changed, notes = with_exposure(ifd, 1.0, required=True)
    ((value,),) = (numbers(tag) for tag in changed if tag.code == 50730)
    assert -15 <= value <= 17
    assert len(notes) <= 1
    assert with_exposure(ifd, 0.0, required=True) == (ifd, ())


def test_an_exposure_beside_the_mosaic_is_lifted_too(tmp_path):
    """DNG has the tag in IFD 0; LibRaw prefers one in the mosaic's directory."""
    rich_dng(tmp_path / "a.dng", scene(96, 128))
    (main,) = read_tree(tmp_path / "a.dng").ifds
    tag = fields.signed_rational_field(50730, -1)
    assert with_exposure(main[:3], 2.0, required=False) == (main[:3], ())
    ((*_, changed), _) = with_exposure((tag,), 2.0, required=False)
    assert numbers(changed) == (1.0,)


# --- headroom -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dng", "a.nef"])
def test_planes_beyond_white_read_back_scaled_by_the_headroom(tmp_path, name):
    source = tmp_path / name
    if name == "a.dng":
        rich_dng(source, scene(160, 208))
    else:
        nef(source, scene(160, 208))
    info = read_info(source)
    planes = bright_planes(info)
    assert written(source, tmp_path / "b.dng", planes, headroom=4.0) == ()
    after = read_info(tmp_path / "b.dng")
    inner = ..., slice(1, -1), slice(1, -1)  # without cells that are cut off at the edge
    assert np.abs(read_planes(after) - planes / 4)[inner].max() <= 1.01 * STEP
    assert exposure_of(tmp_path / "b.dng") == pytest.approx(2 + (0.35 if name == "a.dng" else 0))
    # The same noise at the same place of the picture: variance at 0.3 of the frame's white.
    for plane in range(4):
        variance = NOISE.shot[plane] * 0.3 + NOISE.read[plane]
        model = after.noise_profile
        said = 16 * (model.shot[plane] * 0.3 / 4 + model.read[plane])
        assert said == pytest.approx(variance, rel=1e-3)


def test_headroom_and_lift_leave_all_other_tags(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    options = {"compression": "none", "unique_id": bytes(16)}
    before = tags_of(identity(tmp_path / "a.dng", tmp_path / "b.dng", **options))
    options |= {"lift": 1.0, "headroom": 4.0}
    after = tags_of(identity(tmp_path / "a.dng", tmp_path / "c.dng", **options))
    main, mosaic = (
        {code for code in old if old[code] != new[code]}
        for old, new in zip(before, after, strict=True)
    )
    assert main == {50730, 330}  # 330 holds the mosaic
    assert mosaic == {51041}  # NoiseProfile
    assert exposure_of(tmp_path / "c.dng") == pytest.approx(3.35, abs=1e-6)


def test_masked_borders_keep_their_mean_and_get_the_scale_of_the_picture(tmp_path, rng):
    mosaic = scene(141, 211)
    mosaic[:6] = np.rint(rng.normal(BLACK + 40, 20, (6, 211)))
    source = write_dng(
        tmp_path / "a.dng", mosaic, black=(BLACK,), white=WHITE, active_area=(6, 8, 141, 211)
    )
    plain, _ = linear_samples(identity(source, tmp_path / "b.dng"))
    scaled, _ = linear_samples(identity(source, tmp_path / "c.dng", headroom=4.0))
    assert np.abs(4 * scaled - plain).max() <= 4 * STEP


def test_values_above_the_headroom_clip_at_the_files_white(tmp_path):
    source = plain_dng(tmp_path / "a.dng")
    planes = bright_planes(read_info(source))
    written(source, tmp_path / "b.dng", planes, headroom=2.0)
    back = read_planes(read_info(tmp_path / "b.dng"))
    assert np.abs(back - np.minimum(planes / 2, 1)).max() <= 1.01 * STEP


OPCODES = {1: True, 3: True, 5: True, 9: True, 12: True, 13: True} | dict.fromkeys(
    (4, 7, 8, 10, 11, 99), False
)


@pytest.mark.parametrize(("number", "free"), OPCODES.items())
@pytest.mark.parametrize(("tag", "name"), [(51009, "OpcodeList2"), (51022, "OpcodeList3")])
def test_opcodes_for_values_up_to_white_leave_no_headroom(tmp_path, number, free, tag, name):
    listed = opcode_list(opcode(1), opcode(number, bytes(8)))
    source = plain_dng(tmp_path / "a.dng", (tag, 7, len(listed), listed, True))
    info = read_info(source)
    notes = written(source, tmp_path / "b.dng", bright_planes(info), lift=1.0, headroom=4.0)
    assert exposure_of(tmp_path / "b.dng") == (3 if free else 1)
    assert [name in note for note in notes] == ([] if free else [True])
    back = read_planes(read_info(tmp_path / "b.dng"))
    expected = bright_planes(info) / 4 if free else np.minimum(bright_planes(info), 1)
    assert np.abs(back - expected).max() <= 1.01 * STEP
    assert tags_of(tmp_path / "b.dng")[1][tag] == listed


@given(st.binary(max_size=80))
def test_a_damaged_list_is_not_scale_free(data):
    whole = opcode_list(opcode(9))
    assert dng_opcodes.are_scale_free(whole)
    assert not dng_opcodes.are_scale_free(whole[:-1])
    assert not dng_opcodes.are_scale_free(struct.pack(">L", 2) + whole[4:])  # one is missing
    assert not dng_opcodes.are_scale_free(struct.pack(">LL", 1, 8) + data)


@pytest.mark.parametrize(("divisions", "exposure"), [((90, 30, 1), 2), ((36, 8, 16), None)])
def test_a_colour_table_that_depends_on_brightness_leaves_no_headroom(
    tmp_path, divisions, exposure
):
    source = plain_dng(tmp_path / "a.dng", (50937, 4, 3, divisions, True))
    notes = written(source, tmp_path / "b.dng", bright_planes(read_info(source)), headroom=4.0)
    assert exposure_of(tmp_path / "b.dng") == exposure
    assert ["ProfileHueSatMapData" in note for note in notes] == ([] if exposure else [True])


# --- other programs -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dng", "a.nef"])
@pytest.mark.parametrize(
    "options", [{"lift": 2.0}, {"headroom": 4.0}, {"lift": 1.5, "headroom": 2.0}]
)
def test_other_programs_develop_it_to_the_same_brightness_with_its_exposure(
    tmp_path, name, options
):
    """LibRaw ignores BaselineExposure, so it must be applied once, and by nobody else."""
    source = tmp_path / name
    if name == "a.dng":
        rich_dng(source, scene(160, 264) // 2 + BLACK // 2)  # nothing clips
    else:
        nef(source, scene(160, 264))
    plain = identity(source, tmp_path / "b.dng")
    output = identity(source, tmp_path / "c.dng", **options)
    more = exposure_of(output) - (exposure_of(plain) or 0)
    assert more == pytest.approx(options.get("lift", 0) + np.log2(options.get("headroom", 1)))
    ours = rendered(output) * 2.0**more
    theirs = rendered(plain) * 2.0 ** options.get("lift", 0)
    np.testing.assert_allclose(ours.mean((0, 1)), theirs.mean((0, 1)), rtol=2e-3)
    with open(output, "rb") as file:
        tags = exifread.process_file(file, details=False)
    assert str(tags["EXIF ISOSpeedRatings"]) == "3200"
    assert str(tags["EXIF ExposureTime"]) == "1/125"
