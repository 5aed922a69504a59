"""The annealed loss against the formulas, spelt out."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from kpn_cli.image.srgb import srgb_curve, srgb_encode
from kpn_cli.training.losses import LossConfig, annealed_loss, patch_loss

PLAIN = LossConfig(pixels=2.0, gradients=0.3, anneal=0.7, decay=0.9, balanced=False)
BALANCED = LossConfig(pixels=2.0, gradients=0.3, anneal=0.7, decay=0.9, balanced=True)


def example(batch=2, count=3, height=4, width=5):
    generator = torch.Generator().manual_seed(0)
    per_frame = torch.rand(batch, count, 4, height, width, generator=generator) - 0.1
    truth = torch.rand(batch, 4, height, width, generator=generator) * 0.5
    white = torch.linspace(0.4, 0.9, batch)
    return per_frame.mean(1), per_frame, truth, white


def basic_loss(output, truth, white, config):
    """`l` of one patch, by numpy: equation 6 of the paper on means."""
    output, truth = (srgb_encode(x.double().numpy() / float(white)) for x in (output, truth))
    squares = np.mean((output - truth) ** 2)
    rows = np.mean(np.abs(np.diff(output, axis=-2) - np.diff(truth, axis=-2)))
    columns = np.mean(np.abs(np.diff(output, axis=-1) - np.diff(truth, axis=-1)))
    return config.pixels * squares + config.gradients * (rows + columns)


def losses_of_patches(clean, per_frame, truth, white, config, step):
    weight = config.anneal * config.decay**step
    return [
        basic_loss(clean[b], truth[b], white[b], config)
        + weight * sum(basic_loss(frame, truth[b], white[b], config) for frame in per_frame[b])
        for b in range(len(clean))
    ]


# --- the loss ---------------------------------------------------------------


def test_the_basic_loss_is_squares_plus_gradients_patch_by_patch():
    _, per_frame, truth, _ = example()
    target = truth[:, None].expand_as(per_frame)
    loss = patch_loss(srgb_curve(per_frame), srgb_curve(target), PLAIN)
    assert loss.shape == (2, 3)
    for b, n in np.ndindex(2, 3):
        expected = basic_loss(per_frame[b, n], truth[b], 1, PLAIN)
        assert float(loss[b, n]) == pytest.approx(expected, rel=1e-4)


def test_a_constant_offset_costs_squares_alone():
    loss = patch_loss(torch.full((1, 4, 5, 5), 0.3), torch.zeros(1, 4, 5, 5), PLAIN)
    assert float(loss) == pytest.approx(2.0 * 0.09)


@pytest.mark.parametrize("step", [0, 1, 20])
def test_the_annealed_loss_is_the_paper_s_formula(step):
    loss = float(annealed_loss(*example(), PLAIN, step))
    expected = np.mean(losses_of_patches(*example(), PLAIN, step))
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("step", [0, 20])
def test_the_balanced_loss_is_the_mean_of_the_logarithms(step):
    loss = float(annealed_loss(*example(), BALANCED, step))
    expected = np.mean(np.log(losses_of_patches(*example(), BALANCED, step)))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_after_annealing_the_per_frame_terms_have_no_effect():
    clean, per_frame, truth, white = example()
    late = 10_000
    one = annealed_loss(clean, per_frame, truth, white, PLAIN, late)
    two = annealed_loss(clean, 100 * per_frame, truth, white, PLAIN, late)
    assert torch.equal(one, two)


@pytest.mark.parametrize("exposure", [0.25, 2.0])
def test_exposure_does_not_change_the_loss(exposure):
    clean, per_frame, truth, white = example()
    scaled = (exposure * x for x in (clean, per_frame, truth, white))
    torch.testing.assert_close(
        annealed_loss(*scaled, BALANCED, 3),
        annealed_loss(clean, per_frame, truth, white, BALANCED, 3),
    )


def test_in_the_balanced_loss_a_noisy_patch_does_not_dominate():
    clean, per_frame, truth, white = example()
    bad = clean.clone()
    bad[0] += 100

    def pull_of_the_good_patch(config):
        leaf = bad.clone().requires_grad_()
        annealed_loss(leaf, per_frame, truth, white, config, 10_000).backward()
        return float(leaf.grad[1].norm() / leaf.grad.norm())

    assert pull_of_the_good_patch(PLAIN) < 0.1
    assert pull_of_the_good_patch(BALANCED) > 0.5


@pytest.mark.parametrize("config", [PLAIN, BALANCED])
def test_a_perfect_picture_has_the_least_loss_and_a_finite_gradient(config):
    _, _, truth, white = example()
    clean = truth.clone().requires_grad_()
    frames = truth[:, None].expand(-1, 3, -1, -1, -1)
    loss = annealed_loss(clean, frames, truth, white, config, 0)
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(clean.grad).all()
    off = annealed_loss(clean + 0.01, frames, truth, white, config, 0)
    assert off.item() > loss.item()


# --- annealing --------------------------------------------------------------


def test_the_annealing_weight_falls_from_beta_to_exactly_zero():
    config = LossConfig(anneal=0.1, decay=0.99)
    weights = [config.anneal_weight(step) for step in range(1000)]
    assert weights[0] == 0.1
    assert all(after <= before for before, after in pairwise(weights))
    assert weights[-1] == 0.0
    assert min(weight for weight in weights if weight) > 0.9e-3


def test_without_annealing_the_weight_is_zero_from_the_start():
    assert LossConfig(anneal=0.0).anneal_weight(0) == 0.0
