"""Levels, colour filters and colours are those of the file."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from dng_factory import COLOR_MATRIX, write_dng
from dng_mosaics import noise_mosaic, refusal

from kpn_cli.raw.reader import read_info

XTRANS = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"
QUAD = "RRGGRRGGGGBBGGBB"


@pytest.mark.parametrize(
    ("repeat", "levels", "expected"),
    [
        ((1, 1), (60.5,), (60.5, 60.5, 60.5, 60.5)),
        ((1, 2), (10, 20), (10, 20, 10, 20)),
        ((2, 1), (10, 20), (10, 10, 20, 20)),
        ((2, 2), (10, 20, 30, 40), (10, 20, 30, 40)),
        ((1, 4), (10, 20, 30, 40), (20, 30, 20, 30)),
        ((3, 1), (10, 20, 60), (30, 30, 30, 30)),
        ((4, 4), tuple(range(16)), (5, 6, 9, 10)),
    ],
)
def test_black_patterns_of_any_period_give_each_planes_mean(tmp_path, repeat, levels, expected):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=levels, black_repeat=repeat)
    assert read_info(path).black == pytest.approx(expected)


def test_black_deltas_of_rows_and_columns_are_added(tmp_path):
    rows = tuple(part for i in range(46) for part in (100 * (i % 2), 1))
    columns = tuple(part for i in range(68) for part in (8 * (i % 2), 1))
    extra = [(50715, 10, 68, columns, True), (50716, 10, 46, rows, True)]
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), black=(10,), extra=extra)
    assert read_info(path).black == (10, 18, 110, 118)


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
