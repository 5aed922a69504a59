"""The denoised DNG is the source with other pixels: nothing else is lost, moved or recoloured."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import exifread
import numpy as np
import pytest
import rawpy
import tifffile
from dng_factory import write_dng
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from raw_files import BLACK, MAKER_NOTE, NOTE_AT, WHITE, nef, opcode, opcode_list, rich_dng, scene
from trees import contents

from kpn_cli.errors import KpnError
from kpn_cli.image.bayer import PHASES
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.output import dng_opcodes
from kpn_cli.output.develop import develop, preview
from kpn_cli.output.dng_levels import OUTPUT_BLACK, OUTPUT_WHITE
from kpn_cli.output.dng_source import is_kept_whole, kept_of_any_raw, kept_of_dng
from kpn_cli.output.dng_writer import _cropped, write_result
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.raw.tags import Tag, read_metadata
from kpn_cli.synthesis.camera import Camera, write_frames
from kpn_cli.tiff import fields, writer
from kpn_cli.tiff.fields import Ifds, Pieces
from kpn_cli.tiff.reader import read_tree

SHARED = Path(__file__).parents[3] / "shared" / "raw"
REAL = ["single/canon-kiss-x4.dng", "single/blackmagic-pocket-linearization-table.dng",
        "pi-static/frame_00.dng"]  # fmt: skip


def needs(program: str):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


NOISE = NoiseModel((1e-4, 2e-4, 2e-4, 3e-4), (1e-7, 2e-7, 2e-7, 3e-7))
GREY = np.full((16, 16, 3), 128, np.uint8)
NOW = datetime(2025, 6, 7, 8, 9, 10, tzinfo=timezone(timedelta(hours=2)))

#: What denoising changes, wherever it is; tags of the storage of pixels, which a directory
#: may have for other pixels than before, included.
STORAGE = {254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 322, 323, 324, 325, 330, 339}
LEVELS = {50712, 50713, 50714, 50717, 51041}
#: Software, modification, versions of Exif and DNG.
FILE = {305, 306, 36864, 36880, 37520, 50706, 50707}
PREVIEWS = {50966, 50970}
IDENTITY = {50781, 51111}
CHANGED = STORAGE | LEVELS | FILE | PREVIEWS | IDENTITY
NEW = {50708, 50827, 274}  # where missing


def identity(source: Path, output: Path, **options) -> Path:
    """Write the planes of a frame as its own result: the identity for a network."""
    info = read_info(source)
    planes = read_planes(info)
    options = {"noise": NOISE, "modified": NOW} | options
    tree = read_tree(source, is_kept_whole)
    write_result(output, info, tree, planes, preview(info, planes), **options)
    return output


@pytest.fixture(scope="module", params=REAL)
def real(request, tmp_path_factory) -> tuple[Path, Path]:
    """A real frame and its identity."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/raw")
    folder = tmp_path_factory.mktemp("real")
    return SHARED / request.param, identity(SHARED / request.param, folder / "b.dng")


def linear_samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The whole frame above black and over LibRaw's range, and the frame in DN."""
    with rawpy.imread(str(path)) as raw:
        frame = raw.raw_image.copy()
        black = np.array(raw.black_level_per_channel)[raw.raw_colors]
        return (frame - black.astype(float)) / (raw.white_level - black.max()), frame


def rendered(path: Path, **options) -> np.ndarray:
    options = {
        "use_camera_wb": True, "no_auto_bright": True, "adjust_maximum_thr": 0, "output_bps": 16,
        "gamma": (1, 1), "demosaic_algorithm": rawpy.DemosaicAlgorithm.LINEAR,
    } | options  # fmt: skip
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(**options)


def blocks(rgb: np.ndarray, size: int = 64) -> np.ndarray:
    rows, columns = rgb.shape[0] // size, rgb.shape[1] // size
    cut = rgb[: rows * size, : columns * size].astype(np.float64)
    return cut.reshape(rows, size, columns, size, 3).mean(axis=(1, 3))


