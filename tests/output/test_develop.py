"""Developing a frame's own planes gives what LibRaw makes of the frame."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile
from threadpoolctl import threadpool_limits

from kpn_cli.image.bayer import PHASES, pack, unpack
from kpn_cli.image.srgb import srgb_encode
from kpn_cli.output.develop import (
    cells_around,
    develop,
    develop_bands,
    develop_part,
    developed_box,
    developed_size,
    preview,
    sensor_box,
    to_srgb,
    to_srgb8,
)
from kpn_cli.output.dng_levels import encode_planes
from kpn_cli.output.dng_tags import DngTags
from kpn_cli.output.dng_writer import write_cfa_dng
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info

RAW = Path(__file__).parents[3] / "shared" / "raw"

#: IEC 61966-2-1: the matrix of a camera that sees in linear sRGB.
XYZ_TO_SRGB = np.array(
    ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
)


def frame(path: Path) -> tuple[RawInfo, np.ndarray]:
    """What develop() reads of a RawInfo, and the planes; as far as it says, from LibRaw."""
    with rawpy.imread(str(path)) as raw:
        mosaic = raw.raw_image_visible.copy()
        phase = "".join("RGBG"[colour] for colour in raw.raw_pattern.ravel())
        red, green, blue, green2 = (float(level) for level in raw.black_level_per_channel)
        white = raw.white_level
        gains = raw.camera_whitebalance
        orientation = {0: 1, 3: 3, 5: 8, 6: 6}[raw.sizes.flip]
    info = RawInfo(
        path=path,
        make="",
        model="",
        phase=phase,
        height=mosaic.shape[0],
        width=mosaic.shape[1],
        black=(red, green, green2, blue),
        white=white,
        iso=None,
        exposure_time=None,
        f_number=None,
        focal_length=None,
        captured=None,
        orientation=orientation,
        white_balance=tuple(gain / gains[1] for gain in gains[:3]),
        color_matrix=read_info(path).color_matrix,
        noise_profile=None,
    )
    black = np.array((red, green, green2, blue), np.float32)[:, None, None]
    return info, (pack(mosaic.astype(np.float32), phase) - black) / (white - black)


def plain_info() -> RawInfo:
    """A frame of a camera that sees in linear sRGB."""
    matrix = tuple(map(tuple, XYZ_TO_SRGB.tolist()))
    return RawInfo(
        path=Path("a.dng"), make="", model="", phase="RGGB", height=64, width=80,
        black=(0.0,) * 4, white=1023.0, iso=None, exposure_time=None, f_number=None,
        focal_length=None, captured=None, orientation=1, white_balance=(2.0, 1.0, 1.6),
        color_matrix=matrix, noise_profile=None,
    )  # fmt: skip


def straight(path: Path, **options) -> np.ndarray:
    """LibRaw's development of the file as it is."""
    # One thread: DHT's threads disturb each other.
    with threadpool_limits(1, "openmp"), rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            adjust_maximum_thr=0,
            output_bps=16,
            demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT,
            **options,
        )


def blocks(rgb: np.ndarray, size: int = 64) -> np.ndarray:
    rows, columns = rgb.shape[0] // size, rgb.shape[1] // size
    cut = rgb[: rows * size, : columns * size].astype(np.float64)
    return cut.reshape(rows, size, columns, size, 3).mean(axis=(1, 3))


def assert_like_libraw(path: Path) -> None:
    info, planes = frame(path)
    linear = develop(info, planes, linear=True)
    for ours, theirs in (
        (linear, straight(path, gamma=(1, 1))),
        (to_srgb(linear), straight(path, gamma=(2.4, 12.92))),
    ):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.mean((0, 1)), theirs.mean((0, 1)), rtol=0.01, atol=20)
        np.testing.assert_allclose(blocks(ours), blocks(theirs), atol=257)  # one 8-bit step


def ramp(height: int, width: int) -> np.ndarray:
    """A smooth scene in [0.02, 0.6], a little different in each colour channel."""
    y, x = np.mgrid[:height, :width]
    return (0.02 + 0.58 * (0.5 + 0.5 * np.sin(x / 23 + y / 31))).astype(np.float32)


