"""The evaluation protocol: figures that other people's figures are compared with."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import scene

from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.protocol import (
    BEYOND_GAINS,
    GAINS,
    draw_camera_shifts,
    noise_of_gain,
    photograph,
    to_raw_signal,
)

# --- bursts -----------------------------------------------------------------


def test_the_gains_have_the_documented_coefficients():
    assert GAINS == {
        0: (6.7e-5, 2.7e-7),
        1: (2.704e-3, 4.672e-5),
        2: (6.219e-3, 2.472e-4),
        4: (1.430e-2, 1.3075e-3),
        8: (3.290e-2, 6.917e-3),
    }
    assert noise_of_gain(4).shot == (1.430e-2,) * 4
    assert noise_of_gain(4).read == (1.3075e-3,) * 4


def test_the_highest_gain_continues_the_series_beyond_the_training_range():
    steps = [np.divide(GAINS[2 * gain], GAINS[gain]) for gain in (1, 2, 4)]
    (beyond,) = BEYOND_GAINS.values()
    np.testing.assert_allclose(np.divide(beyond, GAINS[8]), np.mean(steps, 0), rtol=1e-3)
    highest = 10 ** SynthConfig().shot_range[1]
    assert GAINS[8][0] < highest < beyond[0]
    assert noise_of_gain(16).shot == (beyond[0],) * 4


def test_most_shifts_are_small_and_the_reference_has_none():
    drawn = [draw_camera_shifts(np.random.default_rng(seed), 8) for seed in range(300)]
    assert all((shifts[0] == 0).all() for shifts in drawn)
    largest = np.abs(np.stack(drawn)[:, 1:]).max(-1)
    assert largest.max() == 32
    # A share of 1.5 / 8 is drawn from +-32 photo pixels, of which (9 / 65) squared look small.
    assert np.mean(largest > 4) == pytest.approx(1.5 / 8 * (1 - (9 / 65) ** 2), abs=0.04)
    small = np.stack(drawn)[:, 1:][largest <= 4]
    assert set(np.unique(small)) == set(range(-4, 5))


def test_a_seed_fixes_the_shifts():
    one, two, other = (draw_camera_shifts(np.random.default_rng(seed), 8) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_the_raw_signal_has_no_white_balance_and_the_white_level():
    exposed = to_raw_signal(np.full((2, 4, 3, 3), 65535, np.uint16), 0.5)
    assert exposed.dtype == np.float32
    np.testing.assert_allclose(exposed[1, :, 1, 1], [0.25, 0.5, 0.5, 0.3125], rtol=1e-6)


def test_a_shift_of_four_photo_pixels_moves_the_scene_by_a_cell():
    shifts = np.array([[0, 0], [8, -4], [32, 32]])
    frames = photograph(scene(0, 120, 140), shifts, 1.0)
    assert frames.shape == (3, 4, 14, 19)
    np.testing.assert_array_equal(frames[1, :, 1:, :-2], frames[0, :, :-1, 2:])
    np.testing.assert_array_equal(frames[2, :, :-8, :-8], frames[0, :, 8:, 8:])


def test_the_white_level_scales_a_scene():
    shifts = np.zeros((1, 2), int)
    bright, dark = (photograph(scene(0, 100, 100), shifts, white) for white in (1.0, 0.25))
    np.testing.assert_allclose(dark, bright / 4, rtol=1e-6)
