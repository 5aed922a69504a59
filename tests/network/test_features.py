"""The input channels of a burst, and the weights from which its kernels start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from noisy_bursts import NOISE, bracket, coefficients, noisy
from pictures import planes

from kpn_cli.align.robustness import relative_variance
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.network.features import channel_count, compand, input_runs, network_input

FRAMES = 8


def static_burst(count=FRAMES, side=40, model=NOISE):
    return noisy([planes(0, side, side)] * count, model)


def parts(channels, frames=FRAMES):
    """The channels by name, in their order."""
    others = frames - 1
    names = ["mean", "sigma", "reference", "detail", "differences", "robustness"]
    sizes = [4, 4, 4, 4, 4 * others, others]
    return dict(zip(names, channels.split(sizes, 1), strict=True))


# --- shapes -----------------------------------------------------------------


@pytest.mark.parametrize("frames", range(1, 9))
def test_there_are_as_many_channels_as_announced_for_any_number_of_frames(frames):
    for count in range(1, frames + 1):
        channels, weights = network_input(static_burst(count, 9), *coefficients(), frames)
        assert channels.shape == (1, channel_count(frames), 9, 9)
        assert weights.shape == (1, count, 9, 9)
        assert torch.isfinite(channels).all()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_channels_of_missing_frames_are_zero(count):
    channels = parts(network_input(static_burst(count), *coefficients(), FRAMES)[0])
    assert channels["differences"][:, : 4 * (count - 1)].any() or count == 1
    assert not channels["differences"][:, 4 * (count - 1) :].any()
    assert (channels["robustness"][:, : count - 1] > 0).all()
    assert not channels["robustness"][:, count - 1 :].any()


def test_bursts_of_a_batch_do_not_affect_each_other():
    one = noisy([planes(1, 20, 20)] * 3, NOISE)
    two = noisy([planes(2, 20, 20)] * 3, NoiseModel.uniform(1e-2, 1e-4))
    shot, read = (
        torch.cat(pair)
        for pair in zip(coefficients(), coefficients(NoiseModel.uniform(1e-2, 1e-4)), strict=True)
    )
    together, _ = network_input(torch.cat([one, two]), shot, read, FRAMES)
    for index, burst in enumerate((one, two)):
        alone, _ = network_input(burst, shot[index : index + 1], read[index : index + 1], FRAMES)
        torch.testing.assert_close(together[index : index + 1], alone)


# --- robustness -------------------------------------------------------------


def test_static_frames_agree_with_the_reference():
    _, weights = network_input(static_burst(), *coefficients(), FRAMES)
    assert (weights[:, 0] == 1).all()
    assert float(weights[:, 1:].mean()) > 0.85
    assert float(weights[:, 1:].quantile(0.01)) > 0.4


def test_frames_of_another_scene_do_not_agree():
    frames = [planes(0, 40, 40), planes(0, 40, 40), planes(1, 40, 40)]
    _, weights = network_input(noisy(frames), *coefficients(), FRAMES)
    assert float(weights[:, 1].mean()) > 0.85
    assert float(weights[:, 2].mean()) < 0.05


def test_a_moved_object_is_rejected_where_it_is_and_only_there():
    moved = planes(0, 40, 40)
    moved[:, 10:20, 10:20] += 0.5
    _, weights = network_input(noisy([planes(0, 40, 40), moved]), *coefficients(), FRAMES)
    assert (weights[0, 1, 10:20, 10:20] < 1e-3).all()
    assert float(weights[0, 1, 22:].mean()) > 0.85


def test_the_robust_mean_has_less_noise_than_the_reference():
    clean = np.full((4, 40, 40), 0.2, np.float32)
    channels = parts(network_input(noisy([clean] * FRAMES), *coefficients(), FRAMES)[0])
    reference_only = parts(network_input(noisy([clean]), *coefficients(), FRAMES)[0])
    share = channels["mean"].var() / reference_only["mean"].var()
    assert 1 / 8 < float(share) < 0.16


def test_the_robust_mean_of_one_frame_is_that_frame():
    burst = static_burst(1)
    channels = parts(network_input(burst, *coefficients(), FRAMES)[0])
    torch.testing.assert_close(channels["mean"], compand(burst[:, 0]))
    assert not channels["reference"].any()


# --- invariances ------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.25, 4.0])
def test_channels_normalised_by_the_noise_do_not_depend_on_exposure(gain):
    burst = static_burst()
    channels, weights = network_input(burst, *coefficients(), FRAMES)
    bright, same = network_input(gain * burst, *coefficients(NOISE.scaled(gain)), FRAMES)
    torch.testing.assert_close(weights, same, rtol=1e-3, atol=1e-4)
    before, after = parts(channels), parts(bright)
    for name in ("reference", "detail", "differences", "robustness"):
        torch.testing.assert_close(before[name], after[name], rtol=1e-3, atol=1e-3)
    shift = torch.full_like(before["sigma"], np.log(gain) / 2)
    torch.testing.assert_close(after["sigma"] - before["sigma"], shift, rtol=1e-3, atol=1e-4)


def test_the_differences_of_a_static_burst_are_of_order_one_at_every_iso():
    for model in (NoiseModel.uniform(1e-5, 1e-8), NOISE, NoiseModel.uniform(3e-2, 7e-3)):
        burst = static_burst(model=model)
        channels = parts(network_input(burst, *coefficients(model), FRAMES)[0])
        # log1p|x| of a standard normal variable has a root mean square of 0.60.
        assert float(channels["differences"].square().mean().sqrt()) == pytest.approx(0.6, abs=0.06)


@given(st.permutations(range(1, 5)))
def test_the_order_of_the_other_frames_only_reorders_their_channels(order):
    burst = noisy([planes(0, 12, 12), *(planes(seed, 12, 12) for seed in range(4))])
    channels, weights = network_input(burst, *coefficients(), 5)
    mixed, mixed_weights = network_input(burst[:, [0, *order]], *coefficients(), 5)
    torch.testing.assert_close(mixed_weights, weights[:, [0, *order]])
    before, after = parts(channels, 5), parts(mixed, 5)
    for name in ("mean", "sigma", "reference", "detail"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-4)
    pick = [n - 1 for n in order]
    expected = before["differences"].unflatten(1, (4, 4))[:, pick].flatten(1, 2)
    torch.testing.assert_close(after["differences"], expected)


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_companding_is_odd_and_rising(a, b):
    x = torch.tensor([a, b], dtype=torch.float64)
    torch.testing.assert_close(compand(-x), -compand(x))
    if a < b - 1e-9:
        assert compand(x)[0] < compand(x)[1]


# --- frames of different exposure -------------------------------------------


def all_alike(coefficients, count):
    return coefficients[:, None].expand(-1, count, -1).contiguous()


@pytest.mark.parametrize("count", [1, 2, 8])
def test_equal_coefficients_of_every_frame_give_the_same_bits_as_common_ones(count):
    burst, (shot, read) = static_burst(count), coefficients()
    plain = network_input(burst, shot, read, FRAMES)
    each = network_input(burst, all_alike(shot, count), all_alike(read, count), FRAMES)
    for one, other in zip(plain, each, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("gain", [1 / 16, 0.25, 1.03, 4, 8])
def test_differences_of_a_frame_of_another_exposure_have_unit_variance(gain):
    channels = parts(network_input(*bracket([1, gain])[:3], 2)[0], 2)
    # Undo the compression.
    differences = torch.expm1(channels["differences"].abs())
    assert differences.square().mean().item() == pytest.approx(1, abs=0.05)
    assert channels["robustness"].mean() > 0.8


@pytest.mark.parametrize("gain", [0.25, 4])
def test_a_frame_s_weight_is_its_robustness_over_its_relative_variance(gain):
    burst, shot, read, _ = bracket([1, gain])
    channels, weights = network_input(burst, shot, read, 2)
    ratio = relative_variance(burst[:, 0], shot, read)[:, 0].mean(1)
    torch.testing.assert_close(weights[:, 1], parts(channels, 2)["robustness"][:, 0] / ratio)


def test_the_robust_mean_of_a_bracket_is_quieter_than_that_of_as_many_equal_frames():
    def error(gains):
        burst, shot, read, _ = bracket(gains, level=0.02)
        _, weights = network_input(burst, shot, read, 3)
        mean = (weights[:, :, None] * burst).sum(1) / weights.sum(1)[:, None]
        return (mean - 0.02).square().mean().item()

    assert error([1, 8, 8]) < 0.3 * error([1, 1, 1])


@pytest.mark.parametrize("gain", [0.25, 4, 16])
def test_a_bracket_looks_like_frames_of_one_exposure_with_as_little_noise(gain):
    """The reference, two frames like it and two others: as if all had the mean's noise times 5."""
    gains = [1, 1, 1, gain, gain]
    burst, shot, read, _ = bracket(gains, level=0.02)
    runs = input_runs(burst, shot, read, 5)
    ratio = relative_variance(burst[:, 0], shot, read)[0, 2].mean().item()
    expected = 5 / (3 + 2 / ratio)
    # Where frames differ by chance, neither counts in full.
    agreement = runs.channels[2][1].mean().item()
    other = 1 + (1 / ratio - 1) * agreement
    shares = runs.light.mean((0, 2, 3))
    torch.testing.assert_close(
        shares, torch.tensor([1, 1, 1, other, other]) * expected, rtol=0.12, atol=0
    )
    plain = input_runs(burst, shot[:, 0], read[:, 0], 5)
    sigma, of_equal = (torch.exp(2 * each.channels[0][1][:, 4:8] - 4) for each in (runs, plain))
    assert (sigma / of_equal).mean().item() == pytest.approx(expected**0.5, rel=0.05)


