"""Filtering with per-pixel kernels equals the loop, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from kernel_examples import by_loop, example

from kpn_cli.network.kernel_filter import continue_rows, filter_frames, pad_frames


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


def test_the_gradient_passes_gradcheck():
    burst, kernels = example(batch=1, count=2, channels=2, side=3, height=3, width=4)
    assert torch.autograd.gradcheck(
        lambda weights: filter_frames(burst, weights), kernels.requires_grad_()
    )


def test_the_memory_layout_of_the_kernels_does_not_matter():
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


def test_the_planes_share_the_kernels():
    burst, kernels = example()
    alone = [filter_frames(burst[:, :, n : n + 1], kernels) for n in range(4)]
    assert torch.equal(filter_frames(burst, kernels), torch.cat(alone, 2))


def test_filtering_does_not_change_its_arguments():
    burst, kernels = example()
    before = burst.clone(), kernels.clone()
    filter_frames(burst, kernels)
    assert torch.equal(burst, before[0])
    assert torch.equal(kernels, before[1])


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 7), st.data())
def test_rows_are_continued_as_whole_frames_are(height, width, reach, data):
    frames, _ = example(batch=1, height=height, width=width)
    whole = pad_frames(frames, reach)[0]
    first = data.draw(st.integers(0, height - 1))
    rows = data.draw(st.integers(1, height - first)) + 2 * reach
    out = torch.full((*whole.shape[:2], rows, whole.shape[3]), torch.nan, dtype=whole.dtype)
    continue_rows(frames[0], first - reach, out, reach)
    assert torch.equal(out, whole[:, :, first : first + rows])
