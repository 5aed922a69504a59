"""The noise map, the relative variance and the robustness weights equal their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_bursts import NOISE, bracket, coefficients, noisy
from pictures import planes

from kpn_cli.align.robustness import relative_variance, robustness_weights, sigma_map
from kpn_cli.image.filters import box
from kpn_cli.image.noise_model import NoiseModel


def test_the_noise_map_is_the_model_at_the_mean_of_nine_cells():
    model = NoiseModel((1e-3, 2e-3, 3e-3, 4e-3), (1e-5, 2e-5, 3e-5, 4e-5))
    reference = noisy([planes(0, 7, 6) - 0.2], model)[:, 0]
    sigma = sigma_map(reference, *coefficients(model))
    padded = np.pad(reference[0].double().numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    for plane, row, column in np.ndindex(4, 7, 6):
        signal = max(padded[plane, row : row + 3, column : column + 3].mean(), 0)
        expected = (model.shot[plane] * signal + model.read[plane]) ** 0.5
        assert float(sigma[0, plane, row, column]) == pytest.approx(expected, rel=1e-4)


def test_the_noise_map_never_falls_below_quantisation():
    clean = torch.zeros(1, 4, 5, 5)
    assert (sigma_map(clean, torch.zeros(1, 4), torch.full((1, 4), 1e-14)) >= 1e-5).all()


def test_weights_are_one_for_no_difference_and_never_leave_the_unit_interval():
    differences = torch.randn(2, 7, 4, 9, 9) * torch.logspace(-3, 3, 7)[:, None, None, None]
    weights = robustness_weights(differences)
    assert weights.shape == (2, 7, 9, 9)
    assert (weights >= 0).all()
    assert (weights <= 1).all()
    assert (robustness_weights(0.5 * torch.ones(1, 1, 4, 5, 5)) == 1).all()
    assert (robustness_weights(1e6 * torch.ones(1, 1, 4, 5, 5)) == 0).all()


def test_the_relative_variance_equals_the_formula():
    burst, shot, read, _ = bracket([1, 4, 0.25])
    x = box(burst[:, 0], 3)
    own_shot, own_read = NOISE.shot[0], NOISE.read[0]
    for place, gain in enumerate((4, 0.25)):
        expected = (own_shot * x / gain + own_read / gain**2) / (own_shot * x + own_read)
        found = relative_variance(burst[:, 0], shot, read)[:, place]
        torch.testing.assert_close(found, expected)
