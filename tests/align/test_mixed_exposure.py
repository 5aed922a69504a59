"""Frames of different exposure: aligned, compared and matched, each with its own noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from mixed_bursts import BRACKET, NOISE, dim_scene, expose, matched
from pictures import planes
from shifted_scenes import cut, scene_of

from kpn_cli.align import alignment, mixed_exposure
from kpn_cli.align.alignment import align_burst, align_frames
from kpn_cli.align.mixed_exposure import agreement, blocks, light_of, pairs
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis.protocol import noise_of_gain

SIZE = 160
SHIFTS = ((0, 0), (3, -5), (-7, 4))


def moved_scenes(brightest, shifts=SHIFTS, size=SIZE):
    """The scene as a camera sees it that moved by whole cells; dark on its left."""
    big = scene_of(3, size, size)
    big *= np.linspace(0.05, 1, big.shape[1], dtype=np.float32) if brightest > 0.25 else 1
    return [np.float32(brightest) * cut(big, size, size, shift) for shift in shifts]


# --- shifts -----------------------------------------------------------------


@pytest.mark.parametrize("brightest", [0.22, 0.9], ids=["nothing clips", "the longest clips"])
@pytest.mark.parametrize("gains", [BRACKET, (1.0, 1.0, 1.0), (1.0, 2.0, 4.0), (1.0, 0.5, 0.25)])
def test_frames_of_other_exposures_are_aligned_as_frames_of_the_same_one(gains, brightest):
    noise = noise_of_gain(1)
    frames = matched(expose(moved_scenes(brightest), gains, noise), gains)
    if 4.0 in gains and brightest == 0.9:
        assert (frames[2].samples == 1).float().mean() > 0.1
    for shift, found in zip(SHIFTS, align_frames(frames, noise), strict=True):
        inner = found[1:-1, 1:-1].reshape(-1, 2)
        right = (inner == torch.tensor(shift)).all(1).float().mean()
        assert right > 0.9, (shift, right)


# --- exposure ---------------------------------------------------------------


@pytest.mark.parametrize("brightest", [0.22, 0.9], ids=["nothing clips", "the longest clips"])
@pytest.mark.parametrize("gain", [0, 1])
@pytest.mark.parametrize("off", [0.94, 0.97, 1.03, 1.06])
def test_the_error_of_a_shutter_is_measured_to_a_per_cent(off, gain, brightest):
    noise = noise_of_gain(gain)
    true = (1.0, 0.25 / off, 4 * off)
    found = align_burst(expose(moved_scenes(brightest), true, noise), noise, stated=BRACKET)
    assert found.used == [0, 1, 2]
    assert found.exposure == pytest.approx(true, rel=0.01)
    for frame, value in zip(found.frames, found.exposure, strict=True):
        assert frame.gain == pytest.approx(1 / value)


def smooth_scene():
    y, x = np.mgrid[:96, :128]
    wave = np.float32(0.02 + 0.1 * (1 + np.sin(x / 11 + y / 15)))
    return np.broadcast_to(wave, (4, 96, 128))


@pytest.mark.parametrize("off", [0.94, 1.06])
def test_in_a_smooth_picture_the_error_of_a_shutter_passes_for_no_shift(off):
    quiet, true = NoiseModel.uniform(1e-5, 6e-6), (1.0, 0.25 / off, 4 * off)
    found = align_burst(expose(smooth_scene(), true, quiet), quiet, stated=BRACKET)
    assert found.exposure == pytest.approx(true, rel=0.005)
    assert min(found.robustness) > 0.85


@pytest.mark.parametrize("seed", range(4))
def test_motion_alone_changes_no_exposure(seed):
    shifts = [(0, 0), *np.random.default_rng(seed).integers(-12, 13, (2, 2)).tolist()]
    frames = expose(moved_scenes(0.22, shifts), noise=noise_of_gain(0))
    found = align_burst(frames, noise_of_gain(0), stated=BRACKET)
    assert found.exposure == pytest.approx(BRACKET, rel=0.005)


def test_frames_with_the_stated_exposure_keep_it_exactly():
    found = align_burst(expose(dim_scene(3, SIZE, SIZE)), NOISE, stated=BRACKET)
    assert found.exposure == list(BRACKET)


@pytest.mark.parametrize("stated", [(1.0, 1.0, 1.0), (1.0, 0.5, 2.0), (1.0, 0.1, 8.0)])
def test_what_the_frames_show_counts_if_their_tags_say_otherwise(stated):
    frames = expose(moved_scenes(0.22))
    found = align_burst(frames, NOISE, stated=stated)
    assert found.used == [0, 1, 2]
    assert found.exposure == pytest.approx(BRACKET, rel=0.01)


@pytest.mark.parametrize("stop", [-4.6, 4.6])
def test_a_frame_beyond_four_ev_is_dropped_with_a_reason(stop):
    quiet = NoiseModel.uniform(1e-5, 1e-8)
    true = (1.0, 2.0**stop)
    found = align_burst(
        expose(dim_scene(3, SIZE, SIZE, 0.03), true, quiet), quiet, stated=(1.0, 2.0**stop)
    )
    assert found.used == [0]
    assert "times as bright as the reference" in found.dropped[1]
    near = (1.0, 2.0 ** math.copysign(4, stop))
    kept = align_burst(expose(dim_scene(3, SIZE, SIZE, 0.03), near, quiet), quiet, stated=near)
    assert kept.used == [0, 1]


def test_another_scene_in_a_bracket_is_dropped():
    scene, strange = dim_scene(3, SIZE, SIZE), dim_scene(9, SIZE, SIZE)[:, ::-1]
    frames = expose([scene, strange, scene, strange], (1.0, 0.25, 4.0, 4.0))
    found = align_burst(frames, NOISE, stated=(1.0, 0.25, 4.0, 4.0))
    assert found.used == [0, 2]
    assert all("something else" in why for why in found.dropped.values())


# --- pairs ------------------------------------------------------------------


def test_bursts_of_one_exposure_make_one_pair_that_nothing_clips():
    frames = [Frame(torch.rand(4, 8, 8)) for _ in range(4)]
    assert pairs(frames, NOISE) == [mixed_exposure.Pair(NOISE, math.inf, [1, 2, 3])]
    assert pairs(frames[:1], NOISE) == []


def test_frames_of_one_exposure_and_noise_share_a_pair():
    gains = (1.0, 4.0, 0.25, 4.1, 1.02, 0.26)
    frames = matched(expose(dim_scene(3, 16, 16), gains), gains)
    found = pairs(frames, NOISE)
    assert [pair.frames for pair in found] == [[1, 3], [2, 5], [4]]
    assert [pair.clip for pair in found] == pytest.approx([1 / 4.1, 1, 1 / 1.02])


def test_frames_of_another_noise_have_a_pair_of_their_own():
    gains = (1.0, 4.0, 4.0)
    frames = matched(expose(dim_scene(3, 16, 16), gains), gains)
    frames[2] = replace(frames[2], noise=NOISE.at_iso(4))
    assert [pair.frames for pair in pairs(frames, NOISE)] == [[1], [2]]


@pytest.mark.parametrize("gain", [0.25, 4.0])
def test_a_pair_has_the_mean_noise_of_its_frames(gain):
    gains = (1.0, gain)
    level = np.full((4, 128, 128), 0.1, np.float32)
    frames = matched(expose(level, gains), gains)
    (pair,) = pairs(frames, NOISE)
    variances = [frame.linear(frame.samples).var().item() for frame in frames]
    assert pair.noise.variance(level).mean() == pytest.approx(np.mean(variances), rel=0.03)


# --- blocks and agreement ---------------------------------------------------


def compared(frames):
    """The frames in the reference's exposure, stacked."""
    return torch.stack([frame.linear(frame.samples) for frame in frames])


