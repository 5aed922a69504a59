"""Sharpness is measured by edges, across and down."""

from __future__ import annotations

import pytest
import torch

from kpn_cli.align.blur import normalised_gradients, relative_sharpness

SIDE = 160
VARIANCE = torch.full((4, SIDE, SIDE), 1e-6)


def texture(seed=0):
    """Squares of 8 cells a side, each of its own brightness."""
    generator = torch.Generator().manual_seed(seed)
    squares = torch.rand(SIDE // 8, SIDE // 8, generator=generator)
    return squares.repeat_interleave(8, 0).repeat_interleave(8, 1).expand(4, SIDE, SIDE)


def sharpness_of(*frames):
    return relative_sharpness([normalised_gradients(torch.stack(frames), VARIANCE)])


def test_a_frame_as_sharp_as_the_reference_has_all_its_edges():
    assert sharpness_of(texture(), texture()) == [1, 1]


def test_edges_count_wherever_they_are():
    assert sharpness_of(texture(), texture().roll(8, 2)) == [1, 1]


@pytest.mark.parametrize("dim", [1, 2])
def test_shake_in_one_direction_counts(dim):
    smeared = torch.stack([texture().roll(n, dim) for n in range(32)]).mean(0)
    assert sharpness_of(texture(), smeared)[1] < 0.15


def test_a_flat_reference_says_nothing():
    flat = torch.full((4, SIDE, SIDE), 0.2)
    assert sharpness_of(flat, texture()) == [1, 1]


def test_gradients_of_noise_have_unit_variance():
    generator = torch.Generator().manual_seed(0)
    noise = 1e-3 * torch.randn(1, 4, SIDE, SIDE, generator=generator)
    for gradients in normalised_gradients(noise, VARIANCE):
        assert float(gradients.square().mean()) == pytest.approx(1, abs=0.1)
