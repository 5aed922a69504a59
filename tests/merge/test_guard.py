"""The mix of result and reference has a lower error than either."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.merge import guard
from kpn_cli.merge.guard import fall_back_to_reference

SIDE = 120
SHOT, READ = torch.full((1, 4), 1e-3), torch.full((1, 4), 1e-5)


def example(bias=0.0, weight=0.0, others=0.02, level=0.3, seed=0):
    """Truth, reference and a result that is off by `bias` sigmas, with independent noise."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.full((1, 4, SIDE, SIDE), level)
    sigma = (1e-3 * level + 1e-5) ** 0.5
    noise, rest = (torch.randn(truth.shape, generator=generator) * sigma for _ in range(2))
    return truth, truth + noise, truth + weight * noise + others**0.5 * rest + bias * sigma, sigma


def errors(bias=0.0, weight=0.0, **more):
    """Mean squares, in units of the reference's variance: of the result, and of the mix."""
    truth, reference, clean, sigma = example(bias, weight, **more)
    mixed, share = fall_back_to_reference(
        clean, reference, torch.full((1, SIDE, SIDE), weight), SHOT, READ
    )
    square = [float((x - truth).square().mean()) / sigma**2 for x in (clean, mixed)]
    return *square, float(share.mean())


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 0.9])
def test_a_result_that_differs_by_noise_alone_is_kept(weight):
    # The rest of the noise is what a mean would have at this weight of the reference.
    before, after, share = errors(weight=weight, others=weight * (1 - weight))
    assert share > 0.99
    assert after == pytest.approx(before, rel=0.03, abs=1e-4)


@given(st.floats(-30, 30), st.floats(0, 0.95), st.floats(0.02, 1))
def test_the_mix_is_never_worse_than_the_reference(bias, weight, level):
    _, after, _ = errors(bias, weight, others=0.02, level=level)
    # 58,000 samples: their mean square is known to 0.6 %.
    assert after < 1.03


def test_a_smooth_result_that_is_right_shows_no_specks_of_the_reference():
    """Of a million samples, some squares are noisier than most by chance alone."""
    worst = 0.0
    for seed in range(16):
        _, reference, clean, sigma = example(others=0.0, seed=seed)
        mixed, _ = fall_back_to_reference(clean, reference, torch.zeros(1, SIDE, SIDE), SHOT, READ)
        worst = max(worst, float((mixed - clean).abs().max()) / sigma)
    # With an onset of 0.4 it was 0.8, and with replicated borders 1.4.
    assert worst < 0.3


def test_a_small_error_all_over_the_picture_is_found():
    before, after, _ = errors(bias=0.75)
    assert before == pytest.approx(0.75**2 + 0.02, rel=0.05)
    assert after < 0.75 * before  # the best mix: 0.63


def test_a_ghost_is_replaced_by_the_reference():
    before, after, share = errors(bias=50)
    assert before > 2000
    assert after == pytest.approx(1, abs=0.05)
    assert share < 0.01


def test_a_hot_pixel_of_the_reference_causes_no_fallback():
    truth, reference, clean, _ = example()
    reference[0, 1, 60, 60] += 0.5
    mixed, share = fall_back_to_reference(clean, reference, torch.zeros(1, SIDE, SIDE), SHOT, READ)
    assert float(share[0, 0, 60, 60]) > 0.9
    assert float((mixed - truth)[0, 1, 60, 60].abs()) < 0.06