def test_blocks_in_which_a_frame_is_clipped_are_not_used():
    scene = np.full((4, 32, 64), 0.1, np.float32)
    scene[1, 20, 40] = 0.4  # in the third block of the lower row; beyond the long exposure
    frames = matched(expose(scene))
    found = blocks(compared(frames), frames, NOISE)
    assert found.usable.shape == (3, 8)
    assert found.usable[:2].all()
    assert found.usable[2].tolist() == [True] * 6 + [False, True]
    sums, reference, sigma = found.with_reference(2)
    assert len(sums) == len(reference) == len(sigma) == 7
    assert torch.equal(sums, found.sums[2, found.usable[2]])


def test_the_noise_of_blocks_is_each_frame_s_own():
    scene = np.full((4, 512, 512), 0.1, np.float32)
    frames = matched(expose(scene))
    found = blocks(compared(frames), frames, NOISE)
    measured = found.sums.std(1)
    assert found.sigma.mean(1) == pytest.approx(measured, rel=0.06)


def half_clipped(agrees: bool):
    """A long exposure whose right half is clipped; its left half shows the scene, or another."""
    scene = dim_scene(3, 96, 96)
    scene[..., 48:] += 0.5
    other = scene if agrees else np.ascontiguousarray(scene[:, ::-1])
    frames = matched(expose([scene, other], (1.0, 4.0)), (1.0, 4.0))
    return agreement(compared(frames), frames, NOISE), frames


