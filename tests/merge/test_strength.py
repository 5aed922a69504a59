"""Strength beyond 1: more goes, texture that is larger than the noise stays."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from kpn_cli.merge.strength import share_of_told, smoothed, strengthened
from kpn_cli.network import restore
from kpn_cli.network.kernel_filter import filter_frames
from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.restore import WIDE, Merged, merge, restore_in_bands, widely


def merged_of(clean: torch.Tensor) -> Merged:
    return Merged(clean, torch.zeros_like(clean[:, 0]))


def noise_like(shape: tuple[int, ...], sigma: float, seed: int = 0) -> torch.Tensor:
    return sigma * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- once more --------------------------------------------------------------


def widely_under(picture: torch.Tensor, kernels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `widely` does, under kernels that are at hand, the wide ones last."""
    wide = kernels[:, -1:]
    return filter_frames(picture[:, None], wide, WIDE)[:, 0], wide[:, 0, wide.shape[2] // 2]


def test_passes_under_made_kernels_are_those_under_kept_ones(monkeypatch):
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=3, widths=(8, 8), head=8, wide=True))
    with torch.no_grad():
        network.head_weight.mul_(30)
    burst = torch.rand(2, 3, 4, 11, 13)
    noise = torch.full((2, 4), 1e-2)
    monkeypatch.setattr(restore, "_BAND", 3 * 13 * 25)
    with torch.no_grad():
        x, weights = network.seen(burst, noise, noise)
        kernels = network.kernels(x, weights)
        merged = restore_in_bands(network, burst, x, weights)
        made = partial(widely, network, x=x, weights=weights)
        kept = partial(widely_under, kernels=kernels)
        again = smoothed(merged, torch.tensor(0.01), 1.7, made)
        torch.testing.assert_close(again, smoothed(merged, torch.tensor(0.01), 1.7, kept))
        # The weight of the reference's own sample, where no change comes near the limit.
        free = smoothed(merged, torch.tensor(1e6), 1.7, made)
        brighter = burst.clone()
        brighter[0, 0, :, 5, 6] += 1
        brighter = merged_of(merge(brighter, kernels).clean)
        risen = smoothed(brighter, torch.tensor(1e6), 1.7, kept).clean - free.clean
    assert (again.clean - merged.clean).abs().max() > 0.001
    # A pass moves a sample away and its neighbours bring a little of it back.
    torch.testing.assert_close(risen[0, :, 5, 6], free.own[0, 5, 6].expand(4), atol=2e-2, rtol=0)


@pytest.mark.parametrize("passes", [1, 4.5])
def test_passes_draw_no_echo_of_a_line(passes):
    """Taps lie 3 cells apart: beside a bright line each sees it, or not."""
    lines = torch.full((1, 4, 30, 30), 0.2)
    lines[..., 15] = 1
    kernels = torch.full((1, 1, 25, 30, 30), 1 / 25)
    filtered = partial(widely_under, kernels=kernels)
    done = smoothed(merged_of(lines), torch.tensor(0.01), passes, filtered).clean
    assert (filtered(lines)[0] - lines).abs().max() > 0.1
    assert 0 < (done - lines).abs().max() <= 0.005 * (1 + 1e-4)


def test_passes_keep_what_changes_by_more_than_the_limit():
    kernels = torch.full((1, 1, 25, 30, 30), 1 / 25)
    edge = torch.zeros(1, 4, 30, 30)
    edge[..., 15:] = 1
    noisy = merged_of(edge + noise_like(edge.shape, 1e-3))
    filtered = partial(widely_under, kernels=kernels)
    done = smoothed(noisy, torch.tensor(0.01), 3, filtered).clean
    assert (done - edge)[..., :2].std() < 0.5e-3
    assert (done - edge).abs().max() < 0.01


# --- where it counts --------------------------------------------------------

_SIGMA = torch.tensor(0.1)
_SHAPE = (1, 4, 40, 40)


def _strengthened(plain: Merged, told: Merged, strength: float = 2.0, widely=None) -> Merged:
    share = share_of_told(plain.clean, told.clean, _SIGMA.square())
    return strengthened(plain, told, share, _SIGMA, strength, widely)


def test_a_strength_hardly_beyond_one_changes_hardly_anything():
    plain = merged_of(torch.rand(_SHAPE))
    filtered = partial(widely_under, kernels=torch.full((1, 1, 25, 40, 40), 1 / 25))
    done = _strengthened(plain, plain, 1 + 1e-6, filtered)
    torch.testing.assert_close(done, plain, rtol=0, atol=1e-6)


def test_noise_that_the_network_leaves_when_told_more_does_not_come_back():
    """Told the truth it leaves a fiftieth of sigma, told more a twentieth."""
    plain, told = (
        merged_of(0.5 + noise_like(_SHAPE, share * 0.1, seed))
        for seed, share in enumerate((0.02, 0.05))
    )
    assert (told.clean - 0.5).std() > 2.4 * (plain.clean - 0.5).std()
    done = _strengthened(plain, told)
    assert (done.clean - 0.5).std() < 1.05 * (plain.clean - 0.5).std()


def test_texture_goes_that_the_network_takes_away_when_told_more():
    """Stripes of half a sigma, and the weights of the reference's own samples with them."""
    stripes = 0.5 + 0.05 * torch.tensor([1.0, -1.0]).repeat(20).expand(_SHAPE)
    plain = Merged(stripes, torch.full((1, 40, 40), 0.8))
    told = Merged(torch.full(_SHAPE, 0.5), torch.full((1, 40, 40), 0.1))
    done = _strengthened(plain, told)
    assert (done.clean - 0.5).abs().max() < 0.01 * 0.05
    torch.testing.assert_close(done.own, told.own, atol=0.01, rtol=0)


def test_each_place_is_judged_by_itself():
    """Left, only what is left of noise differs; right, texture has gone."""
    texture = torch.zeros(_SHAPE)
    texture[..., 20:] = noise_like((1, 4, 40, 20), 0.1)
    plain = merged_of(texture + noise_like(_SHAPE, 0.002, 1))
    told = merged_of(noise_like(_SHAPE, 0.002, 2))
    done = _strengthened(plain, told).clean
    torch.testing.assert_close(done[..., :18], plain.clean[..., :18], atol=1e-4, rtol=0)
    torch.testing.assert_close(done[..., 22:], told.clean[..., 22:], atol=5e-3, rtol=0)


@pytest.mark.parametrize("strengths", [(1.25, 2), (2, 4)])
def test_more_strength_leaves_less_of_noise(strengths):
    left = merged_of(noise_like(_SHAPE, 0.003))
    filtered = partial(widely_under, kernels=torch.full((1, 1, 25, 40, 40), 1 / 25))
    less, more = (_strengthened(left, left, s, filtered).clean.std() for s in strengths)
    assert more < 0.9 * less
