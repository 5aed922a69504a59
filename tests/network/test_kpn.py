"""Properties of the network that hold for all weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import planes

from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.network import features
from kpn_cli.network.apply_kernels import apply_kernels, restore
from kpn_cli.network.kpn import KPN, KPNConfig

NOISE = NoiseModel.uniform(1e-3, 1e-5)
SHOT, READ = torch.tensor([NOISE.shot]), torch.tensor([NOISE.read])


def burst_of(count, height=12, width=14, seed=0):
    clean = np.stack([planes(seed, height, width)] * count)
    return torch.from_numpy(NOISE.sample(clean, np.random.default_rng(seed)))[None]


def sums(kernels):
    """Sums of the frames' kernels, and of the dilated one."""
    return kernels[:, :-1].sum((1, 2)), kernels[:, -1].sum(1)


def assert_sums(kernels, count):
    for found, expected in zip(sums(kernels), (count, 1), strict=True):
        torch.testing.assert_close(found, torch.full_like(found, float(expected)))


# --- the sum of the kernels -------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", range(1, 9))
def test_kernels_sum_to_the_number_of_frames_at_every_cell(tiny_network, count, dtype):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        kernels = tiny_network(burst_of(count), SHOT, READ).kernels
    assert kernels.dtype == torch.float32
    assert kernels.shape == (1, count + 1, 25, 12, 14)
    assert float(kernels.std()) > 0.05  # not the trivial kernels
    assert_sums(kernels, count)


@settings(max_examples=25)
@given(height=st.integers(1, 21), width=st.integers(1, 21), count=st.integers(1, 3))
def test_any_size_is_accepted(height, width, count):
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=3, kernel=3, widths=(4, 4, 4), head=4)).eval()
    with torch.no_grad():
        kernels = network(burst_of(count, height, width), SHOT, READ).kernels
    assert kernels.shape == (1, count + 1, 9, height, width)
    assert_sums(kernels, count)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_constant_picture_stays_constant(tiny_network, count, dtype):
    levels = torch.tensor([0.1, 0.5, 0.4, 0.2])
    burst = levels[:, None, None].expand(1, count, 4, 11, 13).contiguous()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        clean = apply_kernels(burst, *tiny_network(burst, SHOT, READ)).clean
    torch.testing.assert_close(clean, burst[:, 0], rtol=1e-5, atol=1e-6)


# --- the start --------------------------------------------------------------


def test_a_new_network_averages_the_frames_that_agree(tiny_config):
    torch.manual_seed(0)
    burst = burst_of(8)
    burst[:, 5] += 1  # one frame of something else
    with torch.no_grad():
        clean = apply_kernels(burst, *KPN(tiny_config)(burst, SHOT, READ)).clean
    _, weights = features.network_input(burst, SHOT, READ, 8)
    expected = (weights[:, :, None] * burst).sum(1) / weights.sum(1, keepdim=True)
    torch.testing.assert_close(clean, expected, atol=0.01, rtol=0)


def test_the_correction_can_select_a_single_frame(tiny_config):
    """The head's bias reaches any kernels whose sum is right, here the reference alone."""
    torch.manual_seed(0)
    network = KPN(tiny_config)
    burst = burst_of(1).expand(1, 2, 4, 12, 14).contiguous()  # equal frames: weights 1 and 1
    with torch.no_grad():
        network.head_weight.zero_()
        network.head_bias[12], network.head_bias[25 + 12] = 1, -1
        kernels = network(burst, SHOT, READ).kernels
    torch.testing.assert_close(kernels[:, 0, 12], torch.full((1, 12, 14), 2.0))
    torch.testing.assert_close(kernels[:, 1], torch.zeros(1, 25, 12, 14))


# --- calls ------------------------------------------------------------------


def test_the_same_input_gives_the_same_kernels_to_the_bit(tiny_network):
    burst = burst_of(8)
    with torch.no_grad():
        one, two = (tiny_network(burst, SHOT, READ) for _ in range(2))
    assert torch.equal(one.kernels, two.kernels)
    assert torch.equal(one.detail_weights, two.detail_weights)


def test_a_call_does_not_change_the_burst(tiny_network):
    burst = burst_of(4)
    before = burst.clone()
    with torch.no_grad():
        tiny_network(burst, SHOT, READ)
    assert torch.equal(burst, before)


