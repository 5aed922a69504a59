"""Kernels x frames -> clean planes, against loops too simple to be wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.network import cross_plane
from kpn_cli.network import restore as restore_module
from kpn_cli.network.kernel_filter import filter_frames
from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.restore import WIDE, merge, restore, restore_in_bands


def example(batch=2, count=3, channels=4, side=3, height=5, width=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    burst = torch.randn(batch, count, channels, height, width, generator=generator, dtype=dtype)
    kernels = torch.randn(batch, count, side**2, height, width, generator=generator, dtype=dtype)
    return burst, kernels


def by_loop(burst, kernels, dilation=1):
    """Sample by sample; differentiable by autograd."""
    batch, count, channels, height, width = burst.shape
    side = round(kernels.shape[2] ** 0.5)
    out = []
    for b, n, plane, y, x in torch.cartesian_prod(
        *(torch.arange(size) for size in (batch, count, channels, height, width))
    ).tolist():
        total = 0
        for tap in range(side**2):
            row = min(max(y + dilation * (tap // side - side // 2), 0), height - 1)
            column = min(max(x + dilation * (tap % side - side // 2), 0), width - 1)
            total = total + kernels[b, n, tap, y, x] * burst[b, n, plane, row, column]
        out.append(total)
    return torch.stack(out).view(burst.shape)


@given(
    batch=st.integers(1, 2),
    count=st.integers(1, 3),
    channels=st.integers(1, 4),
    side=st.sampled_from([1, 3, 5]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    dilation=st.integers(1, 3),
)
def test_filtering_equals_the_loop_for_any_shape(
    batch, count, channels, side, height, width, dilation
):
    burst, kernels = example(batch, count, channels, side, height, width)
    ours = filter_frames(burst, kernels, dilation)
    torch.testing.assert_close(ours, by_loop(burst, kernels, dilation))


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_gradients_equal_those_of_the_loop(dilation):
    burst, kernels = example(side=3)
    towards = torch.randn_like(burst)
    gradients = []
    for function in (filter_frames, by_loop):
        leaves = [tensor.clone().requires_grad_() for tensor in (burst, kernels)]
        (function(*leaves, dilation) * towards).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*gradients)


def test_a_kernel_more_than_frames_filters_the_merged_picture_widely():
    burst, kernels = example(count=4, side=3)
    frames, kernels = burst[:, :3], kernels
    mean = by_loop(frames, kernels[:, :3]).mean(1, keepdim=True)
    expected = by_loop(mean, kernels[:, 3:], WIDE)[:, 0]
    torch.testing.assert_close(merge(frames, kernels).clean, expected)


def test_the_gradient_passes_torch_s_own_check():
    burst, kernels = example(batch=1, count=2, channels=2, side=3, height=3, width=4)
    assert torch.autograd.gradcheck(
        lambda weights: filter_frames(burst, weights), kernels.requires_grad_()
    )


def test_kernels_may_lie_in_memory_as_they_like():
    burst, kernels = example()
    scattered = kernels.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)
    assert not scattered.is_contiguous()
    torch.testing.assert_close(filter_frames(burst, scattered), filter_frames(burst, kernels))


@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_one_on_the_centre_tap_returns_the_frame_to_the_bit(side):
    burst, kernels = example(side=side, dtype=torch.float32)
    kernels.zero_()
    kernels[:, :, side**2 // 2] = 1
    assert torch.equal(filter_frames(burst, kernels), burst)


def test_a_one_on_another_tap_fetches_the_neighbour():
    burst, kernels = example(side=3)
    kernels.zero_()
    kernels[:, :, 3 * 2 + 0] = 1  # below, to the left
    expected = F.pad(burst.flatten(0, 1), (1, 0, 0, 1), mode="replicate")[..., 1:, :-1]
    assert torch.equal(filter_frames(burst, kernels), expected.view(burst.shape))


def test_merging_is_the_mean_of_the_filtered_frames():
    burst, kernels = example()
    torch.testing.assert_close(merge(burst, kernels).clean, by_loop(burst, kernels).mean(1))


def test_centre_taps_of_one_merge_to_the_plain_mean():
    burst, kernels = example(side=5, dtype=torch.float32)
    kernels.zero_()
    kernels[:, :, 12] = 1
    torch.testing.assert_close(merge(burst, kernels).clean, burst.mean(1))


def test_the_planes_share_the_kernels():
    burst, kernels = example()
    alone = [filter_frames(burst[:, :, n : n + 1], kernels) for n in range(4)]
    assert torch.equal(filter_frames(burst, kernels), torch.cat(alone, 2))


def test_filtering_leaves_its_arguments_alone():
    burst, kernels = example()
    before = burst.clone(), kernels.clone()
    filter_frames(burst, kernels)
    assert torch.equal(burst, before[0])
    assert torch.equal(kernels, before[1])


# --- in bands ---------------------------------------------------------------


def _without_mixing(network):
    bare = KPN(replace(network.config, scales=0))
    bare.load_state_dict({k: v for k, v in network.state_dict().items() if "mix" not in k})
    return bare


@pytest.mark.parametrize(("wide", "scales"), [(True, 2), (False, 1), (True, 0), (False, 0)])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("count", [1, 3])
def test_kernels_made_band_by_band_give_the_same(monkeypatch, wide, scales, rows_at_once, count):
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=3, widths=(8, 8), head=8, wide=wide, scales=scales))
    with torch.no_grad():
        network.head_weight.mul_(300)  # kernels that differ from cell to cell
        if scales:
            network.mix_weight.normal_(0, 0.1)
    burst = torch.rand(2, count, 4, 11, 13)
    noise = torch.full((2, 4), 1e-2)
    monkeypatch.setattr(restore_module, "_BAND", rows_at_once * 13 * 25 * count)
    with torch.no_grad():
        whole = restore(network, burst, noise, noise)
        x, weights = network.seen(burst, noise, noise)
        clean, own = restore_in_bands(network, burst, x, weights)
        torch.testing.assert_close(clean, whole.clean)
        # The weight of the reference's own sample, tried out: one sample is made brighter.
        place = (0, 0, slice(None), 5, 6)
        brighter = burst.clone()
        brighter[place] += 1
        risen = merge(brighter, *network(burst, noise, noise)).clean - whole.clean
        _, unmixed = restore_in_bands(_without_mixing(network), burst, x, weights)
    assert whole.kernels.std((-2, -1)).max() > 0.01
    if scales:  # mixing brings back a little of what the kernels gave the neighbours
        torch.testing.assert_close(own, unmixed * cross_plane.own(network.mixing(x)))
        assert (own - unmixed).abs().min() > 1e-6
    else:
        torch.testing.assert_close(risen[0, :, 5, 6], own[0, 5, 6].expand(4), atol=1e-5, rtol=1e-4)