@pytest.mark.skipif(not RAW.is_dir(), reason="needs ../shared/raw")
@pytest.mark.parametrize(
    "name",
    [
        "single/canon-kiss-x4.dng",
        "single/blackmagic-pocket-linearization-table.dng",
        "pi-static/frame_00.dng",
    ],
)
def test_own_planes_of_real_frames_develop_like_the_file(name):
    assert_like_libraw(RAW / name)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_odd_size_and_black_per_channel_develop_like_the_file(tmp_path, phase, orientation):
    # LibRaw scales every channel by white minus the *lowest* black level, kpn by its own (as
    # DNG says): the levels are far enough apart to show up in black, but not in that range.
    black, white = np.array((260, 220, 240, 200), np.float32)[:, None, None], 16383
    planes = pack(ramp(131, 197), phase) * (white - black) + black
    mosaic = np.rint(unpack(planes, phase, 131, 197)).astype(np.uint16)
    tags = DngTags(
        phase,
        tuple(black.ravel()),
        white,
        as_shot_neutral=(0.5, 1, 0.625),
        orientation=orientation,
    )
    write_cfa_dng(tmp_path / "a.dng", mosaic, tags)
    assert_like_libraw(tmp_path / "a.dng")


@pytest.mark.parametrize(("top", "left"), [(8, 6), (7, 6), (8, 5), (7, 5)])
def test_masked_borders_stay_out_of_the_picture(tmp_path, top, left):
    height, width = 140, 205
    mosaic = np.full((height + top + 4, width + left + 2), 64, np.uint16)
    scene = np.rint(64 + (4095 - 64) * ramp(height, width)).astype(np.uint16)
    mosaic[top : top + height, left : left + width] = scene
    area = (top, left, top + height, left + width)
    tifffile.imwrite(
        tmp_path / "a.dng",
        mosaic,
        photometric=32803,
        metadata=None,
        extratags=[
            (33421, 3, 2, (2, 2)),  # CFARepeatPatternDim
            (33422, 1, 4, bytes((1, 2, 0, 1))),  # CFAPattern, from the active area's corner
            (50706, 1, 4, bytes((1, 4, 0, 0))),  # DNGVersion
            (50708, 2, 0, "kpn test"),  # UniqueCameraModel
            (50714, 3, 1, 64),  # BlackLevel
            (50717, 3, 1, 4095),  # WhiteLevel
            (50728, 5, 3, (1, 2, 1, 1, 5, 8)),  # AsShotNeutral
            (50829, 4, 4, area),  # ActiveArea
        ],
    )
    info, _ = frame(tmp_path / "a.dng")
    # LibRaw lets the visible area begin at even coordinates, a row or column further in.
    assert (info.height, info.width) == (height - top % 2, width - left % 2)
    assert_like_libraw(tmp_path / "a.dng")


@pytest.mark.parametrize("phase", PHASES)
def test_a_grey_scene_comes_out_grey_and_at_its_level(tmp_path, phase):
    gains = np.array((2.0, 1.0, 1.0, 1.6), np.float32)
    planes = np.broadcast_to((0.25 / gains)[:, None, None], (4, 33, 41)).astype(np.float32)
    mosaic, black, white = encode_planes(planes, phase, 64, 80)
    matrix = np.diag(1 / gains[[0, 1, 3]]) @ XYZ_TO_SRGB
    tags = DngTags(
        phase,
        (black,) * 4,
        white,
        color_matrix=tuple(map(tuple, matrix)),
        as_shot_neutral=(0.5, 1, 0.625),
    )
    write_cfa_dng(tmp_path / "a.dng", mosaic, tags)
    info, _ = frame(tmp_path / "a.dng")
    rgb = develop(info, planes, linear=True)
    np.testing.assert_allclose(rgb / 65535, 0.25, atol=1e-3)
    rgb = develop(info, planes, linear=False)
    np.testing.assert_allclose(rgb / 65535, srgb_encode(np.float64(0.25)), atol=1e-3)


def test_darker_planes_develop_darker_without_auto_brightness(tmp_path):
    planes = pack(ramp(64, 80), "RGGB")
    mosaic, black, white = encode_planes(planes, "RGGB", 64, 80)
    write_cfa_dng(tmp_path / "a.dng", mosaic, DngTags("RGGB", (black,) * 4, white))
    info, _ = frame(tmp_path / "a.dng")
    bright = develop(info, planes, linear=True).mean()
    dark = develop(info, 0.25 * planes, linear=True).mean()
    assert dark == pytest.approx(0.25 * bright, rel=0.01)


