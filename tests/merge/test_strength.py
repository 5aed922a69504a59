"""Strength above 1 removes more; texture that is larger than the noise stays."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from kpn_cli.merge.strength import apply_strength, assumed_share, repeat_dilated_filter
from kpn_cli.network.apply_kernels import (
    DILATION,
    Merged,
    apply_kernels,
    filter_dilated,
    restore_in_bands,
)
from kpn_cli.network.kernel_filter import filter_frames
from kpn_cli.network.kpn import KPN, KPNConfig


def merged_of(clean: torch.Tensor) -> Merged:
    return Merged(clean, torch.zeros_like(clean[:, 0]))


def noise_like(shape: tuple[int, ...], sigma: float, seed: int = 0) -> torch.Tensor:
    return sigma * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- repeated passes --------------------------------------------------------


def filter_under(picture: torch.Tensor, kernels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Filter as `filter_dilated` does, with given kernels, the dilated ones last."""
    dilated = kernels[:, -1:]
    return filter_frames(picture[:, None], dilated, DILATION)[:, 0], dilated[
        :, 0, dilated.shape[2] // 2
    ]


def test_passes_with_kernels_computed_in_bands_equal_those_with_given_kernels():
    torch.manual_seed(0)
    network = KPN(KPNConfig(frames=3, widths=(8, 8), head=8, wide=True))
    with torch.no_grad():
        network.head_weight.mul_(30)
    burst = torch.rand(2, 3, 4, 11, 13)
    noise = torch.full((2, 4), 1e-2)
    band_values = 3 * 13 * 25
    with torch.no_grad():
        encoded = network.encoded(burst, noise, noise)
        kernels = network.kernels(encoded)
        merged = restore_in_bands(network, burst, encoded, band_values=band_values)
        made = partial(filter_dilated, network, x=encoded.features, band_values=band_values)
        kept = partial(filter_under, kernels=kernels)
        again = repeat_dilated_filter(merged, torch.tensor(0.01), 1.7, made)
        torch.testing.assert_close(
            again, repeat_dilated_filter(merged, torch.tensor(0.01), 1.7, kept)
        )
        # The weight of the reference's own sample, where no change comes near the limit.
        free = repeat_dilated_filter(merged, torch.tensor(1e6), 1.7, made)
        brighter = burst.clone()
        brighter[0, 0, :, 5, 6] += 1
        brighter = merged_of(apply_kernels(brighter, kernels).clean)
        risen = repeat_dilated_filter(brighter, torch.tensor(1e6), 1.7, kept).clean - free.clean
    assert (again.clean - merged.clean).abs().max() > 0.001
    # A pass moves a sample away and its neighbours bring a little of it back.
    torch.testing.assert_close(
        risen[0, :, 5, 6], free.reference_weight[0, 5, 6].expand(4), atol=2e-2, rtol=0
    )


@pytest.mark.parametrize("passes", [1, 4.5])
def test_passes_draw_no_echo_of_a_line(passes):
    """The taps are 3 cells apart: beside a bright line some hit it."""
    lines = torch.full((1, 4, 30, 30), 0.2)
    lines[..., 15] = 1
    kernels = torch.full((1, 1, 25, 30, 30), 1 / 25)
    filtered = partial(filter_under, kernels=kernels)
    done = repeat_dilated_filter(merged_of(lines), torch.tensor(0.01), passes, filtered).clean
    assert (filtered(lines)[0] - lines).abs().max() > 0.1
    assert 0 < (done - lines).abs().max() <= 0.005 * (1 + 1e-4)


def test_passes_keep_what_changes_by_more_than_the_limit():
    kernels = torch.full((1, 1, 25, 30, 30), 1 / 25)
    edge = torch.zeros(1, 4, 30, 30)
    edge[..., 15:] = 1
    noisy = merged_of(edge + noise_like(edge.shape, 1e-3))
    filtered = partial(filter_under, kernels=kernels)
    done = repeat_dilated_filter(noisy, torch.tensor(0.01), 3, filtered).clean
    assert (done - edge)[..., :2].std() < 0.5e-3
    assert (done - edge).abs().max() < 0.01


# --- the share of the assumed noise -----------------------------------------

_SIGMA = torch.tensor(0.1)
_SHAPE = (1, 4, 40, 40)


def _strengthened(
    plain: Merged, assumed: Merged, strength: float = 2.0, dilated_filter=None
) -> Merged:
    share = assumed_share(plain.clean, assumed.clean, _SIGMA.square())
    return apply_strength(plain, assumed, share, _SIGMA, strength, dilated_filter)


def test_a_strength_just_above_1_changes_next_to_nothing():
    plain = merged_of(torch.rand(_SHAPE))
    filtered = partial(filter_under, kernels=torch.full((1, 1, 25, 40, 40), 1 / 25))
    done = _strengthened(plain, plain, 1 + 1e-6, filtered)
    torch.testing.assert_close(done, plain, rtol=0, atol=1e-6)


def test_residual_noise_of_the_result_that_assumes_more_noise_does_not_come_back():
    """Under the true noise a fiftieth of sigma is left, under the assumed noise a twentieth."""
    plain, assumed = (
        merged_of(0.5 + noise_like(_SHAPE, share * 0.1, seed))
        for seed, share in enumerate((0.02, 0.05))
    )
    assert (assumed.clean - 0.5).std() > 2.4 * (plain.clean - 0.5).std()
    done = _strengthened(plain, assumed)
    assert (done.clean - 0.5).std() < 1.05 * (plain.clean - 0.5).std()


def test_texture_that_the_network_removes_under_the_assumed_noise_is_removed():
    """Stripes of half a sigma, and the weights of the reference's own samples with them."""
    stripes = 0.5 + 0.05 * torch.tensor([1.0, -1.0]).repeat(20).expand(_SHAPE)
    plain = Merged(stripes, torch.full((1, 40, 40), 0.8))
    assumed = Merged(torch.full(_SHAPE, 0.5), torch.full((1, 40, 40), 0.1))
    done = _strengthened(plain, assumed)
    assert (done.clean - 0.5).abs().max() < 0.01 * 0.05
    torch.testing.assert_close(done.reference_weight, assumed.reference_weight, atol=0.01, rtol=0)


def test_every_region_is_judged_separately():
    """On the left only residual noise differs; on the right texture was removed."""
    texture = torch.zeros(_SHAPE)
    texture[..., 20:] = noise_like((1, 4, 40, 20), 0.1)
    plain = merged_of(texture + noise_like(_SHAPE, 0.002, 1))
    assumed = merged_of(noise_like(_SHAPE, 0.002, 2))
    done = _strengthened(plain, assumed).clean
    torch.testing.assert_close(done[..., :18], plain.clean[..., :18], atol=1e-4, rtol=0)
    torch.testing.assert_close(done[..., 22:], assumed.clean[..., 22:], atol=5e-3, rtol=0)


@pytest.mark.parametrize("strengths", [(1.25, 2), (2, 4)])
def test_more_strength_leaves_less_noise(strengths):
    left = merged_of(noise_like(_SHAPE, 0.003))
    filtered = partial(filter_under, kernels=torch.full((1, 1, 25, 40, 40), 1 / 25))
    less, more = (_strengthened(left, left, s, filtered).clean.std() for s in strengths)
    assert more < 0.9 * less
