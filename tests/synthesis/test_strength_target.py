"""What a network is trained to make of a burst at another strength than 1."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import planes

from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis.strength_target import strength_target

NOISE = NoiseModel.uniform(1e-3, 1e-5)


@pytest.fixture
def truth():
    return planes(0, 64, 64)


@pytest.fixture
def reference_noise(truth):
    return NOISE.sample(truth, np.random.default_rng(0)) - truth


def test_the_target_of_strength_one_is_the_truth_bit_for_bit(truth, reference_noise):
    assert np.array_equal(strength_target(truth, reference_noise, NOISE, 1), truth)


def test_less_strength_keeps_more_of_the_reference_s_noise(truth, reference_noise):
    kept = [
        float(
            np.std(strength_target(truth, reference_noise, NOISE, s) - truth)
            / reference_noise.std()
        )
        for s in (0.25, 0.5, 0.8, 1)
    ]
    assert np.all(np.diff(kept) < 0)
    assert 0.25 < kept[1] < 0.35  # less than the mean of eight frames leaves


@pytest.mark.parametrize("strength", [1.01, 2, 4])
def test_targets_of_strengths_above_one_have_no_noise(truth, reference_noise, strength):
    target = strength_target(truth, reference_noise, NOISE, strength)
    assert np.array_equal(target, strength_target(truth, 0 * reference_noise, NOISE, strength))


def test_more_strength_removes_more_detail_and_keeps_a_flat_picture(truth, reference_noise):
    faint = (truth - truth.mean()) * np.float32(0.1) + np.float32(0.2)
    left = [strength_target(faint, reference_noise, NOISE, s).std() for s in (1, 1.25, 2, 4)]
    assert np.all(np.diff(left) < 0)
    flat = np.full_like(truth, 0.3)
    np.testing.assert_allclose(strength_target(flat, reference_noise, NOISE, 4), flat, rtol=1e-5)


def test_detail_far_above_the_noise_stays(reference_noise):
    edge = np.full((4, 64, 64), 0.1, np.float32)
    edge[:, :, 32:] = 0.9
    target = strength_target(edge, reference_noise, NOISE, 2)
    assert np.abs(target - edge)[:, :, 28:36].max() < 0.02


def test_strength_keeps_colours(reference_noise):
    """All planes lose the same share of their detail."""
    grey = planes(0, 64, 64)[:1]
    scale = np.float32([0.4, 1, 1, 0.6])[:, None, None]
    model = NoiseModel.uniform(0, 1e-4)
    target = strength_target(grey * scale, reference_noise, model, 3)
    np.testing.assert_allclose(target / scale, np.broadcast_to(target[1], target.shape), rtol=1e-4)


def test_the_target_is_continuous_at_strength_one(truth, reference_noise):
    for strength in (0.97, 1.03):
        target = strength_target(truth, reference_noise, NOISE, strength)
        assert np.abs(target - truth).std() < 0.01 * reference_noise.std()
