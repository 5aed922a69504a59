"""A difference of the greens that is noise is removed; one that is the picture's stays."""

from __future__ import annotations

import pytest
import torch
from pictures import planes

from kpn_cli.image.filters import box
from kpn_cli.merge import green_equilibration
from kpn_cli.merge.green_equilibration import equilibrate_greens

SHOT, READ = torch.full((1, 4), 1e-3), torch.full((1, 4), 1e-5)
LEVEL, SIDE = 0.02, 60
SIGMA = (1e-3 * LEVEL + 1e-5) ** 0.5
NOT_MERGED, MERGED = torch.ones(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)


def flat(apart=0.0):
    """A flat picture whose greens are `apart` sigmas apart."""
    clean = torch.full((1, 4, SIDE, SIDE), LEVEL)
    clean[:, 1] += apart * SIGMA / 2
    clean[:, 2] -= apart * SIGMA / 2
    return clean


def slope(down, right):
    """Planes of a mosaic that grows brighter downwards and to the right."""
    row, column = torch.meshgrid(torch.arange(2 * SIDE), torch.arange(2 * SIDE), indexing="ij")
    mosaic = 0.3 + 1e-3 * (down * row + right * column)
    return torch.stack([mosaic[y::2, x::2] for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))])[None]


def apart(clean):
    """Mean difference of the greens in sigmas, away from the border."""
    return float((clean[:, 1] - clean[:, 2])[..., 4:-4, 4:-4].mean()) / SIGMA


def test_a_small_difference_is_removed_and_the_mean_kept():
    before = flat(0.01)
    after = equilibrate_greens(before, flat(), MERGED, SHOT, READ)
    assert abs(apart(after)) < 0.05 * apart(before)
    torch.testing.assert_close(after.sum(1), before.sum(1))
    torch.testing.assert_close(after[:, [0, 3]], before[:, [0, 3]], rtol=0, atol=0)


def test_a_difference_larger_than_the_noise_stays():
    before = flat(3.0)
    assert apart(equilibrate_greens(before, flat(), MERGED, SHOT, READ)) > 0.95 * apart(before)


def test_samples_that_were_not_merged_are_not_changed():
    before = flat(0.01)
    after = equilibrate_greens(before, flat(), NOT_MERGED, SHOT, READ)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (1, 1), (1, -1)])
def test_a_gradient_is_not_changed(direction):
    """The greens are sampled half a cell apart and so differ on a slope."""
    clean = slope(*direction)
    after = equilibrate_greens(clean, clean, MERGED, SHOT, READ)
    torch.testing.assert_close(after[..., 3:-3, 3:-3], clean[..., 3:-3, 3:-3], rtol=0, atol=1e-7)


@pytest.mark.parametrize("left", [0.05, 0.1])
def test_smooth_residual_noise_is_reduced(left):
    """Kernels leave smooth noise, here `left` sigmas of it; the picture is a slope."""
    generator = torch.Generator().manual_seed(1)
    truth = slope(1, -1)
    smooth = box(torch.randn(1, 4, SIDE, SIDE, generator=generator), 5)
    clean = truth + left * (1e-3 * truth + 1e-5).sqrt() * smooth / smooth.std()
    after = equilibrate_greens(clean, truth, MERGED, SHOT, READ)
    errors = [(x - truth)[:, 1:3] for x in (clean, after)]
    assert errors[1].square().mean() < errors[0].square().mean()
    # What demosaicing shows: the greens' difference over some cells.
    grids = [box(error[:, :1] - error[:, 1:], 3).square().mean() ** 0.5 for error in errors]
    assert grids[1] < 0.7 * grids[0]


def test_texture_hardly_changes():
    """The changes are a small share of the noise's sigma."""
    truth = torch.from_numpy(planes(3, 80, 80))[None]
    after = equilibrate_greens(truth, truth, torch.zeros(1, 80, 80), SHOT, READ)
    sigma = (1e-3 * truth + 1e-5).sqrt()
    assert float(((after - truth) / sigma).square().mean().sqrt()) < 0.05


@pytest.mark.parametrize("rows", [1, 7])
def test_bands_do_not_change_the_result(monkeypatch, rows):
    generator = torch.Generator().manual_seed(0)
    clean = flat() + SIGMA / 5 * torch.randn(1, 4, SIDE, SIDE, generator=generator)
    weight = torch.rand(1, SIDE, SIDE, generator=generator)
    whole = equilibrate_greens(clean, clean, weight, SHOT, READ)
    assert not torch.equal(whole, clean)
    monkeypatch.setattr(green_equilibration, "_CELLS_AT_ONCE", rows * SIDE)
    banded = equilibrate_greens(clean, clean, weight, SHOT, READ)
    torch.testing.assert_close(banded, whole, rtol=1e-6, atol=1e-9)


def test_the_result_equals_the_formula_in_the_middle():
    generator = torch.Generator().manual_seed(0)
    clean = flat() + SIGMA / 5 * torch.randn(1, 4, SIDE, SIDE, generator=generator)
    first, second = clean[0, 1], clean[0, 2]

    def apart(y, x):
        """Half of how much brighter G1 is than G2, each compared with the four around it."""
        around_first = (
            second[y, x] + second[y - 1, x] + second[y, x + 1] + second[y - 1, x + 1]
        ) / 4
        around_second = (first[y, x] + first[y + 1, x] + first[y, x - 1] + first[y + 1, x - 1]) / 4
        return ((first[y, x] - around_first) - (second[y, x] - around_second)) / 2

    row, column = 20, 31
    near = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    difference = torch.stack([apart(*place) for place in near]).mean()
    signal = torch.stack([clean[0, 1:3, y, x] for y, x in near]).mean(0)
    small = 0.15 * (1e-3 * signal + 1e-5).sqrt().mean()
    change = difference / 2 * small**2 / (small**2 + difference**2)
    after = equilibrate_greens(clean, clean, MERGED, SHOT, READ)[0, :, row, column]
    expected = clean[0, :, row, column] + change * torch.tensor([0, -1, 1, 0])
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-7)
