"""Classical denoisers to compare with: a fair comparison needs the right noise level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import planes

from kpn_cli.evaluation import metrics
from kpn_cli.evaluation.baselines import non_local_means, stabilise, unstabilise, wavelets
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis import protocol


@pytest.mark.parametrize("gain", protocol.GAINS)
@pytest.mark.parametrize("level", [0.02, 0.2, 0.8])
def test_stabilised_noise_has_a_variance_of_one(rng, gain, level):
    noise = protocol.noise_of_gain(gain)
    flat = np.full((4, 100, 100), level, np.float32)
    variance = stabilise(noise.sample(flat, rng), noise).var()
    # Where the signal is but a few sigmas, the stabilisation is known to be imperfect.
    few = level / noise.variance(flat)[0, 0, 0] ** 0.5 < 3
    assert variance == pytest.approx(1, abs=0.25 if few else 0.08)


@pytest.mark.parametrize("gain", protocol.GAINS)
@pytest.mark.parametrize("level", [0.05, 0.2, 0.8])
def test_the_inverse_transform_has_no_bias(rng, gain, level):
    """The mean over many samples, undone, is the signal."""
    noise = protocol.noise_of_gain(gain)
    flat = np.full((4, 200, 200), level, np.float32)
    mean = stabilise(noise.sample(flat, rng), noise).mean((1, 2), keepdims=True)
    sigma = noise.variance(flat)[0, 0, 0] ** 0.5
    np.testing.assert_allclose(unstabilise(mean, noise), level, atol=0.03 * sigma)


@given(st.floats(0.05, 1), st.floats(1e-6, 1e-3))
def test_with_little_noise_the_inverse_transform_is_exact(level, shot):
    noise = NoiseModel.uniform(shot, shot**2)
    flat = np.full((4, 2, 2), level)
    back = unstabilise(stabilise(flat, noise), noise)
    np.testing.assert_allclose(back, flat, atol=0.6 * shot + 1e-5)


@pytest.mark.parametrize("denoise", [non_local_means, wavelets])
@pytest.mark.parametrize("gain", [1, 4])
def test_baselines_gain_at_least_four_db(rng, denoise, gain):
    noise = protocol.noise_of_gain(gain)
    clean = np.float32(0.9) * np.repeat(np.repeat(planes(1, 12, 16), 8, 1), 8, 2)
    noisy = noise.sample(clean, rng)
    before, after = (metrics.psnr(x, clean, 1.0) for x in (noisy, denoise(noisy, noise)))
    assert after > before + 4
