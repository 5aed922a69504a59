"""Grain: luminance noise without colour noise, from the reference, without ghosts or bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge import grain
from kpn_cli.merge.grain import add_grain, reduction_with_grain, with_grain

NOISE = NoiseModel.uniform(1.43e-2, 1.31e-3)  # gain 4
BALANCE = (2.0, 1.0, 1.6)
GAINS = np.array([2.0, 1.0, 1.0, 1.6])[:, None, None]
LUMINANCE = np.array([0.2126, 0.3576, 0.3576, 0.0722])[:, None, None]
GREY = (1.0, 1.0, 1.0)


def flat(rgb, level=0.2, side=200):
    """Planes of an even surface whose white-balanced colour is `level` times `rgb`."""
    red, green, blue = rgb
    cell = level * np.array([red, green, green, blue])[:, None, None] / GAINS
    return np.broadcast_to(cell, (4, side, side)).astype(np.float32).copy()


def noisy(planes, seed=0, noise=NOISE):
    return noise.sample(planes, np.random.default_rng(seed))


def grained(clean, reference, share, noise=NOISE, **options):
    planes = clean.copy()
    add_grain(planes, Frame.of_planes(reference), noise, BALANCE, share, **options)
    return planes


def luminance(planes):
    return (planes * GAINS * LUMINANCE).sum(0)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_grey_gets_this_share_of_the_luminance_noise_and_no_colour(share):
    clean = flat(GREY)
    reference = noisy(clean)
    result = grained(clean, reference, share)
    lost = luminance(reference - clean)
    off = np.abs(luminance(result - clean) - share * lost)
    assert np.mean(off > 1e-5) < 1e-3  # samples beyond four sigmas
    added = (result - clean) * GAINS
    assert np.ptp(added, axis=0).max() < 1e-6


def test_a_colour_keeps_its_ratios():
    clean = flat((0.8, 0.3, 0.1), level=0.5)
    fine = NoiseModel.uniform(6.7e-5, 2.7e-7)
    ratios = grained(clean, noisy(clean, noise=fine), 1.0, fine) / clean
    assert np.ptp(ratios, axis=0).std() < 0.05 * ratios[1].std()


@pytest.mark.parametrize("rgb", [GREY, (1.0, 0.2, 0.1), (0.05, 0.2, 1.0)])
@pytest.mark.parametrize("level", [0.0, 0.01, 0.1])
def test_the_mean_stays_and_no_channel_is_cut_off_at_black_alone(rgb, level):
    clean = flat(rgb, level)
    result = grained(clean, noisy(clean), 0.5) * GAINS
    sigma = result.std(axis=(1, 2)).max()
    assert np.allclose(result.mean((1, 2)), (clean * GAINS).mean((1, 2)), atol=0.02 * sigma)
    # Clipped at black as a developer does: the reference gets a tint, the result hardly.
    tint = np.maximum(result, 0).mean((1, 2)) - (clean * GAINS).mean((1, 2))
    assert np.ptp(tint) < 0.25 * sigma


def test_what_is_clipped_in_the_reference_gets_none():
    clean = flat(GREY, level=0.99)
    clean[:, :100] = flat(GREY, level=0.2, side=200)[:, :100]
    reference = np.minimum(noisy(clean), 1)
    reference[0, 3, 4] = 1.0  # a clipped sample in the dark half
    result = grained(clean, reference, 1.0)
    assert np.array_equal(result[:, 100:], clean[:, 100:])
    assert np.array_equal(result[:, 3, 4], clean[:, 3, 4])
    assert (result[:, :100] != clean[:, :100]).mean() > 0.99


def test_the_clipping_point_is_the_frame_s():
    clean = flat(GREY, level=0.2)
    frame = replace(Frame.of_planes(noisy(clean)), saturation=0.15)
    planes = clean.copy()
    add_grain(planes, frame, NOISE, BALANCE, 1.0)
    assert np.array_equal(planes, clean)


def test_a_defect_makes_no_speck():
    clean = flat(GREY)
    reference = clean.copy()
    reference[0, 50, 60] = 0.9
    result = grained(clean, reference, 1.0)
    sigma = np.sqrt(NOISE.variance(clean))[0, 0, 0]
    added = luminance(result - clean)[50, 60]
    assert added == pytest.approx(0.2126 * 2 * 4 * sigma, rel=0.01)
    allowed = grained(clean, reference, 1.0, observed=1.5)
    assert luminance(allowed - clean)[50, 60] == pytest.approx(1.5 * added, rel=0.01)


def test_where_the_result_is_the_reference_nothing_is_added():
    reference = noisy(flat(GREY))
    assert np.array_equal(grained(reference, reference, 1.0), reference)


def test_a_part_gets_the_same_grain_as_the_whole(monkeypatch):
    clean = flat((0.7, 0.5, 0.3))
    reference = noisy(clean)
    whole = grained(clean, reference, 0.4)
    part = (slice(None), slice(37, 101), slice(11, 90))
    assert np.array_equal(grained(clean[part], reference[part].copy(), 0.4), whole[part])
    monkeypatch.setattr(grain, "_CELLS_AT_ONCE", 1)
    assert np.array_equal(grained(clean, reference, 0.4), whole)


@pytest.mark.parametrize("residual", [0.0, 0.125])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_stated_noise_is_that_of_the_picture(share, residual):
    truth = flat(GREY)
    reference = noisy(truth)
    clean = truth.copy()
    if residual:  # the mean of eight frames
        clean = np.mean([reference, *(noisy(truth, seed) for seed in range(1, 8))], axis=0)
    result = grained(clean, reference, share)
    stated = with_grain(NOISE, residual, BALANCE, share).variance(truth)[:, 0, 0]
    assert np.allclose(result.var((1, 2)), stated, rtol=0.06)


def test_the_stated_noise_begins_with_that_of_no_grain_and_survives_absurd_balances():
    assert with_grain(NOISE, 0.1, BALANCE, 0.0) == NOISE.with_strength(0.1**0.5)
    for gain in (1e-30, 1e30):
        with_grain(NOISE, 0.1, (gain, 1.0, gain), 1.0)


def test_grain_takes_back_half_of_the_reduction_at_most():
    assert reduction_with_grain(1, 0) == 1
    assert reduction_with_grain(2, 0.5) == 0.75
    assert reduction_with_grain(1, 1) == 0.5
    assert reduction_with_grain(0, 1) == 0
