"""Synthetic bursts whose frames differ in exposure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.exposures import Exposures, draw_exposures
from kpn_cli.synthesis.patches import collate
from kpn_cli.synthesis.sensor import capture

NOISE = NoiseModel.uniform(1e-3, 1e-5)
PLAIN = SynthConfig(
    mixed=0, clipped=0, quantised=0, row_noise=0, defects=0, misjudged=0, bracket=0, uneven=0
)


def drawn(**chances):
    config = replace(PLAIN, **chances)
    return [draw_exposures(np.random.default_rng(seed), 8, config) for seed in range(400)]


def test_brackets_reach_a_factor_of_16_either_way_and_no_further():
    gains = np.concatenate([found.gains for found in drawn(bracket=1)])
    assert gains.max() == 16
    assert gains.min() == 1 / 16


def test_any_frame_of_a_bracket_may_be_the_reference():
    found = drawn(bracket=1)
    assert all(one.gains[0] == 1 for one in found)
    brightest, darkest = (sum(pick(one.gains) == 1 for one in found) for pick in (max, min))
    assert brightest > 40
    assert darkest > 40


def test_uneven_bursts_differ_by_a_few_per_cent():
    gains = np.concatenate([found.gains[1:] for found in drawn(uneven=1)])
    assert 0.02 < np.log(gains).std() < 0.06


def test_brackets_are_as_frequent_as_configured():
    assert sum(one is not None for one in drawn(bracket=0.15)) == pytest.approx(60, abs=25)
    assert not any(drawn())


def test_a_single_frame_has_no_other_exposure():
    config = replace(PLAIN, bracket=1)
    assert draw_exposures(np.random.default_rng(0), 1, config) is None


def test_noise_grows_with_the_iso_and_not_with_the_time():
    exposures = Exposures(np.float32([1, 4, 4]), np.array([1.0, 1.0, 4.0]))
    own = exposures.recorded_noise(NOISE)
    assert own[0] == own[1] == NOISE
    assert own[2].shot[0] == pytest.approx(4 * NOISE.shot[0])
    same_exposure = exposures.matched_noise(NOISE)
    assert same_exposure[1].shot[0] == pytest.approx(NOISE.shot[0] / 4)
    assert same_exposure[1].read[0] == pytest.approx(NOISE.read[0] / 16)
    assert same_exposure[2].shot[0] == pytest.approx(NOISE.shot[0])


def test_frames_of_a_bracket_have_the_reference_s_brightness_and_their_stated_noise():
    planes = np.full((8, 4, 64, 64), 0.05, np.float32)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        patch = capture(planes, rng, replace(PLAIN, bracket=1), NOISE)
        for frame, model, clip in zip(patch.burst, patch.frame_noise, patch.clip, strict=True):
            if patch.target.max() > 0.4 * clip:
                continue
            error = frame - patch.target
            assert error.mean() == pytest.approx(0, abs=5 * float(error.std()) / 128)
            expected = model.variance(patch.target)
            assert np.mean(error**2 / expected) == pytest.approx(1, abs=0.06)


def test_long_exposures_clip_at_their_stated_clipping_point():
    planes = np.linspace(0, 1, 64, dtype=np.float32) * np.ones((8, 4, 64, 1), np.float32)
    patch = capture(planes, np.random.default_rng(3), replace(PLAIN, bracket=1), NOISE)
    for frame, clip in zip(patch.burst, patch.clip, strict=True):
        assert frame.max() <= clip * (1 + 1e-6)


def test_a_batch_has_the_noise_of_each_frame_and_no_clipping_point_for_bursts_of_one_exposure():
    planes, rng = np.full((3, 4, 8, 8), 0.05, np.float32), np.random.default_rng(0)
    mixed = capture(planes, rng, replace(PLAIN, bracket=1), NOISE)
    plain = capture(planes, rng, PLAIN, NOISE)
    batch = collate([mixed, plain])
    assert batch.shot.shape == batch.read.shape == (2, 3, 4)
    assert batch.clip.shape == (2, 3)
    assert batch.clip[0].isfinite().all()
    assert batch.clip[1].isinf().all()
    assert (batch.shot[1] == batch.shot[1, :1]).all()
    assert collate([plain]).clip is None