def assert_alike(ours: np.ndarray, theirs: np.ndarray, dark: float = 0.0) -> None:
    """Means of channels and of blocks of 64 pixels agree within 1 %; below `dark`, absolutely."""
    assert ours.shape == theirs.shape
    top = np.iinfo(ours.dtype).max
    np.testing.assert_allclose(ours.mean((0, 1)), theirs.mean((0, 1)), rtol=0.01)
    np.testing.assert_allclose(blocks(ours), blocks(theirs), rtol=0.01, atol=0.01 * dark * top)


# --- pixels ---------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["lossless", "none"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    "area", [None, (6, 8, 137, 205), (7, 8, 140, 205), (6, 5, 139, 204), (7, 5, 139, 210)]
)
def test_identity_keeps_the_mosaic_to_a_step_for_any_phase_and_active_area(
    tmp_path, phase, area, compression
):
    source = write_dng(
        tmp_path / "a.dng", scene(141, 211), phase=phase, active_area=area,
        black=(BLACK,), white=WHITE,
    )  # fmt: skip
    output = identity(source, tmp_path / "b.dng", compression=compression)
    before, after = read_info(source), read_info(output)
    assert (after.phase, after.origin, after.height, after.width) == (
        before.phase, before.origin, before.height, before.width)  # fmt: skip
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(read_planes(after) - read_planes(before)).max() <= step
    # The masked border, too.
    assert np.abs(linear_samples(output)[0] - linear_samples(source)[0]).max() <= step


@pytest.mark.parametrize("width", [*range(768, 1281, 32), 1000, 1026, 1536, 2048])
def test_libraw_reads_the_compressed_result_of_any_width(tmp_path, width):
    """It takes two tiles that make up the width to the pixel for another camera's layout."""
    source = write_dng(tmp_path / "a.dng", scene(40, width), black=(BLACK,), white=WHITE)
    output = identity(source, tmp_path / "b.dng", compression="lossless")
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(linear_samples(output)[0] - linear_samples(source)[0]).max() <= step


def test_black_levels_that_differ_keep_their_distances(tmp_path):
    black = (520.25, 512, 490.5, 530)
    source = write_dng(
        tmp_path / "a.dng", scene(141, 211), black=black, black_repeat=(2, 2), white=WHITE,
        active_area=(6, 8, 137, 205),
    )  # fmt: skip
    output = identity(source, tmp_path / "b.dng")
    before, after = read_info(source), read_info(output)
    scale = (OUTPUT_WHITE - OUTPUT_BLACK) / (WHITE - max(black))
    np.testing.assert_allclose(np.diff(after.black), np.diff(before.black) * scale, atol=1)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(read_planes(after) - read_planes(before)).max() <= 1.01 * step


def test_a_linearization_table_is_applied_and_then_gone(tmp_path):
    table = np.rint(BLACK + (WHITE - BLACK) * np.linspace(0, 1, 256) ** 2).astype(int)
    mosaic = np.random.default_rng(0).integers(10, 250, (96, 128)).astype(np.uint16)
    source = write_dng(tmp_path / "a.dng", mosaic, linearization=table, black=(BLACK,), white=WHITE)
    output = identity(source, tmp_path / "b.dng")
    expected = (table[mosaic] - BLACK) / (WHITE - BLACK)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(linear_samples(output)[0] - expected).max() <= step
    assert 50712 not in {tag.code for tag in kept_of_dng(read_tree(output)).mosaic}


def test_shadows_below_black_survive(tmp_path, rng):
    mosaic = np.rint(rng.normal(BLACK, 20, (96, 128))).astype(np.uint16)
    source = write_dng(tmp_path / "a.dng", mosaic, black=(BLACK,), white=WHITE)
    linear, frame = linear_samples(identity(source, tmp_path / "b.dng"))
    assert frame.min() > 0
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert linear.mean() == pytest.approx((mosaic.mean() - BLACK) / (WHITE - BLACK), abs=step)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", ["lossless", "none"])
def test_both_byte_orders_hold_the_same_pixels(tmp_path, order, compression):
    rich_dng(tmp_path / "a.dng", scene(160, 208), order)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng", compression=compression)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    before, _ = linear_samples(tmp_path / "a.dng")
    assert np.abs(linear_samples(output)[0] - before).max() <= step