def test_the_same_planes_develop_the_same_however_many_threads_there_are(rng):
    clean = pack(3 * ramp(331, 275) ** 3 * np.linspace(0, 1, 331)[:, None] ** 2, "GRBG")
    planes = np.clip(clean + rng.normal(0, 0.03, clean.shape), 0, 1).astype(np.float32)
    info = replace(plain_info(), phase="GRBG", height=331, width=275)
    with threadpool_limits(8, "openmp"):
        pictures = [develop(info, planes, linear=True) for _ in range(20)]
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("half", [False, True])
def test_bands_equal_the_whole_picture_bit_for_bit(tmp_path, rng, orientation, half):
    # Noise, colours, clipped highlights and black shadows: LibRaw uses their extreme values.
    phase = PHASES[orientation % 4]
    clean = pack(3 * ramp(331, 275) ** 3 * np.linspace(0, 1, 331)[:, None] ** 2, phase)
    planes = np.clip(clean + rng.normal(0, 0.03, clean.shape), 0, 1).astype(np.float32)
    mosaic, black, white = encode_planes(planes, phase, 331, 275)
    tags = DngTags(
        phase, (black,) * 4, white, as_shot_neutral=(0.5, 1, 0.625), orientation=orientation
    )
    write_cfa_dng(tmp_path / "a.dng", mosaic, tags)
    info = read_info(tmp_path / "a.dng")
    whole = np.concatenate(list(develop_bands(info, planes, half=half)))
    if not half:
        theirs = straight(tmp_path / "a.dng", gamma=(1, 1))
        np.testing.assert_array_equal(whole, theirs)
        assert developed_size(info) == whole.shape[:2]
    parts = list(develop_bands(info, planes, half=half, band=64))
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_16_bit_srgb_is_the_curve_rounded():
    levels = np.arange(65536, dtype=np.uint16)
    np.testing.assert_allclose(to_srgb(levels), 65535 * srgb_encode(levels / 65535), atol=0.5001)