@pytest.mark.parametrize("agrees", [True, False])
def test_a_frame_that_is_clipped_in_half_of_a_square_is_judged_by_the_other_half(agrees):
    found, frames = half_clipped(agrees)
    assert found.comparable[0, :, :44].mean() > 0.95
    assert (found.comparable[0, :, 52:] == 0).all()
    shifts = [torch.zeros(12, 12, 2, dtype=torch.int64)] * 2
    _, comparison = alignment._compare(frames, shifts, NOISE)
    if agrees:
        assert comparison.robustness > 0.88
        assert comparison.rejected == 0
    else:
        assert comparison.robustness < 0.4
        assert comparison.rejected > 0.3


def test_a_frame_that_is_clipped_all_over_is_neither_rejected_nor_in_disagreement():
    scene = 0.3 + 0.6 * planes(3, SIZE, SIZE)
    true = (1.0, 4.0, 1.0)
    found = align_burst(expose(scene, true), NOISE, stated=true)
    assert found.used == [0, 1, 2]
    assert found.exposure == [1.0, 4.0, 1.0]
    assert found.rejected[1] == 0
    assert found.robustness[1] == 1


# --- which frames are kept --------------------------------------------------


def test_light_is_worth_the_inverse_of_the_noise():
    frames = matched(expose(dim_scene(3, 16, 16)))
    assert light_of(frames, [1.0, 1.0, 0.5])[0] == 1
    short, long = light_of(frames, [1.0, 1.0, 1.0])[1:]
    signal = 0.05
    variance = NOISE.shot[0] * signal + NOISE.read[0]
    assert short == pytest.approx(variance / (NOISE.shot[0] * signal * 4 + NOISE.read[0] * 16))
    assert long == pytest.approx(variance / (NOISE.shot[0] * signal / 4 + NOISE.read[0] / 16))
    assert light_of(frames, [1.0, 1.0, 0.5])[2] == pytest.approx(long / 2)
    plain = [replace(frame, noise=None) for frame in frames]
    assert light_of(plain, [1.0, 0.3, 0.2]) == [1.0, 0.3, 0.2]


def test_long_exposures_that_agree_are_kept_first():
    gains = (1.0, 0.25, 1.0, 4.0, 4.0)
    frames = matched(expose(dim_scene(3, 16, 16), gains), gains)
    aligned = alignment.AlignedBurst(
        used=list(range(5)),
        frames=frames,
        shifts=[torch.zeros(1, 1, 2)] * 5,
        robustness=[1.0, 0.8, 0.8, 0.7, 0.05],
        exposure=list(gains),
        rejected=[0.0] * 5,
        dropped={},
    )
    assert aligned.keep_best(3, headroom=True).used == [0, 1, 3]  # 1 can hold the brightest light
    best = aligned.keep_best(3)
    assert best.used == [0, 2, 3]
    assert best.dropped == dict.fromkeys(
        (1, 4), "2 others have more light, or agree better with the reference"
    )