def test_the_noise_profile_says_what_is_left_in_the_mosaics_own_range(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    info = read_info(identity(tmp_path / "a.dng", tmp_path / "b.dng"))
    np.testing.assert_allclose(info.noise_profile.shot, NOISE.shot, rtol=1e-6)
    np.testing.assert_allclose(info.noise_profile.read, NOISE.read, rtol=1e-6)


def test_the_noise_profile_is_in_the_range_that_is_left_above_blacks_that_differ(tmp_path):
    """Samples of planes whose black lies deeper are larger in the file's own numbers."""
    black = (100, 512, 512, 900)
    source = write_dng(
        tmp_path / "a.dng", scene(64, 80), black=black, black_repeat=(2, 2), white=WHITE,
    )  # fmt: skip
    info = read_info(source)
    after = read_info(identity(source, tmp_path / "b.dng"))
    # The same noise in DN of the source, whoever says it: variance at a sample of 0.3.
    for plane in range(4):
        scale = {i: i.white - i.black[plane] for i in (info, after)}
        step = (OUTPUT_WHITE - OUTPUT_BLACK) / (WHITE - max(black))
        before = (NOISE.shot[plane] * 0.3 + NOISE.read[plane]) * (scale[info] * step) ** 2
        model = after.noise_profile
        signal = 0.3 * scale[info] * step / scale[after]
        said = (model.shot[plane] * signal + model.read[plane]) * scale[after] ** 2
        assert said == pytest.approx(before, rel=0.01)


# --- development ----------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_libraw_develops_the_result_like_the_source_in_all_orientations(tmp_path, orientation):
    rich_dng(tmp_path / "a.dng", scene(160, 264), orientation=orientation)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    assert_alike(rendered(output), rendered(tmp_path / "a.dng"))
    info = read_info(output)
    assert info.orientation == orientation
    planes = read_planes(info)
    linear = develop(info, planes, linear=True)
    assert_alike(linear, rendered(output, demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT))


@pytest.mark.parametrize("phase", PHASES)
def test_libraw_develops_all_phases_with_odd_areas_like_the_source(tmp_path, phase):
    source = write_dng(
        tmp_path / "a.dng", scene(161, 221), phase=phase, active_area=(7, 5, 160, 218),
        black=(520, 512, 500, 530), black_repeat=(2, 2), white=WHITE,
    )  # fmt: skip
    output = identity(source, tmp_path / "b.dng")
    # LibRaw doesn't move a 2x2 black pattern with an odd area, in neither of them: 0.2 %.
    assert_alike(rendered(output), rendered(source), dark=0.1)


def test_libraw_develops_real_results_like_their_sources(real):
    source, output = real
    assert_alike(rendered(output), rendered(source), dark=0.02)


# --- tags -----------------------------------------------------------------------------


def tags_of(ifd, skip=frozenset()):
    """Code -> type, count and content."""
    (listed,) = contents([ifd])
    return {code: rest for code, *rest in listed if code not in skip}


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_tag_is_kept_but_what_denoising_changes(tmp_path, order):
    main, raw, mask = rich_dng(tmp_path / "a.dng", scene(160, 208), order)
    tree = read_tree(identity(tmp_path / "a.dng", tmp_path / "b.dng"), lambda ifd: True)
    assert tree.order == order
    (top,) = tree.ifds
    nested = {tag.code: tag.data.ifds for tag in top if isinstance(tag.data, Ifds)}
    skip = CHANGED | {34665}
    assert tags_of(top, skip) == tags_of(main, skip)
    (exif,) = (tag.data.ifds[0] for tag in main if tag.code == 34665)
    assert tags_of(nested[34665][0], FILE) == tags_of(exif, FILE)
    new_raw, _, new_mask = nested[330]
    skip = CHANGED | {51008}
    assert tags_of(new_raw, skip) == tags_of(raw, skip)
    assert tags_of(new_mask) == tags_of(mask)
    assert not (IDENTITY | {50966}) & {tag.code for tag in top}


def test_every_tag_of_real_files_is_kept_but_what_denoising_changes(real):
    before, after = (_flat(read_tree(path).ifds) for path in real)
    assert before <= after
    assert {code for code, *_ in after - before} <= NEW


def _flat(ifds):
    """(code, type, count, bytes) of all tags that don't change, whatever directory has them."""
    tags = (tag for tag in _all_tags(ifds) if not isinstance(tag.data, Ifds))
    skip = CHANGED | {530, 531, 532}  # of the preview
    return {(tag.code, tag.kind, tag.count, tag.data) for tag in tags if tag.code not in skip}


def test_exifread_finds_the_exposure_where_it_was(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    with output.open("rb") as file:
        exif = {name: str(value) for name, value in exifread.process_file(file).items()}
    assert exif["EXIF ExposureTime"] == "1/125"
    assert exif["EXIF ISOSpeedRatings"] == "3200"
    assert exif["EXIF LensModel"] == "Lens 50mm f/1.8"
    assert exif["Image Software"].startswith("kpn ")
    assert exif["Image DateTime"] == "2025:06:07 08:09:10"
    assert exif["EXIF OffsetTime"] == "+02:00"
    assert exif["EXIF DateTimeOriginal"] == "2024:01:02 03:04:05"
    assert "EXIF SubSecTime" not in exif
    assert exif["GPS GPSLatitude"] == "[48, 51, 59/2]"


def dated_dng(path: Path, main: dict[int, str], exif: dict[int, str] | None) -> Path:
    """Write a DNG that has these texts of time in IFD 0 and Exif."""
    texts = [(code, 2, 0, text, True) for code, text in main.items()]
    entries = exif and {code: (2, text) for code, text in exif.items()}
    return write_dng(path, scene(64, 80), black=(BLACK,), white=WHITE, exif=entries, extra=texts)


@pytest.mark.parametrize(
    ("main", "exif", "expected"),
    [
        ({306: "2024:01:02 03:04:05"}, None, {"DateTimeOriginal": "2024:01:02 03:04:05"}),
        (
            {306: "2024:01:02 03:04:05"},
            {36867: "0000:00:00 00:00:00", 36880: "+09:00", 37520: "77", 36864: "0221"},
            {"DateTimeOriginal": "2024:01:02 03:04:05", "SubSecTimeOriginal": "770000",
             "OffsetTimeOriginal": "+09:00"},
        ),
        (
            {306: "2025:01:02 03:04:05"},
            {36868: "2024:01:02 03:04:05", 36880: "+09:00", 36882: "-03:00"},
            {"DateTimeOriginal": "2024:01:02 03:04:05", "DateTimeDigitized": "2024:01:02 03:04:05",
             "OffsetTimeOriginal": "-03:00", "OffsetTimeDigitized": "-03:00"},
        ),
        (
            {306: "2025:01:02 03:04:05"},
            {36867: "2024:01:02 03:04:05", 36880: "+09:00"},
            {"DateTimeOriginal": "2024:01:02 03:04:05"},
        ),
        ({306: "2025:01:02 03:04:05", 36867: "2024:01:02 03:04:05"}, None, {}),
    ],
)  # fmt: skip
def test_the_time_of_the_exposure_survives_that_of_modification(tmp_path, main, exif, expected):
    source = dated_dng(tmp_path / "a.dng", main, exif)
    output = identity(source, tmp_path / "b.dng")
    assert read_info(output).captured == read_info(source).captured
    with output.open("rb") as file:
        said = {name: str(value) for name, value in exifread.process_file(file).items()}
    assert said["Image DateTime"] == "2025:06:07 08:09:10"
    times = {"DateTimeOriginal", "DateTimeDigitized", "SubSecTimeOriginal", "OffsetTimeOriginal",
             "OffsetTimeDigitized"}  # fmt: skip
    assert {name: said[f"EXIF {name}"] for name in times if f"EXIF {name}" in said} == expected
    if exif:
        assert said["EXIF ExifVersion"] == "0231"  # the first with a zone


def test_the_maker_note_stays_at_its_place_since_it_may_hold_offsets(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    assert (tmp_path / "a.dng").read_bytes()[NOTE_AT:].startswith(MAKER_NOTE)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    assert output.read_bytes()[NOTE_AT:].startswith(MAKER_NOTE)


def test_private_data_stay_at_their_place_too(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    places = [
        next(tag.at for tag in read_tree(path).ifds[0] if tag.code == 50740)
        for path in (tmp_path / "a.dng", output)
    ]
    assert places[0] == places[1] > 0


def test_versions_are_those_of_the_content(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    new, old = tmp_path / "b.dng", tmp_path / "c.dng"
    tags = {tag.code: tag.data for tag in read_tree(identity(tmp_path / "a.dng", new)).ifds[0]}
    assert (tags[50706], tags[50707]) == (bytes((1, 4, 0, 0)), bytes((1, 3, 0, 0)))
    write_dng(old, scene(64, 80), black=(BLACK,), white=WHITE)
    data = old.read_bytes()
    old.write_bytes(data.replace(bytes((0x12, 0xC6, 1, 0, 4, 0, 0, 0, 1, 4)),
                                 bytes((0x12, 0xC6, 1, 0, 4, 0, 0, 0, 1, 0))))  # fmt: skip
    tags = {tag.code: tag.data for tag in read_tree(identity(old, new)).ifds[0]}
    assert (tags[50706], tags[50707]) == (bytes((1, 3, 0, 0)), bytes((1, 1, 0, 0)))
    assert tags[50827] == b"c.dng\0"


def test_the_same_input_gives_the_same_bytes(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    first, second = (identity(tmp_path / "a.dng", tmp_path / name) for name in ("b", "c"))
    assert first.read_bytes() == second.read_bytes()


def test_a_source_that_went_away_is_named_and_leaves_no_file(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    info = read_info(tmp_path / "a.dng")
    planes, tree = read_planes(info), read_tree(info.path)
    (tmp_path / "a.dng").unlink()
    with pytest.raises(KpnError, match=r"a\.dng: cannot be read"):
        read_tree(info.path)
    with pytest.raises(KpnError, match=r"a\.dng: "):
        write_result(tmp_path / "b.dng", info, tree, planes, GREY)
    assert list(tmp_path.iterdir()) == []


# --- opcodes --------------------------------------------------------------------------


def test_opcodes_that_calculate_with_the_files_numbers_go_those_of_places_stay(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    tree = read_tree(identity(tmp_path / "a.dng", tmp_path / "b.dng"))
    tags = {tag.code: tag.data for tag in kept_of_dng(tree).mosaic}
    assert tags[51008] == opcode_list(opcode(5))
    assert tags[51009] == opcode_list(opcode(9))
    assert tags[51022] == opcode_list(opcode(1))


@given(st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=30)), max_size=6))
def test_the_list_that_is_left_holds_the_same_opcodes_in_the_same_order(listed):
    kept = [opcode(number, data) for number, data in listed if number in (1, 2, 5, 6, 14)]
    before = opcode_list(*(opcode(number, data) for number, data in listed))
    assert dng_opcodes.without_levels(before) == (opcode_list(*kept) if kept else b"")


@given(st.binary(max_size=200))
def test_a_damaged_list_is_dropped_or_cut_but_never_trouble(data):
    result = dng_opcodes.without_levels(data)
    assert len(result) <= len(data)


# --- pictures -------------------------------------------------------------------------


def test_previews_are_of_the_result_in_the_crop_and_not_rotated(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(166, 218), orientation=6)
    info = read_info(tmp_path / "a.dng")
    planes = np.broadcast_to(
        np.array((0.1, 0.2, 0.2, 0.125), np.float32)[:, None, None], (4, 81, 106)
    )
    output = tmp_path / "b.dng"
    tree = read_tree(info.path, is_kept_whole)
    write_result(output, info, tree, planes, preview(info, planes))
    with tifffile.TiffFile(output) as file:
        top = file.pages[0]
        raw, shown = top.pages[0], top.pages[1]
        thumbnail, picture = top.asarray(), shown.asarray()
        tags = {tag.code: tag.value for tag in shown.tags}
    assert raw.photometric == 32803
    assert (tags[254], tags[259], tags[262], tags[50970]) == (1, 7, 6, 2)
    # 190 x 152 of the visible 210 x 160, as wide as the sensor, not as the upright photo.
    assert picture.shape == (152, 190, 3)
    assert thumbnail.shape == (152, 190, 3)
    grey = 255 * (1.055 * 0.2 ** (1 / 2.4) - 0.055)
    assert np.abs(picture.astype(float) - grey).max() < 3
    assert np.abs(thumbnail.astype(float) - grey).max() < 3


@pytest.mark.parametrize("area", [(), (6,), (6, 8), (6, 8, 166, 218)])
def test_the_crop_counts_from_an_active_area_that_is_whole(area):
    ifd = (fields.integer_tag(50719, 10, 4), fields.integer_tag(50720, 20, 16))
    if area:
        ifd += (fields.integer_tag(50829, *area),)
    info = SimpleNamespace(origin=(6, 8) if len(area) == 4 else (0, 0), height=160, width=210)
    picture = np.arange(160 * 210 * 3).reshape(160, 210, 3)
    np.testing.assert_array_equal(_cropped(picture, ifd, info), picture[4:20, 10:30])


def test_a_thumbnail_is_small_and_the_preview_large_enough_to_judge_by(tmp_path):
    source = write_dng(tmp_path / "a.dng", scene(1500, 3000), black=(BLACK,), white=WHITE)
    output = identity(source, tmp_path / "b.dng")
    with tifffile.TiffFile(output) as file:
        assert file.pages[0].shape == (128, 256, 3)
        assert file.pages[0].pages[1].shape == (750, 1500, 3)
    with rawpy.imread(str(output)) as raw:
        shown = Image.open(io.BytesIO(raw.extract_thumb().data))
    assert shown.size == (1500, 750)


# --- other raw formats ----------------------------------------------------------------


def test_a_nef_becomes_a_dng_with_all_that_is_known(tmp_path):
    source = nef(tmp_path / "a.nef", scene(160, 264))
    output = identity(source, tmp_path / "b.dng")
    before, after = read_info(source), read_info(output)
    for name in ("make", "model", "phase", "height", "width", "iso", "exposure_time", "f_number",
                 "focal_length", "captured", "orientation"):  # fmt: skip
        assert getattr(after, name) == getattr(before, name), name
    np.testing.assert_allclose(after.color_matrix, before.color_matrix, atol=1e-6)
    np.testing.assert_allclose(after.white_balance, before.white_balance, rtol=1e-5)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(read_planes(after) - read_planes(before)).max() <= step
    with output.open("rb") as file:
        exif = {name: str(value) for name, value in exifread.process_file(file).items()}
    assert exif["EXIF LensModel"] == "Lens 50mm f/1.8"
    assert exif["Image Artist"] == "An artist"
    assert exif["GPS GPSLatitude"] == "[48, 51, 59/2]"
    assert output.read_bytes()[NOTE_AT:].startswith(MAKER_NOTE)
    # Of daylight, and up to where LibRaw says the D750 is linear, as kpn has them.
    told = {"user_wb": [*before.white_balance, 1.0], "use_camera_wb": False}
    reach = round(before.white - before.black[0])
    assert_alike(rendered(output), rendered(source, user_sat=reach, **told))


def test_a_dng_that_says_no_time_of_modification_says_none_of_its_zone(tmp_path):
    zone, fraction = fields.ascii_tag(36880, "+09:00"), fields.ascii_tag(37520, "77")
    timeless = fields.ascii_tag(36867, "0000:00:00 00:00:00")
    source = nef(tmp_path / "a.nef", scene(160, 264), zone, fraction, timeless)
    output = identity(source, tmp_path / "b.dng", modified=None)
    with output.open("rb") as file:
        said = exifread.process_file(file)
    assert "EXIF ISOSpeedRatings" in said
    assert not {"Image DateTime", "EXIF OffsetTime", "EXIF SubSecTime"} & set(said)
    assert read_info(output).captured is None


def canon_boxes(*ifds, order: str = "<") -> bytes:
    """The beginning of a CR3, as far as its tags go: a TIFF tree in each box."""
    boxes = b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"
    for name, ifd in zip((b"CMT1", b"CMT2", b"CMT4"), ifds, strict=True):
        tree = writer.encode([ifd], order)
        boxes += (8 + len(tree)).to_bytes(4, "big") + name + tree
    return boxes


@pytest.mark.parametrize("order", ["<", ">"])
def test_place_and_exposure_in_the_boxes_of_a_cr3_are_kept(tmp_path, order):
    main = (
        fields.ascii_tag(271, "Canon"),
        fields.ascii_tag(272, "EOS R5"),
        fields.ascii_tag(315, "me"),
    )
    exif = (fields.rational_tag(33434, 1 / 125), fields.integer_tag(34855, 3200))
    gps = (fields.byte_tag(0, bytes((2, 3, 0, 0))), fields.rational_tag(2, 48, 51, 29.5))
    path = tmp_path / "a.cr3"
    path.write_bytes(canon_boxes(main, exif, gps, order=order))
    kept = kept_of_any_raw(read_tree(path))
    assert [[tag.code for tag in ifd] for ifd in kept] == [[315], [33434, 34855], [0, 2]]
    said = read_metadata(path)
    assert said.text(Tag.MAKE) == "Canon"
    assert said.numbers(Tag.ISO) == (3200,)


def test_make_and_orientation_in_the_block_of_an_mrw_are_found(tmp_path):
    main = (
        fields.ascii_tag(271, "Minolta"),
        fields.ascii_tag(272, "A1"),
        fields.integer_tag(274, 6),
    )
    tree = writer.encode([main], ">")
    sizes = b"\0PRD" + (24).to_bytes(4, "big") + bytes(24)
    block = sizes + b"\0TTW" + len(tree).to_bytes(4, "big") + tree
    path = tmp_path / "a.mrw"
    path.write_bytes(b"\0MRM" + len(block).to_bytes(4, "big") + block + bytes(100))
    said = read_metadata(path)
    assert (said.text(Tag.MAKE), said.text(Tag.MODEL)) == ("Minolta", "A1")
    assert said.numbers(Tag.ORIENTATION) == (6,)


# --- damaged trees --------------------------------------------------------------------


def test_damaged_trees_are_read_within_bounds_and_what_is_read_can_be_written(tmp_path, rng):
    rich_dng(tmp_path / "a.dng", scene(32, 48), ">")
    whole = np.frombuffer((tmp_path / "a.dng").read_bytes(), np.uint8)
    for _ in range(200):
        data = whole.copy()
        # Mostly among the directories, which come first.
        places = rng.integers(0, rng.choice([200, 1500, len(data)]), rng.integers(1, 12))
        data[places] = rng.choice([0, 1, 2, 0x7F, 0xFF, *rng.integers(0, 256, 3)], len(places))
        _read_and_write(tmp_path / "b.dng", data[: rng.integers(8, len(data))].tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_damaged_source_is_refused_or_written_and_read_again(tmp_path, rng, order):
    rich_dng(tmp_path / "a.dng", scene(60, 80), order)
    whole = np.frombuffer((tmp_path / "a.dng").read_bytes(), np.uint8)
    written = 0
    for _ in range(25):
        data = whole.copy()
        data[rng.integers(8, rng.choice([700, 1700, 3000]), 3)] = rng.choice([0, 1, 255], 3)
        (tmp_path / "b.dng").write_bytes(data.tobytes())
        try:
            info = read_info(tmp_path / "b.dng")
            planes = read_planes(info)
        except KpnError:
            continue
        tree = read_tree(info.path, is_kept_whole)
        write_result(tmp_path / "c.dng", info, tree, planes, GREY)
        assert read_planes(read_info(tmp_path / "c.dng")).shape == planes.shape
        written += 1
    assert written > 8


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*"]))
def test_noise_behind_a_header_is_read_within_bounds(tmp_path_factory, noise, header):
    path = tmp_path_factory.getbasetemp() / "noise.dng"
    _read_and_write(path, header + noise)


def _read_and_write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    tree = read_tree(path, lambda ifd: True)
    if tree is None:
        return
    found = list(_all_tags(tree.ifds))
    read = sum(len(part) for tag in found for part in _parts(tag))
    assert read <= 2 * len(data)  # profiles are written anew, with a header and directory
    kept_of_dng(tree)


def _parts(tag):
    if isinstance(tag.data, Pieces):
        return tag.data.pieces
    return [tag.data] if isinstance(tag.data, bytes) and tag.count > 4 else []


def _all_tags(ifds):
    for ifd in ifds:
        for tag in ifd:
            yield tag
            if isinstance(tag.data, Ifds):
                yield from _all_tags(tag.data.ifds)


# --- other programs -------------------------------------------------------------------


def run(*command, limit: int = 120) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=limit,
        env=environment, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def exiftool_warnings(path: Path) -> set[str]:
    lines = run("exiftool", "-validate", "-warning", "-error", "-a", "-s3", path).splitlines()
    return {line for line in lines if "Warning" not in line and line != "OK"}


@needs("exiftool")
@pytest.mark.parametrize("order", ["<", ">"])
def test_exiftool_finds_nothing_new_to_warn_about(tmp_path, order):
    rich_dng(tmp_path / "a.dng", scene(160, 208), order)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    assert exiftool_warnings(output) <= exiftool_warnings(tmp_path / "a.dng")


@needs("exiftool")
def test_exiftool_finds_nothing_new_to_warn_about_in_real_files(real):
    source, output = real
    assert exiftool_warnings(output) <= exiftool_warnings(source)


@needs("exiftool")
def test_exiftool_finds_nothing_to_warn_about_in_a_dng_from_a_nef(tmp_path):
    output = identity(nef(tmp_path / "a.nef", scene(160, 264)), tmp_path / "b.dng")
    assert exiftool_warnings(output) <= exiftool_warnings(tmp_path / "a.nef")


#: Every phase, orientations, odd areas and crops, black levels, a table.
MATRIX = {
    **{
        f"{phase}-{name}": {"phase": phase, "active_area": area, "black": (BLACK,)}
        for phase in PHASES
        for name, area in {"whole": None, "odd": (7, 5, 271, 397)}.items()
    },
    "blacks": {"black": (520, 512, 500, 530), "black_repeat": (2, 2)},
    "table": {
        "linearization": np.rint(BLACK + (WHITE - BLACK) * np.linspace(0, 1, 256) ** 2).astype(int),
        "black": (BLACK,),
    },
    **{f"turned-{n}": {} for n in (2, 3, 5, 6, 8)},
    "synth": {},
}


def matrix(folder: Path) -> Path:
    """Write sources and identities of all cases, `NAME-a.dng` and `NAME-b.dng`."""
    folder.mkdir()
    for name, how in MATRIX.items():
        source = folder / f"{name}-a.dng"
        mosaic = scene(278, 406)
        if name.startswith("turned"):
            rich_dng(source, mosaic, orientation=int(name[-1]))
        elif name == "synth":
            planes = np.stack([(mosaic[i::2, j::2] - BLACK) / (WHITE - BLACK)
                               for i, j in ((0, 1), (0, 0), (1, 1), (1, 0))])  # fmt: skip
            write_frames(folder, planes[None], NOISE, Camera(), NOW, "synth")
            (folder / "IMG_0000.dng").rename(source)
        else:
            if "linearization" in how:
                mosaic = (255 * ((mosaic - BLACK) / (WHITE - BLACK)).clip(0, 1) ** 0.5).astype("u2")
            write_dng(source, mosaic, white=WHITE, **how)
        identity(source, folder / f"{name}-b.dng", compression="lossless")
    return folder


def assert_all_alike(folder: Path) -> None:
    for name in MATRIX:
        ours, theirs = (tifffile.imread(folder / f"{name}-{which}.tif") for which in "ba")
        try:
            assert_alike(ours, theirs, dark=0.02)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


@needs("darktable-cli")
def test_darktable_develops_results_like_their_sources(tmp_path):
    folder = matrix(tmp_path / "all")
    run("darktable-cli", folder, folder, "--out-ext", ".tif", "--icc-type", "LIN_REC709",
        "--core", "--configdir", tmp_path / "config", "--library", ":memory:",
        "--disable-opencl", "--conf", "plugins/imageio/format/tiff/bpp=16", limit=600)  # fmt: skip
    assert_all_alike(folder)


#: Without what depends on the numbers' size: its balance before demosaicing, and demosaicing
#: that adapts to edges.
PROFILE = """[Version]
AppVersion=5.9
Version=349
[RAW Bayer]
Method=fast
[RAW Preprocess WB]
Mode=0
"""


@needs("rawtherapee-cli")
@pytest.mark.parametrize("profile", [PROFILE, PROFILE.partition("[RAW")[0]])
def test_rawtherapee_develops_results_like_their_sources(tmp_path, profile):
    folder = matrix(tmp_path / "all")
    (tmp_path / "plain.pp3").write_text(profile)
    run("rawtherapee-cli", "-Y", "-b16", "-t", "-p", tmp_path / "plain.pp3",
        "-o", folder, "-c", *sorted(folder.glob("*.dng")), limit=600)  # fmt: skip
    assert_all_alike(folder)
