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


def test_in_makers_formats_white_is_libraws_maximum_and_not_its_linear_limit(tmp_path):
    """LibRaw's limit for this camera is 61247; samples above it were clipped to white."""
    values = np.random.default_rng(0).normal(600 + 0.97 * 64935, 300, (64, 80))
    values[:, :40] = np.random.default_rng(1).normal(600 + 0.18 * 64935, 300, (64, 40))
    info = read_info(nef(tmp_path / "a.nef", np.rint(values).astype(np.uint16)))
    assert (info.white, info.saturation) == (65535, None)
    planes = read_planes(info)
    assert planes[:, :, :20].mean() == pytest.approx(0.18, abs=1e-3)
    assert planes[:, :, 20:].mean() == pytest.approx(0.97, abs=1e-3)