def test_a_frame_that_shows_something_else_has_no_more_light_than_the_reference():
    """Or what the network leaves of its kernel would grow by its light."""
    burst, shot, read, _ = bracket([1, 1, 16])
    burst[:, 2] += 1
    light = input_runs(burst, shot, read, 3).light
    torch.testing.assert_close(light[:, 2], light[:, 0])


def test_what_is_taken_from_the_reference_counts_with_its_noise():
    burst, shot, read, _ = bracket([1, 16, 1])
    unclipped = torch.ones(1, 3, 64, 64)
    unclipped[:, 1] = 0
    _, weights, light = input_runs(burst, shot, read, 3, unclipped=unclipped)
    assert (weights[:, 1] == 0).all()
    torch.testing.assert_close(light, torch.ones_like(light))


def test_frames_of_one_exposure_have_a_light_of_one():
    burst, (shot, read) = static_burst(3), coefficients()
    assert input_runs(burst, shot, read, FRAMES).light is None
    each = input_runs(burst, all_alike(shot, 3), all_alike(read, 3), FRAMES).light
    assert torch.equal(each, torch.ones_like(each))


def test_cells_left_out_for_clipping_have_neither_weight_nor_robustness():
    burst, shot, read, _ = bracket([1, 4])
    unclipped = torch.ones(1, 2, 64, 64)
    unclipped[:, 1, :, :32] = 0
    shown, weights = network_input(burst, shot, read, 2, unclipped=unclipped)
    assert (weights[:, 1, :, :32] == 0).all()
    assert (parts(shown, 2)["robustness"][:, :, :, :32] == 0).all()
    assert (weights[:, 1, :, 32:] > 0).all()