def test_8_bit_srgb_is_the_nearest_of_16_bits():
    levels = np.arange(65536, dtype=np.uint16)
    wide = to_srgb(levels).astype(np.uint32)
    np.testing.assert_array_equal(to_srgb8(levels), (wide * 255 + 32767) // 65535)


def test_the_srgb_lookup_covers_the_picture_without_a_64_bit_copy(rng):
    linear = rng.integers(0, 65536, (1500, 1024, 3), dtype=np.uint16)[:, ::-1]
    table = to_srgb(np.arange(65536, dtype=np.uint16))
    np.testing.assert_array_equal(to_srgb(linear), table[linear])
    linear = np.ascontiguousarray(linear)
    tracemalloc.start()
    to_srgb(linear)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < linear.nbytes + (12 << 20)  # in 64 bits: four times the picture, 36 MiB


# --- brighter pictures --------------------------------------------------------------


def coloured(height: int, width: int) -> np.ndarray:
    """Planes from black to white, noisy, whose colours change."""
    rng = np.random.default_rng(0)
    clean = pack(2 * ramp(height, width) ** 3 * np.linspace(0, 1, height)[:, None] ** 2, "RGGB")
    clean *= np.float32([0.5, 1, 1, 0.4])[:, None, None]
    return np.clip(clean + rng.normal(0, 0.002, clean.shape), -0.01, 0.45).astype(np.float32)


@pytest.mark.parametrize("lift", [0.5, 1.0, 4.0])
def test_dark_planes_with_a_lift_develop_like_bright_planes(lift):
    info, planes = plain_info(), coloured(64, 80)
    wanted = develop(info, planes, linear=True).astype(int)
    lifted = develop(info, planes / np.float32(2**lift), linear=True, lift=lift).astype(int)
    # Shadows as fine as there, and without the offset of a few coarse steps; rounding elsewhere.
    dark = wanted.max(-1) < 65535 / 8
    assert 0.2 < dark.mean() < 0.9
    assert np.abs(lifted - wanted)[dark].max() <= 1
    assert np.quantile(np.abs(lifted - wanted), 0.995) <= 4 * 2**lift
    np.testing.assert_allclose(lifted, wanted, rtol=0.03, atol=4 * 2**lift)  # DHT decides by little


def test_a_lift_of_0_is_no_lift():
    info, planes = plain_info(), coloured(64, 80)
    plain = list(develop_bands(info, planes, band=32))
    lifted = list(develop_bands(info, planes, band=32, lift=0.0))
    np.testing.assert_array_equal(np.concatenate(lifted), np.concatenate(plain))


def test_a_negative_lift_makes_a_darker_picture():
    info, planes = plain_info(), coloured(64, 80)
    dark = develop(info, planes, linear=True, lift=-1.0).astype(float)
    np.testing.assert_allclose(2 * dark, develop(info, planes, linear=True), atol=1)


@pytest.mark.parametrize("orientation", [1, 6])
def test_bands_of_a_lifted_picture_equal_the_whole_picture(orientation):
    info = replace(plain_info(), height=131, width=130, orientation=orientation)
    planes = coloured(131, 130)
    whole = np.concatenate(list(develop_bands(info, planes, lift=2.0)))
    parts = list(develop_bands(info, planes, lift=2.0, band=32))
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def even(colour: tuple[float, float, float], **options) -> np.ndarray:
    """The developed colour, in shares of white, of an even surface: R, G, B after the balance."""
    info = plain_info()
    info = replace(info, color_matrix=tuple(map(tuple, camera_of(info).tolist())))
    red, green, blue = np.array(colour) / info.white_balance
    planes = np.broadcast_to(np.float32([red, green, green, blue])[:, None, None], (4, 32, 40))
    return develop(info, planes, linear=True, **options)[32, 40] / 65535


def camera_of(info: RawInfo) -> np.ndarray:
    """Matrix of a camera that sees in linear sRGB, before its balance."""
    return np.diag(1 / np.array(info.white_balance)) @ XYZ_TO_SRGB


def test_a_colour_beyond_white_keeps_its_hue_and_turns_white():
    orange = np.array((0.4, 0.2, 0.05))
    np.testing.assert_allclose(even(tuple(orange)), orange, atol=2e-3)
    for lift, expected in (
        (1.0, 2 * orange),
        (2.0, (1, 0.2 + 0.6 * 0.8 / 1.4, 0.2)),  # the middle stays in its place between the others
        (4.0, (1, 0.8 + 2.4 * 0.2 / 5.6, 0.8)),
        (5.0, (1, 1, 1)),
    ):
        np.testing.assert_allclose(even(tuple(orange), lift=lift), expected, atol=0.01)


@pytest.mark.parametrize("lift", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("saturation", [None, 900.0])
def test_clipped_highlights_stay_neutral_with_a_lift(lift, saturation):
    info = replace(plain_info(), saturation=saturation)
    planes = np.full((4, 32, 40), 1 if saturation is None else 900 / 1023, np.float32)
    rgb = develop(info, planes, linear=True, lift=lift)[32, 40] / 65535
    np.testing.assert_allclose(rgb, min(planes[0, 0, 0] * 2**lift, 1), atol=2e-3)


@pytest.mark.parametrize("lift", [0.0, 2.0])
def test_planes_beyond_white_develop_like_clipped_ones(lift):
    info, planes = plain_info(), 8 * coloured(64, 80)
    assert planes.max() > 2.5
    beyond = develop(info, planes, linear=True, lift=lift)
    clipped = develop(info, np.minimum(planes, 1), linear=True, lift=lift)
    np.testing.assert_array_equal(beyond, clipped)


def test_the_preview_is_lifted_too():
    info, planes = plain_info(), coloured(64, 80)
    wanted = to_srgb8(develop(info, planes, linear=True, lift=1.5))
    np.testing.assert_array_equal(preview(info, planes, lift=1.5), wanted)


# --- parts ------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("phase", ["RGGB", "GBRG"])
def test_a_part_is_that_of_the_whole_picture(tmp_path, orientation, phase):
    rows, columns = np.indices((90, 121))
    mosaic = (5000 + 2000 * np.sin(rows / 9) + 1000 * np.cos(columns / 7 + 1)).astype(np.uint16)
    path = tmp_path / "a.dng"
    write_cfa_dng(path, mosaic, DngTags(phase, (512,) * 4, 16383, orientation=orientation))
    info = read_info(path)
    planes = pack((mosaic.astype(np.float32) - 512) / (16383 - 512), phase)
    whole = develop(info, planes, linear=True)
    rows, columns = developed_size(info)
    for box in ((0, 0, 20, 30), (31, 17, 23, 41), (rows - 21, columns - 19, 21, 19)):
        sensor = sensor_box(info, box)
        assert developed_box(info, sensor) == box
        around = cells_around(info, sensor)
        part = develop_part(info, planes[:, around[0], around[1]], sensor)
        top, left, height, width = box
        expected = whole[top : top + height, left : left + width]
        assert part.shape == expected.shape
        assert np.mean(np.abs(part.astype(int) - expected) > 64) < 0.02