def test_shadows_beside_something_bright_are_judged_by_their_own_noise():
    """A mean over neighbours would accept errors in the shadow that are noise in the light."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.full((1, 4, 60, 60), 1e-3)
    truth[..., 30:] = 0.8
    sigma = (1e-3 * truth + 1e-7).sqrt()
    reference = truth + sigma * torch.randn(truth.shape, generator=generator)
    clean = truth.clone()
    clean[..., 29] += 5 * sigma[..., 29]  # dark column at the edge, too bright
    read = torch.full((1, 4), 1e-7)
    mixed, _ = fall_back_to_reference(clean, reference, torch.zeros(1, 60, 60), SHOT, read)
    before, after = (float((x - truth)[..., 29].square().mean()) for x in (clean, mixed))
    assert after < 0.5 * before


@pytest.mark.parametrize("clip", [1.0, 0.9])
@pytest.mark.parametrize("clipped", [1, 3])
def test_clipped_planes_do_not_hide_errors_of_the_others(clipped, clip):
    """Where both are clipped they agree, whatever the result shows in other planes."""
    truth, reference, clean, _ = example(bias=3)
    shares = []
    for planes in (0, clipped):
        for picture in (truth, reference, clean):
            picture[:, :planes] = clip
        kept_nothing = torch.zeros(1, SIDE, SIDE)
        shares.append(
            fall_back_to_reference(clean, reference, kept_nothing, SHOT, READ, clip=clip)[1]
        )
    assert shares[0].mean() < 0.15
    torch.testing.assert_close(shares[1].mean(), shares[0].mean(), atol=0.02, rtol=0)


@pytest.mark.parametrize("clip", [1.0, 0.9])
def test_a_result_too_dark_where_the_reference_is_clipped_is_refused(clip):
    white = torch.full((1, 4, SIDE, SIDE), clip)
    clean = white - 0.3
    kept_nothing = torch.zeros(1, SIDE, SIDE)
    mixed, share = fall_back_to_reference(clean, white, kept_nothing, SHOT, READ, clip=clip)
    assert share.max() < 0.02
    torch.testing.assert_close(mixed, white, atol=0.01, rtol=0)


def test_where_all_is_clipped_the_result_is_kept():
    white = torch.ones(1, 4, SIDE, SIDE)
    _, share = fall_back_to_reference(white, white, torch.zeros(1, SIDE, SIDE), SHOT, READ)
    assert float(share.min()) == 1


def spot(confirmed: bool):
    """A result that lacks a spot of the reference; other frames have it too if `confirmed`."""
    truth, reference, clean, sigma = example()
    reference[0, 3, 60, 60] += 80 * sigma
    generator = torch.Generator().manual_seed(1)
    others = truth[:, None].repeat(1, 7, 1, 1, 1)
    others += sigma * torch.randn(others.shape, generator=generator)
    if confirmed:
        others[0, :5, 3, 60, 60] += 80 * sigma  # two of seven lie elsewhere
    kept_nothing = torch.zeros(1, SIDE, SIDE)
    mixed, _ = fall_back_to_reference(clean, reference, kept_nothing, SHOT, READ, others)
    return mixed, reference


def test_a_spot_that_other_frames_show_too_is_kept():
    mixed, reference = spot(confirmed=True)
    assert mixed[0, 3, 60, 60] == reference[0, 3, 60, 60]


def test_a_spot_of_the_reference_alone_is_removed():
    mixed, reference = spot(confirmed=False)
    assert mixed[0, 3, 60, 60] < reference[0, 3, 60, 60] - 0.5


def test_a_dot_in_texture_that_lies_elsewhere_in_every_frame_is_kept():
    """The others then show neither the reference's sample nor the result's."""
    truth, reference, clean, sigma = example()
    clean[0, 3, 60, 60] += 40 * sigma
    away = torch.tensor([-90.0, 60, 100, 150, 200, 250, 300])
    others = truth[:, None].repeat(1, 7, 1, 1, 1)
    others[0, :, 3, 60, 60] += away * sigma
    mixed, _ = fall_back_to_reference(
        clean, reference, torch.zeros(1, SIDE, SIDE), SHOT, READ, others
    )
    assert mixed[0, 3, 60, 60] == reference[0, 3, 60, 60]


@pytest.mark.parametrize("brightest", [0.5, 1.2])
def test_bands_do_not_change_the_mix(monkeypatch, brightest):
    """So the guard looks no further than it says; and nothing clipped is no special case."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.linspace(0.1, brightest, SIDE)[:, None].expand(1, 4, SIDE, SIDE)
    reference = (steps + 0.02 * torch.randn(steps.shape, generator=generator)).clamp_max(1)
    clean = steps + 0.02 * (torch.rand(steps.shape, generator=generator) > 0.97)
    clean[..., 40:50, 50:60] += 0.2
    others = reference[:, None] + 0.01 * torch.randn(1, 3, *steps.shape[1:], generator=generator)
    weight = torch.rand(1, SIDE, SIDE, generator=generator)
    arguments = clean, reference, weight, SHOT, READ, others
    whole = fall_back_to_reference(*arguments)
    assert 0.05 < whole[1].mean() < 0.95
    monkeypatch.setattr(guard, "_CELLS_AT_ONCE", 1)
    for one, other in zip(fall_back_to_reference(*arguments), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