def test_bursts_of_a_batch_do_not_affect_each_other(tiny_network):
    bursts = torch.cat([burst_of(3, seed=1), burst_of(3, seed=2)])
    with torch.no_grad():
        together = tiny_network(bursts, SHOT.expand(2, 4), READ.expand(2, 4))
        alone = [tiny_network(burst[None], SHOT, READ) for burst in bursts]
    for whole, *parts in zip(together, *alone, strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_kernels_move_with_the_picture_by_whole_strides(tiny_network):
    """Away from the border; tiling relies on it."""
    burst, margin = burst_of(3, 56, 60), 16
    assert tiny_network.config.stride == 2
    with torch.no_grad():
        whole = tiny_network(burst, SHOT, READ)
        part = tiny_network(burst[..., 4:, 6:], SHOT, READ)
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    for large, small in zip(whole, part, strict=True):
        torch.testing.assert_close(large[..., 4:, 6:][inner], small[inner], rtol=1e-4, atol=1e-5)


def test_the_memory_layout_of_the_burst_does_not_matter(tiny_network):
    burst = burst_of(3)
    turned = burst.transpose(-1, -2).contiguous().transpose(-1, -2)
    with torch.no_grad():
        torch.testing.assert_close(
            tuple(tiny_network(turned, SHOT, READ)), tuple(tiny_network(burst, SHOT, READ))
        )


# --- gradients --------------------------------------------------------------


def test_gradients_reach_every_parameter(tiny_network):
    burst = burst_of(8)
    apply_kernels(burst, *tiny_network(burst, SHOT, READ)).clean.square().mean().backward()
    for name, parameter in tiny_network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_adding_the_starting_weights_in_place_does_not_change_the_gradient(tiny_network):
    """The kernels are linear in the head's bias, so its gradient is known exactly."""
    burst = burst_of(2)
    towards = torch.randn(1, 3, 25, 12, 14)
    (tiny_network(burst, SHOT, READ).kernels * towards).sum().backward()
    total = towards.sum((0, 3, 4))
    expected = torch.zeros(9 * 25)
    expected[: 2 * 25] = (total[:2] - total[:2].mean()).flatten()  # of taps that are there
    expected[8 * 25 :] = total[2] - total[2].mean()  # of the dilated kernel
    torch.testing.assert_close(tiny_network.head_bias.grad, expected, rtol=1e-4, atol=1e-3)


def test_the_gradient_of_the_merged_picture_agrees_with_finite_differences(tiny_network):
    burst, step = burst_of(3), 0.05
    towards = torch.randn(1, 4, 12, 14)

    def value():
        return (apply_kernels(burst, *tiny_network(burst, SHOT, READ)).clean * towards).sum()

    value().backward()
    weight = tiny_network.head_weight
    direction = torch.randn_like(weight)
    with torch.no_grad():
        weight.add_(step * direction)
        ahead = float(value())
        weight.sub_(2 * step * direction)
        behind = float(value())
    slope = float((weight.grad * direction).sum())
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-3, abs=0.05)


# --- configuration ----------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"kernel": 4},
        {"kernel": 0},
        {"kernel": -1},
        {"widths": ()},
        {"widths": (8, 0)},
        {"head": 0},
        {"scales": -1},
        {"extra_blocks": (1,)},
        {"extra_blocks": (0, 0, 0, -1)},
        {"extra_blocks": (0, 0, 0, 10)},
    ],
)
def test_an_impossible_shape_is_refused(wrong):
    with pytest.raises(KpnError, match=r"KPNConfig|--extra-blocks"):
        KPNConfig(**wrong)


def test_a_config_read_from_json_equals_the_one_written():
    config = KPNConfig(widths=(8, 16), head=4)
    assert KPNConfig(**dataclasses.asdict(config) | {"widths": [8, 16]}) == config
    deeper = dataclasses.replace(config, extra_blocks=(0, 1))
    assert KPNConfig(**dataclasses.asdict(deeper) | {"extra_blocks": [0, 1]}) == deeper
    assert dataclasses.replace(config, extra_blocks=(0, 0)) == config


@pytest.mark.parametrize(("widths", "stride"), [((8,), 1), ((8, 8), 2), ((8, 8, 8, 8), 8)])
def test_each_level_doubles_the_stride(widths, stride):
    config = KPNConfig(frames=2, kernel=3, widths=widths, head=4)
    assert config.stride == stride
    with torch.no_grad():
        assert KPN(config)(burst_of(2, 5, 7), SHOT, READ).kernels.shape == (1, 3, 9, 5, 7)


@pytest.mark.parametrize("output", ["kernels", "pixels"])
def test_a_blind_network_ignores_the_noise(output):
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=2, widths=(8, 8), head=8, output=output, blind=True)).eval()
    with torch.no_grad():
        network.head_weight.mul_(100)
        for name, weight in network.named_parameters():
            if name == "mix_weight":
                weight.normal_()
        burst = torch.rand(1, 2, 4, 8, 8)
        quiet, noisy = (
            restore(network, burst, *[torch.full((1, 4), value)] * 2).clean
            for value in (1e-6, 1e-2)
        )
    torch.testing.assert_close(quiet, noisy, rtol=0, atol=0)


