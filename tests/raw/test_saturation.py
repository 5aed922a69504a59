"""The level at which samples saturate is seen where they pile up, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from raw_files import nef

from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.raw.saturation import saturation

BLACK, WHITE = 600.0, 16383.0


def picture(top: float = 1.5, seed: int = 0, side: int = 300) -> np.ndarray:
    """A gradient from black to `top` times white, with noise, in DN, not clipped."""
    signal = np.broadcast_to(np.linspace(0, top, side), (side, side)) * (WHITE - BLACK)
    rng = np.random.default_rng(seed)
    return BLACK + signal + rng.normal(0, 1, signal.shape) * np.sqrt(4 * signal + 100)


def recorded(values: np.ndarray, *limits: float) -> np.ndarray:
    """The picture as a sensor records it whose R, G1, G2, B clip at limits, or all at one."""
    clipped = values.copy()
    for plane, limit in enumerate(limits * (4 // len(limits))):
        part = clipped[plane // 2 :: 2, plane % 2 :: 2]
        np.minimum(part, limit, out=part)
    return np.rint(clipped).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize("limit", [13000, 15311, 16300])
def test_the_level_below_white_at_which_samples_pile_up_is_found(limit):
    assert saturation(recorded(picture(), limit), BLACK, WHITE) == limit


def test_the_colour_that_saturates_first_counts():
    """As in many Nikons, which amplify red and blue."""
    mosaic = recorded(picture(), 16383, 15780, 15782, 16383)
    assert saturation(mosaic, BLACK, WHITE) == 15780


def test_a_spread_of_the_saturated_samples_and_hot_pixels_do_not_hide_it():
    mosaic = recorded(picture(), 15000).astype(float)
    rng = np.random.default_rng(1)
    mosaic[mosaic == 15000] += rng.normal(0, 4, np.count_nonzero(mosaic == 15000))
    mosaic = np.rint(mosaic).astype(np.uint16)
    mosaic.flat[rng.integers(0, mosaic.size, 1)] = 16383
    assert saturation(mosaic, BLACK, WHITE) == pytest.approx(15000, abs=10)


@pytest.mark.parametrize(
    ("mosaic", "why"),
    [
        (recorded(picture(), WHITE), "saturates at white"),
        (recorded(picture(0.93), 65535), "nothing is clipped"),
        (recorded(picture(0), WHITE), "black"),
        (recorded(np.full((300, 300), 15000.0) + picture(0) - BLACK, WHITE), "a bright surface"),
        (recorded(picture(), 10000), "too low for any camera: a grey filter, or a test picture"),
        (np.repeat(np.arange(100, 15100, 50, dtype=np.uint16), 300).reshape(300, 300), "drawn"),
    ],
)
def test_other_pictures_show_no_saturation_below_white(mosaic, why):
    assert saturation(mosaic, BLACK, WHITE) is None, why


def test_samples_above_white_are_not_lost():
    assert saturation(recorded(picture(), 16000), BLACK, 15000.0) == 16000


def test_a_hot_pixel_above_white_does_not_hide_where_the_others_saturate():
    mosaic = recorded(picture(), 15800)
    mosaic[10, 20] = 16383
    assert saturation(mosaic, BLACK, 15000.0) == 15800


def test_of_samples_above_white_that_do_not_pile_up_the_largest_but_for_strays_counts():
    mosaic = recorded(picture(0.93), 65535)
    mosaic[2, 2] = 65000
    largest = max(np.sort(mosaic[y::2, x::2].ravel())[-4] for y in (0, 1) for x in (0, 1))
    assert saturation(mosaic, BLACK, 12000.0) == largest < 16383
    assert saturation(recorded(picture(0.6), 65535), BLACK, WHITE) is None


def test_a_hot_pixel_above_white_is_no_level():
    mosaic = recorded(picture(0.5), 65535)
    mosaic[10, 20] = 16000
    assert saturation(mosaic, BLACK, 12000.0) is None


def lamp(side: int, level: float, noise: float = 0) -> np.ndarray:
    """A dark picture of 3 megapixels with a small bright square, and three hot pixels."""
    rng = np.random.default_rng(3)
    values = rng.normal(900, 30, (1500, 2000))
    values[700 : 700 + side, 900 : 900 + side] = level + noise * rng.normal(0, 1, (side, side))
    values[[3, 500, 901], [7, 90, 1700]] = 16383
    return np.rint(values).astype(np.uint16)


@pytest.mark.parametrize("side", [10, 12, 30, 200])
def test_a_highlight_of_any_size_shows_where_samples_saturate(side):
    assert saturation(lamp(side, 15000), BLACK, WHITE) == 15000


@pytest.mark.parametrize("step", [1, 16, 40])
@pytest.mark.parametrize("side", [10, 30, 100, 200])
def test_a_small_bright_surface_below_saturation_shows_nothing(side, step):
    """Also where compression leaves a value in each `step` only."""
    mosaic = lamp(side, 14500, 100) // step * step
    assert saturation(mosaic.astype(np.uint16), BLACK, WHITE) is None


@pytest.mark.parametrize("step", [8, 40])
def test_a_largest_value_that_is_hardly_more_frequent_than_the_next_shows_nothing(step):
    mosaic = lamp(1, 900)
    values = np.repeat(14000 + step * np.arange(12), 30)  # of each plane
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        mosaic[600 + y, x : 2 * len(values) : 2] = values
    assert saturation(mosaic, BLACK, WHITE) is None


def test_in_makers_formats_white_is_libraws_maximum_and_not_its_linear_limit(tmp_path):
    """LibRaw's limit for this camera is 61247; samples above it were clipped to white."""
    values = np.random.default_rng(0).normal(600 + 0.97 * 64935, 300, (64, 80))
    values[:, :40] = np.random.default_rng(1).normal(600 + 0.18 * 64935, 300, (64, 40))
    info = read_info(nef(tmp_path / "a.nef", np.rint(values).astype(np.uint16)))
    assert (info.white, info.saturation) == (65535, None)
    planes = read_planes(info)
    assert planes[:, :, :20].mean() == pytest.approx(0.18, abs=1e-3)
    assert planes[:, :, 20:].mean() == pytest.approx(0.97, abs=1e-3)
