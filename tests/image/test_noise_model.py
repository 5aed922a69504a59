"""The noise model: variances, never sigmas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel

coefficients = st.floats(1e-7, 0.1)
signals = st.floats(-0.1, 2)
factors = st.floats(0.1, 10)

UNEQUAL = NoiseModel((1e-3, 2e-3, 3e-3, 4e-3), (1e-5, 4e-5, 9e-5, 16e-5))


def flat(*levels, side=300):
    """Four planes of constant brightness."""
    return np.float32(levels)[:, None, None] * np.ones((side, side), np.float32)


def test_sampled_noise_has_the_variance_of_the_model_in_every_plane(rng):
    planes = flat(0.02, 0.1, 0.4, 0.9)
    noise = UNEQUAL.sample(planes, rng) - planes
    expected = [
        s * x + o for s, o, x in zip(UNEQUAL.shot, UNEQUAL.read, planes[:, 0, 0], strict=True)
    ]
    # 90,000 samples: a variance is known to within 0.5 %, four planes at three sigma.
    np.testing.assert_allclose(noise.var((1, 2)), expected, rtol=0.015)
    assert np.all(np.abs(noise.mean((1, 2))) < 4 * np.sqrt(expected) / 300)


def test_sampled_noise_is_independent_from_sample_to_sample(rng):
    noise = UNEQUAL.sample(flat(0.1, 0.2, 0.3, 0.4), rng) - flat(0.1, 0.2, 0.3, 0.4)
    noise /= noise.std((1, 2), keepdims=True)
    for a, b in [
        (noise[:, 1:], noise[:, :-1]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[1:], noise[:-1]),
    ]:
        assert abs(np.mean(a * b)) < 0.01


def test_black_gets_read_noise_that_is_not_clamped(rng):
    sampled = UNEQUAL.sample(flat(0, 0, 0, 0), rng)
    np.testing.assert_allclose(sampled.var((1, 2)), UNEQUAL.read, rtol=0.015)
    assert 0.49 < np.mean(sampled < 0) < 0.51


def test_the_same_generator_state_gives_the_same_noise():
    planes = flat(0.1, 0.2, 0.3, 0.4, side=8)
    first, second = (UNEQUAL.sample(planes, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32


def test_sampling_leaves_the_planes_alone(rng):
    planes = flat(0.1, 0.2, 0.3, 0.4, side=8)
    UNEQUAL.sample(planes, rng)
    np.testing.assert_array_equal(planes, flat(0.1, 0.2, 0.3, 0.4, side=8))


def test_variance_takes_planes_of_several_frames(rng):
    planes = rng.uniform(-0.1, 1, (3, 4, 5, 6))
    expected = np.empty_like(planes)
    for frame, plane, row, column in np.ndindex(*planes.shape):
        signal = max(planes[frame, plane, row, column], 0)
        expected[frame, plane, row, column] = UNEQUAL.shot[plane] * signal + UNEQUAL.read[plane]
    np.testing.assert_allclose(UNEQUAL.variance(planes), expected)


@given(coefficients, coefficients, factors, signals)
def test_a_gain_multiplies_every_sigma_by_itself(shot, read, gain, signal):
    model = NoiseModel.uniform(shot, read)
    x = np.full((4, 1, 1), signal)
    np.testing.assert_allclose(
        model.scaled(gain).variance(gain * x), gain**2 * model.variance(x), rtol=1e-9
    )


@given(coefficients, coefficients, factors, signals)
def test_strength_multiplies_every_sigma_at_the_same_signal(shot, read, strength, signal):
    model = NoiseModel.uniform(shot, read)
    x = np.full((4, 1, 1), signal)
    np.testing.assert_allclose(
        model.with_strength(strength).variance(x), strength**2 * model.variance(x), rtol=1e-9
    )


def test_uniform_is_the_same_for_all_planes():
    assert NoiseModel.uniform(1e-3, 1e-6) == NoiseModel([1e-3] * 4, np.full(4, 1e-6))


def test_a_model_is_made_of_plain_floats_and_cannot_be_changed():
    model = NoiseModel(np.float32([0.5] * 4), [0, 0, 1, 2])
    assert all(type(value) is float for value in model.shot + model.read)
    assert hash(model) == hash(NoiseModel((0.5,) * 4, (0.0, 0.0, 1.0, 2.0)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.shot = (1.0,) * 4


@pytest.mark.parametrize("name", ["shot", "read"])
@pytest.mark.parametrize(
    "values", [(1e-3,) * 3, (1e-3,) * 5, (), (1e-3, -1e-9, 1e-3, 1e-3), (float("nan"),) * 4]
)
def test_impossible_coefficients_are_refused_by_name(name, values):
    with pytest.raises(KpnError, match=name):
        NoiseModel(**{"shot": (1e-3,) * 4, "read": (1e-6,) * 4} | {name: values})


def test_infinite_noise_is_refused():
    with pytest.raises(KpnError, match="read"):
        NoiseModel.uniform(1e-3, float("inf"))


def test_one_of_shot_and_read_may_be_zero_but_not_both():
    NoiseModel.uniform(0, 1e-6)
    NoiseModel.uniform(1e-3, 0)  # as some phones write it
    with pytest.raises(KpnError, match="both zero"):
        NoiseModel((0, 1e-3, 1e-3, 1e-3), (0, 1e-6, 1e-6, 1e-6))
