"""Brackets as cameras record them: turn, shutters, shake, noise."""

from __future__ import annotations

import numpy as np
import pytest

from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis.brackets import check_evs, draw_bracket, in_turn

NOISE = NoiseModel.uniform(1e-3, 1e-5)


def test_eight_frames_of_three_exposures_are_two_dark_and_three_of_each_other():
    evs = in_turn((-2, 0, 2), 8)
    assert evs == (0, 2, -2, 0, 2, -2, 0, 2)
    assert [evs.count(ev) for ev in (-2, 0, 2)] == [2, 3, 3]
    assert sorted(in_turn((-2, 0, 2), 9)) == [-2] * 3 + [0] * 3 + [2] * 3


def test_the_reference_has_0_ev_or_the_first_listed_exposure():
    assert in_turn((1, 3, -1), 4) == (1, 3, -1, 1)
    assert in_turn((2, -2, 0), 2) == (0, 2)


@pytest.mark.parametrize("evs", [(0,), (0,) * 10, (0, 9), (-5, 4), (0, float("nan"))])
def test_exposures_that_are_no_bracket_are_refused(evs):
    with pytest.raises(KpnError):
        check_evs(evs)


def test_shutters_are_off_by_several_per_cent_and_the_reference_s_is_exact():
    drawn = [draw_bracket(np.random.default_rng(n), (-2, 0, 2), 8) for n in range(100)]
    errors = np.array([bracket.gains / bracket.stated - 1 for bracket in drawn])
    assert (errors[:, 0] == 0).all()
    assert errors[:, 1:].std() == pytest.approx(0.03, abs=0.005)
    assert 0.06 < np.abs(errors).max() < 0.081


def test_shake_grows_with_the_time_of_an_exposure():
    bracket = draw_bracket(np.random.default_rng(1), (-2, 0, 2), 8)
    lengths = np.hypot(*bracket.shake.T)
    np.testing.assert_allclose(lengths / lengths[0], bracket.gains, rtol=1e-5)
    assert 0 < lengths[0] <= 1
    assert not draw_bracket(np.random.default_rng(1), (-2, 0, 2), 8, shaken=False).shake.any()


def test_each_frame_is_recorded_in_its_exposure_with_noise_of_its_own_and_clips_at_white():
    bracket = draw_bracket(np.random.default_rng(2), (-2, 0, 2), 3)
    clean = np.full((3, 4, 64, 64), 0.1, np.float32)
    clean[..., 32:] = 0.5
    recorded = bracket.record(clean, NOISE, np.random.default_rng(0))
    for frame, gain in zip(recorded, bracket.gains, strict=True):
        error = frame[..., :32] - 0.1 * gain
        assert error.mean() == pytest.approx(0, abs=5 * float(error.std()) / 90)
        assert error.var() == pytest.approx(1e-3 * 0.1 * gain + 1e-5, rel=0.06)
    assert (recorded[1, ..., 32:] == 1).all()  # twice white at 2 EV
    assert recorded[2].max() < 0.2


@pytest.mark.parametrize(
    ("evs", "words"),
    [
        ((0, -0.02), "-0.02 and 0 EV are too near to each other .* steps of 0.25 EV or more"),
        ((-2, 0, 0.1), "0 and 0.1 EV are too near"),
        ((1, 1), "all exposures are 1 EV; leave --ev out"),
        ((0, 20), "20 EV is too far from the first frame's exposure, 0 EV; give at most 8 EV"),
        ((0, float("nan")), "nan is no exposure"),
    ],
)
def test_exposures_that_are_no_bracket_are_told_with_the_reason(evs, words):
    with pytest.raises(KpnError, match=words):
        check_evs(evs)


def test_thirds_of_a_stop_and_repeated_exposures_are_a_bracket():
    check_evs((-0.33, 0, 0.33))
    check_evs((0, -2, 0, 2))
