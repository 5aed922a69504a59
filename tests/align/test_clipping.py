"""Clipped samples of other frames are replaced by the reference's, smoothly and without bias."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_bursts import bracket

from kpn_cli.align.clipping import exclude_clipped
from kpn_cli.image.noise_model import NoiseModel


def ramp_bracket(gain=4.0, side=96):
    """A scene that brightens from left to right, and a frame that clips on the way."""
    quiet = NoiseModel.uniform(1e-5, 1e-8)
    scene = np.broadcast_to(np.linspace(0, 0.9, side, dtype=np.float32), (4, side, side))
    scene = scene * np.float32([0.5, 1, 1, 0.7])[:, None, None]
    rng = np.random.default_rng(0)
    frames = [np.minimum(quiet.sample(scene * g, rng), 1) / np.float32(g) for g in (1, gain)]
    models = [quiet.scaled(1 / g) for g in (1, gain)]
    shot, read = (torch.tensor([[getattr(m, name) for m in models]]) for name in ("shot", "read"))
    return torch.from_numpy(np.stack(frames))[None], shot, read, torch.tensor([[1, 1 / gain]])


def test_the_weight_of_a_cell_falls_smoothly_to_zero_before_its_brightest_plane_clips():
    burst, shot, read, clip = ramp_bracket()
    _, weight = exclude_clipped(burst, shot, read, clip)
    along = weight[0, 1].mean(0)
    brightest = burst[0, 0].amax(0).mean(0)
    assert (along[brightest < 0.7 * 0.25] == 1).all()
    assert (along[brightest > 0.98 * 0.25] == 0).all()
    assert along.diff().max() < 0.01
    # The steepest of a smooth step over a fifth of the way to the clipping point.
    assert along.diff().min() > -1.5 * (0.9 * 4 / 95) / 0.2 - 0.02
    assert (weight[0, 0] == 1).all()


def test_where_a_frame_is_left_out_the_burst_holds_the_reference():
    burst, shot, read, clip = ramp_bracket()
    found, weight = exclude_clipped(burst, shot, read, clip)
    out = weight[:, 1, None] == 0
    assert out.any()
    assert torch.equal(found[:, 1][out.expand(-1, 4, -1, -1)],
                       burst[:, 0][out.expand(-1, 4, -1, -1)])  # fmt: skip
    assert torch.equal(found[:, 0], burst[:, 0])


def test_a_cell_one_plane_of_which_is_clipped_is_left_out_whole():
    burst, shot, read, clip = ramp_bracket()
    burst[0, 1, 3, 40, 5] = 0.25  # a hot blue sample in the dark, clipped
    _, weight = exclude_clipped(burst, shot, read, clip)
    assert weight[0, 1, 40, 5] == 0
    assert weight[0, 1, 40, 6] == 1


def test_frames_that_never_clip_are_left_as_they_are_to_the_last_bit():
    burst, shot, read, _ = ramp_bracket()
    found, weight = exclude_clipped(burst, shot, read, torch.full((1, 2), torch.inf))
    assert torch.equal(found, burst)
    assert (weight == 1).all()


def test_noise_moves_the_fade_away_from_the_clipping_point():
    """Else what is bright by chance would be clipped, and the rest of it count: too dark."""
    gains, level = [1.0, 4.0], 0.21
    model = NoiseModel.uniform(1e-2, 1e-4)
    burst, shot, read, clip = bracket(gains, level, model)
    assert (burst[:, 1] >= 0.25).float().mean() > 0.02
    found, weight = exclude_clipped(burst, shot, read, clip)
    assert weight[:, 1].mean() < 0.05
    assert found.mean((0, 2, 3, 4))[1].item() == pytest.approx(level, rel=0.02)


def test_coefficients_without_an_axis_of_frames_are_refused():
    burst, shot, read, clip = ramp_bracket()
    with pytest.raises(ValueError, match="coefficients of each frame"):
        exclude_clipped(burst, shot[:, 0], read[:, 0], clip)


def test_the_fade_ends_two_sigmas_of_a_frame_s_own_noise_below_its_clipping_point():
    """At the clipping point 1/g, in the reference's exposure, the variance is S/g^2 + O/g^2."""
    gain, shot, read = 4.0, 2e-3, 1e-4
    end = (1 - 2 * (shot + read) ** 0.5) / gain
    model = NoiseModel.uniform(shot, read).scaled(1 / gain)
    coefficients = [torch.tensor([[getattr(model, name)] * 2]) for name in ("shot", "read")]
    for signal, left_out in ((end - 0.002, False), (end + 0.002, True)):
        burst = torch.full((1, 2, 4, 8, 8), signal)
        _, weight = exclude_clipped(burst, *coefficients, torch.tensor([[1, 1 / gain]]))
        assert (weight[0, 1] == 0).all() == left_out


def test_blended_samples_are_right_in_the_mean():
    """The weight must not depend on the noise of what it weights: the reference's sample either."""
    torch.manual_seed(0)
    shot, read, gain, level = 1e-2, 1e-4, 4.0, 0.17
    shots = torch.tensor([[[shot] * 4, [shot / gain] * 4]])
    reads = torch.tensor([[[read] * 4, [read / gain**2] * 4]])
    sigmas = (shots * level + reads).sqrt()[..., None, None]
    burst = level + sigmas * torch.randn(1, 2, 4, 400, 400)
    clip = torch.tensor([[1.0, 1 / gain]])
    blended, weight = exclude_clipped(burst, shots, reads, clip)
    assert 0.2 < weight[:, 1].mean() < 0.8  # within the fade
    usable = weight[:, 1, 2:-2, 2:-2] > 0
    assert usable.float().mean() > 0.5
    assert blended[0, 1, :, 2:-2, 2:-2].mean().item() == pytest.approx(level, abs=5e-4)
