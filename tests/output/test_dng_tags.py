"""DNGs that we write say what we mean, to readers that are not ours."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import exifread
import numpy as np
import pytest
import rawpy
import tifffile

from kpn_cli.errors import KpnError
from kpn_cli.image.bayer import PHASES
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.output.dng_levels import OUTPUT_BLACK, OUTPUT_WHITE, encode_planes
from kpn_cli.output.dng_tags import DngTags, tags_of
from kpn_cli.output.dng_writer import write_cfa_dng

FULL = DngTags(
    phase="GBRG",
    black=(60, 61, 62, 63),
    white=1023,
    make="Raspberry Pi",
    model="imx296",
    color_matrix=((0.5, -0.1, 0.02), (-0.3, 1.2, 0.1), (0.01, 0.2, 0.6)),
    as_shot_neutral=(0.5, 1.0, 0.625),
    noise=NoiseModel((1e-3, 2e-3, 4e-3, 5e-3), (1e-6, 2e-6, 4e-6, 5e-6)),
    iso=400,
    exposure_time=1 / 60,
    f_number=2.8,
    focal_length=6,
    captured=datetime(2024, 2, 29, 23, 59, 58, 123456),
    orientation=6,
    original_raw_file_name="é.dng",
)


def mosaic_of(height: int, width: int, white: int = 1023) -> np.ndarray:
    return np.random.default_rng(0).integers(0, white + 1, (height, width), dtype=np.uint16)


def tags_in(path: Path) -> dict:
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags.values()}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("size", [(24, 32), (25, 33)])
def test_libraw_reads_pixels_phase_levels_and_white_balance(tmp_path, phase, size):
    mosaic = mosaic_of(*size)
    tags = DngTags(phase, (60, 61, 62, 63), 1023, as_shot_neutral=(0.5, 1, 0.625))
    write_cfa_dng(tmp_path / "a.dng", mosaic, tags)
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        np.testing.assert_array_equal(raw.raw_image_visible, mosaic)
        colours = raw.raw_pattern
        assert "".join("RGBG"[colour] for colour in colours.ravel()) == phase
        # LibRaw's order is R, G of the red rows, B, G of the blue rows.
        assert raw.black_level_per_channel == [60, 61, 63, 62]
        assert raw.white_level == 1023
        red, green, blue, _ = raw.camera_whitebalance
        assert (red / green, blue / green) == pytest.approx((2, 1.6))


def test_tifffile_reads_pixels_and_typed_tags(tmp_path):
    mosaic = mosaic_of(25, 33)
    write_cfa_dng(tmp_path / "a.dng", mosaic, FULL)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.dng"), mosaic)
    tags = tags_in(tmp_path / "a.dng")
    assert tags[33422] == bytes((1, 2, 0, 1))  # CFAPattern: G B / R G
    assert tags[50714] == (62, 63, 60, 61)  # BlackLevel, as the phase lies
    assert tags[50717] == 1023
    assert tags[50778] == 21
    assert tags[51041] == pytest.approx((1e-3, 1e-6, 3e-3, 3e-6, 5e-3, 5e-6))
    matrix = np.reshape(tags[50721], (9, 2))
    expected = np.ravel(FULL.color_matrix)
    np.testing.assert_allclose(matrix[:, 0] / matrix[:, 1], expected, atol=1e-6)
    assert tags[50708] == "Raspberry Pi imx296"
    assert tags[50827] == "é.dng\0".encode()


def test_exifread_finds_the_exposure_in_the_exif_ifd(tmp_path):
    write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), FULL)
    with (tmp_path / "a.dng").open("rb") as stream:
        exif = {name: str(value) for name, value in exifread.process_file(stream).items()}
    assert exif["Image Make"] == "Raspberry Pi"
    assert exif["Image Model"] == "imx296"
    assert exif["Image Orientation"] == "Rotated 90 CW"
    assert exif["Image DateTime"] == "2024:02:29 23:59:58"
    assert exif["EXIF DateTimeOriginal"] == "2024:02:29 23:59:58"
    assert exif["EXIF SubSecTimeOriginal"] == "123456"
    assert exif["EXIF ExposureTime"] == "1/60"
    assert exif["EXIF FNumber"] == "14/5"
    assert exif["EXIF FocalLength"] == "6"
    assert exif["EXIF ISOSpeedRatings"] == "400"


def test_libraw_applies_the_orientation(tmp_path):
    write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), FULL)
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        assert raw.postprocess().shape == (32, 24, 3)


def test_libraw_reads_the_levels_of_encoded_planes(tmp_path):
    planes = np.random.default_rng(0).random((4, 12, 16), np.float32)
    mosaic, black, white = encode_planes(planes, "BGGR", 24, 32)
    write_cfa_dng(tmp_path / "a.dng", mosaic, DngTags("BGGR", (black,) * 4, white))
    with rawpy.imread(str(tmp_path / "a.dng")) as raw:
        assert raw.black_level_per_channel == [OUTPUT_BLACK] * 4
        assert raw.white_level == OUTPUT_WHITE


def test_fractional_black_levels_are_kept(tmp_path):
    tags = DngTags("RGGB", (60.25, 60.5, 61, 62), 1023)
    write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), tags)
    assert tags_in(tmp_path / "a.dng")[50714] == (241, 4, 121, 2, 61, 1, 62, 1)


def test_iso_above_16_bits_is_kept(tmp_path):
    write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), DngTags("RGGB", (0,) * 4, 1, iso=102400))
    exif = tags_in(tmp_path / "a.dng")[34665]
    assert exif["ISOSpeedRatings"] == 65535
    assert exif["ISOSpeed"] == 102400


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_exposure_is_left_out(tmp_path, value):
    tags = DngTags("RGGB", (0,) * 4, 1, iso=value, exposure_time=value, f_number=value)
    write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), tags)
    assert list(tags_in(tmp_path / "a.dng")[34665]) == ["ExifVersion"]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for name in ("a.dng", "b.dng"):
        write_cfa_dng(tmp_path / name, mosaic_of(25, 33), FULL)
    assert (tmp_path / "a.dng").read_bytes() == (tmp_path / "b.dng").read_bytes()


def test_a_view_of_an_array_is_written_correctly(tmp_path):
    view = mosaic_of(60, 70)[3:51:2, 2:66:2][:, ::-1]
    write_cfa_dng(tmp_path / "a.dng", view, DngTags("RGGB", (0,) * 4, 1023))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.dng"), view)


@pytest.mark.parametrize(
    ("make", "model", "unique"),
    [
        ("Canon", "Canon EOS 6D", "Canon EOS 6D"),
        ("NIKON CORPORATION", "NIKON D750", "Nikon D750"),
        ("Google", "Pixel 4", "Google Pixel 4"),
        ("", "", "kpn"),
    ],
)
def test_the_camera_model_names_the_make_once(tmp_path, make, model, unique):
    tags = DngTags("RGGB", (0,) * 4, 1023, make=make, model=model)
    write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), tags)
    assert tags_in(tmp_path / "a.dng")[50708] == unique


def test_unknown_values_have_no_tag(tmp_path):
    write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), DngTags("RGGB", (0,) * 4, 1023))
    tags = tags_in(tmp_path / "a.dng")
    assert not {306, 50827, 51041} & tags.keys()
    assert list(tags[34665]) == ["ExifVersion"]


@pytest.mark.parametrize(
    ("black", "white"), [((60, 60, 60, 70), 65), ((-1, 0, 0, 0), 65), ((0,) * 4, 70000)]
)
def test_invalid_levels_are_refused(tmp_path, black, white):
    with pytest.raises(KpnError, match=r"a\.dng: black levels"):
        write_cfa_dng(tmp_path / "a.dng", mosaic_of(24, 32), DngTags("RGGB", black, white))


@pytest.mark.parametrize(
    "mosaic", [np.zeros((24, 32), np.float32), np.zeros((1, 9), np.uint16), np.zeros(9, np.uint16)]
)
def test_arrays_that_are_no_mosaic_are_refused(tmp_path, mosaic):
    with pytest.raises(KpnError, match="a mosaic is"):
        write_cfa_dng(tmp_path / "a.dng", mosaic, DngTags("RGGB", (0,) * 4, 1023))


def test_tags_of_a_frame_are_kept_except_levels_and_noise():
    names = ("make", "model", "color_matrix", "iso", "exposure_time", "f_number")
    same = {name: getattr(FULL, name) for name in (*names, "focal_length", "captured")}
    info = SimpleNamespace(
        path=Path("folder/é.dng"),
        phase="GBRG",
        orientation=6,
        white_balance=(2.0, 1.0, 1.6),
        black=(60.0,) * 4,
        white=1023.0,
        noise_profile=FULL.noise,
        **same,
    )
    tags = tags_of(info, black=OUTPUT_BLACK, white=OUTPUT_WHITE)
    assert tags.black == (OUTPUT_BLACK,) * 4
    assert tags.white == OUTPUT_WHITE
    assert tags.noise is None  # the frame's own is wrong for a cleaner mosaic
    assert tags.as_shot_neutral == (0.5, 1.0, 0.625)
    assert tags.original_raw_file_name == "é.dng"
    assert all(getattr(tags, name) == value for name, value in same.items())
    assert tags_of(info).black == info.black
    assert tags_of(info).white == info.white