@pytest.mark.parametrize("output", ["kernels", "pixels"])
def test_a_blind_network_starts_from_the_plain_mean_however_frames_differ(output):
    config = KPNConfig(
        frames=3, widths=(8,), head=8, output=output, wide=False, scales=0, blind=True
    )
    network = KPN(config).eval()
    with torch.no_grad():
        network.head_weight.zero_()
        burst = torch.rand(1, 3, 4, 8, 8)
        clean = restore(network, burst, SHOT, READ).clean
    torch.testing.assert_close(clean, burst.mean(1))


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_the_input_computed_in_bands_is_the_same(tiny_network, rows):
    """So `features.REACH` is as far as `network_input` looks."""
    burst, noise = torch.rand(2, 3, 4, 21, 13), torch.full((2, 4), 1e-2)
    frames = tiny_network.config.frames
    noises = torch.rand(2, 3, 4) * noise[:, None]
    unclipped = torch.rand(2, 3, 21, 13)
    channels, weights = features.network_input(burst, noises, noises, frames, unclipped=unclipped)
    whole = features.input_runs(burst, noises, noises, frames, unclipped=unclipped).light
    banded, in_bands, light = tiny_network.padded_input(
        burst, noises, noises, unclipped, cells_at_once=rows * 13
    )
    torch.testing.assert_close(banded[..., :21, :13], channels, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(in_bands, weights, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(light, whole)


# --- frames of different exposure -------------------------------------------


def noise_of_bracket(gains, shot=1e-3, read=1e-5):
    g = torch.tensor(gains)[None, :, None].expand(-1, -1, 4)
    return shot / g, read / g**2


def test_equal_coefficients_of_every_frame_give_the_same_bits_as_common_ones():
    torch.manual_seed(0)
    network = KPN(KPNConfig(widths=(8, 8), head=8)).eval()
    network.head_weight.data.mul_(100)
    burst = torch.rand(1, 4, 4, 20, 24)
    noise = torch.full((1, 4), 1e-3)
    each = noise[:, None].expand(-1, 4, -1).contiguous()
    with torch.inference_mode():
        common, each_own = (
            restore(network, burst, noise, noise),
            restore(network, burst, each, each),
        )
    assert torch.equal(common.clean, each_own.clean)


def test_no_tap_uses_clipped_samples_of_other_frames(tiny_network):
    torch.manual_seed(1)
    gains = [1.0, 4.0, 0.5]
    shot, read = noise_of_bracket(gains)
    clip = 1 / torch.tensor([gains])
    burst = torch.rand(1, 3, 4, 24, 24) * 0.1
    clipped = torch.zeros(1, 4, 24, 24, dtype=torch.bool)
    clipped[..., 8:14, 9:16] = True
    burst[:, 1][clipped] = 0.25
    changed = burst.clone()
    changed[:, 1][clipped] = 0.25 + torch.rand(int(clipped.sum()))
    # One plane alone is clipped there, and the cell left out whole.
    burst[:, 1, 0, 20, 4] = changed[:, 1, 0, 20, 4] = 0.25
    changed[:, 1, 1:, 20, 4] = 0.2
    with torch.inference_mode():
        one = restore(tiny_network, burst, shot, read, clip).clean
        other = restore(tiny_network, changed, shot, read, clip).clean
        counted = restore(tiny_network, changed, shot, read).clean
    assert torch.equal(one, other)
    assert not torch.equal(one, counted)


def test_kernels_of_a_bracket_sum_to_the_number_of_its_frames(tiny_network):
    burst = torch.rand(1, 3, 4, 16, 16)
    predicted = tiny_network(burst, *noise_of_bracket([1.0, 16.0, 1 / 16]))
    frames = predicted.kernels[:, :3].sum((1, 2))
    torch.testing.assert_close(frames, torch.full_like(frames, 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("widths", "extra_blocks"),
    [((4,), ()), ((4,), (1,)), ((4, 4), ()), ((4, 4, 4), (1, 0, 2)), ((4, 4, 4, 4), (0, 0, 1, 1))],
)
def test_a_cell_sees_as_far_as_the_convolutions_reach(widths, extra_blocks):
    config = KPNConfig(frames=2, widths=widths, head=4, extra_blocks=extra_blocks)
    torch.manual_seed(0)
    network = KPN(config).double()
    middle = 20 * config.stride
    channels = torch.rand(1, network.stem.in_channels, 8, 2 * middle, dtype=torch.double)
    channels.requires_grad_()
    network.unet(channels)[0, :, 0, middle].sum().backward()
    seen = channels.grad.abs().amax((0, 1, 2)).nonzero().flatten()
    # Cells that a coarser level has joined are seen together.
    furthest = max(middle - seen.min(), seen.max() - middle)
    assert config.reach <= furthest < config.reach + config.stride
