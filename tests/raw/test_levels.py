"""Levels, colour filters and colours are those of the file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from dng_factory import COLOR_MATRIX, write_dng
from dng_mosaics import noise_mosaic, refusal

from kpn_cli.image.bayer import pack
from kpn_cli.raw.levels import camera_crop, pixel_aspect
from kpn_cli.raw.reader import read_info, read_mosaic, read_planes

XTRANS = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"
QUAD = "RRGGRRGGGGBBGGBB"


@pytest.mark.parametrize(
    ("repeat", "levels", "expected"),
    [
        ((1, 1), (60.5,), (60.5, 60.5, 60.5, 60.5)),
        ((1, 2), (10, 20), (10, 20, 10, 20)),
        ((2, 1), (10, 20), (10, 10, 20, 20)),
        ((2, 2), (10, 20, 30, 40), (10, 20, 30, 40)),
        ((1, 4), (10, 20, 30, 40), (30, 40, 30, 40)),
        ((3, 1), (10, 20, 60), (60, 60, 60, 60)),
        ((4, 4), tuple(range(16)), (10, 11, 14, 15)),
    ],
)
def test_black_patterns_of_any_period_give_each_planes_highest(tmp_path, repeat, levels, expected):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=levels, black_repeat=repeat)
    assert read_info(path).black == pytest.approx(expected)


def test_black_deltas_of_rows_and_columns_are_added(tmp_path):
    rows = tuple(part for i in range(46) for part in (100 * (i % 2), 1))
    columns = tuple(part for i in range(68) for part in (8 * (i % 2), 1))
    extra = [(50715, 10, 68, columns, True), (50716, 10, 46, rows, True)]
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=(10,), extra=extra)
    assert read_info(path).black == (10, 18, 110, 118)


# --- black that differs within a plane ------------------------------------------------

AREA = (3, 5, 43, 65)
HEIGHT, WIDTH = 40, 60


def with_deltas(path: Path, mosaic: np.ndarray, *, rows=(), columns=(), **options) -> Path:
    """Write a DNG with BlackLevelDeltaV and BlackLevelDeltaH; thousandths of a DN."""
    extra = []
    for tag, deltas in ((50716, rows), (50715, columns)):
        if len(deltas):
            parts = tuple(part for d in deltas for part in (round(1000 * float(d)), 1000))
            extra.append((tag, 10, len(deltas), parts, True))
    return write_dng(path, mosaic, extra=extra, **options)


def linear(mosaic: np.ndarray, black: np.ndarray, white: float) -> np.ndarray:
    """DNG 1.7.1, chapter 5, for each plane: subtract black, divide by white minus its largest."""
    largest = np.empty(black.shape)
    for y, x in np.ndindex(2, 2):
        largest[y::2, x::2] = black[y::2, x::2].max()
    return (mosaic - black) / (white - largest)


@pytest.mark.parametrize("area", [None, AREA])
@pytest.mark.parametrize("repeat", [(1, 1), (2, 2), (3, 4)])
def test_black_is_the_sum_of_all_three_tags_from_the_active_areas_origin(tmp_path, repeat, area):
    rng = np.random.default_rng(1)
    height, width = (HEIGHT, WIDTH) if area else (46, 68)
    pattern = rng.integers(50, 80, repeat)
    rows, columns = (np.round(rng.uniform(-9, 9, n), 3) for n in (height, width))
    mosaic = noise_mosaic()
    path = with_deltas(
        tmp_path / "a.dng", mosaic, rows=rows, columns=columns, active_area=area,
        black=pattern.ravel(), black_repeat=repeat,
    )  # fmt: skip
    info = read_info(path)
    tiles = (-(-height // repeat[0]), -(-width // repeat[1]))
    black = np.tile(pattern, tiles)[:height, :width] + rows[:, None] + columns
    top, left = AREA[:2] if area else (0, 0)
    expected = linear(mosaic[top : top + height, left : left + width], black, 1023)
    np.testing.assert_allclose(read_planes(info), pack(expected, info.phase), atol=1e-6)
    assert info.notes == ()


def test_a_ramp_of_column_deltas_leaves_an_even_picture(tmp_path):
    ramp = np.linspace(0, 120, 68)
    mosaic = np.rint(600 + ramp + np.random.default_rng(0).normal(0, 3, (46, 68)))
    path = with_deltas(
        tmp_path / "a.dng", mosaic.astype(np.uint16), columns=ramp, black=(500,), white=4000
    )
    by_column = read_planes(read_info(path)).mean((0, 1))
    np.testing.assert_allclose(by_column, 100 / (4000 - 620), rtol=0.03)


def test_black_that_differs_between_planes_only_leaves_samples_as_recorded(tmp_path):
    path = with_deltas(tmp_path / "a.dng", noise_mosaic(), columns=(0, 8) * 34)
    assert read_mosaic(read_info(path)).dtype == np.uint16


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": (1.0,) * 67}, "BlackLevelDeltaH has 67 values for 68 columns"),
        ({"rows": (1.0,) * 47}, "BlackLevelDeltaV has 47 values for 46 rows"),
        ({"rows": (5000.0, *(0.0,) * 45)}, "BlackLevelDeltaV has values of 1023 DN and more"),
        (
            {"rows": (0.0, 600.0) * 23, "columns": (0.0, 600.0) * 34},
            "move black by 1200 DN, and white is only 959",
        ),
        ({"columns": (900.0,) * 68}, "move black by 900 DN, and white is only 959 DN above it"),
        ({"rows": (-900.0,) * 46}, "move black by 900 DN"),
    ],
)
def test_absurd_deltas_are_ignored_with_a_line(tmp_path, options, words):
    info = read_info(with_deltas(tmp_path / "a.dng", noise_mosaic(), **options))
    assert info.black == (64,) * 4
    assert len(info.notes) == 1 and words in info.notes[0] and "ignored" in info.notes[0]


def test_deltas_that_are_not_numbers_are_ignored_with_a_line(tmp_path):
    extra = [(50715, 10, 68, (1, 0) * 68, True)]
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), extra=extra))
    assert info.black == (64,) * 4
    assert "BlackLevelDeltaH has values that are not numbers" in info.notes[0]


def test_a_black_pattern_of_another_size_than_stated_is_ignored_with_a_line(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=(10, 20, 30), black_repeat=(2, 2))
    assert "BlackLevel has 3 values, but BlackLevelRepeatDim is 2x2" in read_info(path).notes[0]


# --- colour ---------------------------------------------------------------------------


def test_colour_comes_from_the_dng(tmp_path):
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), neutral=(0.5, 1, 0.8)))
    assert info.white_balance == pytest.approx((2, 1, 1.25))
    assert np.allclose(info.color_matrix, np.reshape(COLOR_MATRIX, (3, 3)), atol=1e-3)


def test_without_colour_there_is_no_matrix_and_white_balance_is_usable(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), color_matrix=(), neutral=())
    info = read_info(path)
    assert info.color_matrix is None
    assert info.white_balance[1] == 1 and min(info.white_balance) > 0


@pytest.mark.parametrize("pattern", [(0, 1, 1, 16), (0, 1, 1, 4), (3, 4, 5, 0)])
def test_undefined_filter_colours_are_refused(tmp_path, pattern):
    tags = [(50706, 1, 4, (1, 4, 0, 0), True), (33421, 3, 2, (2, 2), True),
            (33422, 1, 4, bytes(pattern), True)]  # fmt: skip
    path = tmp_path / "a.dng"
    tifffile.imwrite(path, noise_mosaic(), photometric=32803, metadata=None, extratags=tags)
    assert "undefined colours" in refusal(path)


@pytest.mark.parametrize(
    ("side", "colours", "named"),
    [(6, XTRANS, "X-Trans"), (4, QUAD, "RRGG"), (2, "CMYG", "GMCY")],
)
def test_other_colour_filters_are_refused_by_name(tmp_path, side, colours, named):
    pattern = bytes("RGBCMY".index(colour) for colour in colours)
    tags = [(50706, 1, 4, (1, 4, 0, 0), True), (33421, 3, 2, (side, side), True),
            (33422, 1, len(pattern), pattern, True)]  # fmt: skip
    path = tmp_path / "a.dng"
    tifffile.imwrite(path, noise_mosaic(), photometric=32803, metadata=None, extratags=tags)
    assert named in refusal(path)


def test_a_white_level_below_black_is_refused(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=(64,), white=50)
    assert "white level 50" in refusal(path)


def test_the_white_level_of_a_dng_is_its_own_even_if_libraw_knows_the_camera(tmp_path):
    # From the name alone, LibRaw derives that a D750 is linear up to 61247 of 65535.
    camera = [(271, 2, 0, "NIKON CORPORATION", True), (272, 2, 0, "NIKON D750", True)]
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), white=65535, extra=camera)
    assert read_info(path).white == 65535


# --- crop and shape of pixels -----------------------------------------------------------


def sizes(**changes) -> SimpleNamespace:
    usual = {"crop_top_margin": 0, "crop_left_margin": 0, "crop_height": 0, "crop_width": 0}
    return SimpleNamespace(**(usual | {"pixel_aspect": 1.0} | changes))


def crop_of(top: int, left: int, height: int, width: int):
    found = {"crop_top_margin": top, "crop_left_margin": left}
    found |= {"crop_height": height, "crop_width": width}
    return camera_crop(sizes(**found), (8, 4, 1550, 2088))


def test_the_cameras_crop_is_counted_from_the_visible_area():
    assert crop_of(16, 24, 1535, 2048) == ((8, 20, 1535, 2048), ())


def test_a_camera_without_a_crop_has_none():
    assert crop_of(0, 0, 0, 0) == (None, ())


@pytest.mark.parametrize(
    "crop", [(0, 24, 1535, 2048), (16, 24, 1535, 3000), (16, 24, 65535, 65535), (16, 24, 10, 12)]
)
def test_a_crop_that_does_not_fit_is_ignored_with_a_line(crop):
    found, notes = crop_of(*crop)
    assert found is None
    assert [f"{crop[3]}x{crop[2]} pixels" in note for note in notes] == [True]


@pytest.mark.parametrize(("aspect", "used"), [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (1.0009, 1.0)])
def test_the_shape_of_pixels_is_as_libraw_says_unless_it_is_nearly_square(aspect, used):
    assert pixel_aspect(sizes(pixel_aspect=aspect)) == (used, ())


@pytest.mark.parametrize("aspect", [0.0, -1.0, 99.0, float("nan"), float("inf")])
def test_an_absurd_shape_of_pixels_is_ignored_with_a_line(aspect):
    used, notes = pixel_aspect(sizes(pixel_aspect=aspect))
    assert (used, len(notes)) == (1.0, 1)
