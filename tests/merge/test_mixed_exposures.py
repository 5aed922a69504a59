"""Merging frames of different exposure: each counts by its light, and none where it is clipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mixed_bursts import BRACKET, NOISE, dim_scene, expose, matched, still
from pictures import planes

from kpn_cli.merge import merge, tile
from kpn_cli.merge.tile import TileMerger
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis.protocol import noise_of_gain


def merged(network, frames, noise=NOISE, **options):
    return merge.denoise_frames(network, frames, still(frames), noise, **options)


# --- clipping ---------------------------------------------------------------


@pytest.mark.parametrize("strength", [1, 2])
def test_clipped_samples_of_other_frames_never_change_the_result(tiny_network, strength):
    scene = dim_scene(3, 64, 64)
    scene[..., 20:40, 30:50] += 0.4  # clipped in the long exposure
    frames = matched(expose(scene))
    other = frames[2].samples.clone()
    clipped = other >= 1
    assert 0.05 < clipped.float().mean() < 0.5
    other[clipped] += torch.rand(int(clipped.sum()))
    changed = [*frames[:2], replace(frames[2], samples=other)]
    one, two = (
        merged(tiny_network, burst, strength=strength, measure_residual=False, observed=1.0)
        for burst in (frames, changed)
    )
    assert np.array_equal(one.planes, two.planes)


def test_without_headroom_nothing_is_brighter_than_what_the_reference_can_hold():
    network, _ = load_weights()
    scene = 1.8 * planes(3, 96, 96)
    for saturation in (1.0, 0.9):
        frames = matched(expose(scene, saturation=saturation))
        done = merged(network, frames, measure_residual=False)
        assert done.white == 1
        clipped = (frames[0].samples >= saturation).numpy()
        assert done.planes.max() < 1.05 * saturation  # as in bursts of one exposure
        assert done.planes[clipped].mean() == pytest.approx(saturation, rel=0.01)


# --- noise ------------------------------------------------------------------


def test_a_bracket_of_equal_exposures_is_merged_as_frames_of_one_exposure():
    network, _ = load_weights()
    scene, gains = planes(3, 96, 96), (1.0,) * 5
    frames = expose(scene, gains)
    plain = [replace(frame, noise=None) for frame in frames]
    one, two = merged(network, frames), merged(network, plain)
    left = np.sqrt(np.mean((two.planes - scene) ** 2))
    assert np.sqrt(np.mean((one.planes - two.planes) ** 2)) < 0.05 * left
    assert one.residual_noise == pytest.approx(two.residual_noise, rel=0.02)


def test_a_long_exposure_leaves_less_noise_than_another_frame_like_the_reference():
    network, _ = load_weights()
    noise, scene = noise_of_gain(1), dim_scene(3, 96, 96)
    errors = []
    for gains in ((1.0, 1.0, 4.0), (1.0, 1.0, 1.0)):
        done = merged(network, matched(expose(scene, gains, noise), gains), noise)
        errors.append(np.mean((done.planes - scene) ** 2))
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize(("gain", "level"), [(0, 0.18), (1, 0.02), (1, 0.15), (4, 0.1)])
@pytest.mark.parametrize("gains", [BRACKET, (1.0, 1.0, 4.0, 4.0), (1.0, 0.25, 0.25)])
def test_more_strength_never_leaves_more_noise_in_a_bracket(gains, gain, level):
    network, noise = load_weights()[0], noise_of_gain(gain)
    scene = np.full((4, 64, 64), level, np.float32)
    frames = matched(expose(scene, gains, noise), gains)
    inner = np.s_[:, 10:-10, 10:-10]
    sigma = np.std((frames[0].samples.numpy() - level)[inner])
    left = []
    for strength in (0.5, 1, 1.5, 2, 4):
        done = merged(network, frames, noise, strength=strength, measure_residual=False)
        left.append(np.std((done.planes - level)[inner]) / sigma)
    assert max(np.diff(left)) < 5e-4, left


@pytest.mark.parametrize("what", ["all", "clipped"])
@pytest.mark.parametrize(
    ("gains", "strength"), [(BRACKET, 1), ((1.0, 4.0, 4.0, 0.25, 1.0, 4.0), 1), (BRACKET, 2)]
)
def test_the_residual_noise_of_a_bracket_is_what_two_brackets_of_a_scene_differ_by(
    what, gains, strength
):
    network, noise = load_weights()[0], noise_of_gain(1)
    scene = dim_scene(5, 192, 192)  # all of it is measured
    if what == "clipped":
        scene = 2 * planes(5, 192, 192)
    done, unclipped = [], np.ones_like(scene, bool)
    for seed in range(2):
        frames = matched(expose(scene, gains, noise, seed), gains)
        unclipped &= frames[0].samples.numpy() < 1
        done.append(merged(network, frames, noise, strength=strength))
    sigma = np.sqrt(noise.variance(scene))
    differ = ((done[0].planes - done[1].planes) / sigma)[:, 8:-8, 8:-8]
    squares = np.minimum(differ[unclipped[:, 8:-8, 8:-8]] ** 2, 36)
    left = np.sqrt(squares.mean() / 2)
    assert np.sqrt(done[0].residual_noise) == pytest.approx(left, rel=0.08)


# --- more frames than the network takes -------------------------------------


def test_groups_are_averaged_by_their_light(tiny_network, monkeypatch):
    """Each group is replaced by its number: the mean shows the groups' shares."""
    gains = (1.0, *[4.0, 0.25] * 7)  # of eight: long exposures in one group, short in the other
    scene = np.full((4, 40, 40), 0.1, np.float32)
    frames = matched(expose(scene, gains), gains)
    merger = TileMerger(tiny_network, frames, still(frames), NOISE)
    assert [len(group) for group in merger.groups] == [8, 8]
    light, real = [], TileMerger._merge_group

    def numbered(self, group):
        result, encoded = real(self, group)
        light.append(encoded.weights.sum(1))
        return result._replace(clean=torch.full_like(result.clean, len(light))), encoded

    monkeypatch.setattr(TileMerger, "_merge_group", numbered)
    monkeypatch.setattr(tile, "equilibrate_greens", lambda clean, *_: clean)
    kept_whole = lambda clean, *_, **__: (clean, torch.ones_like(clean[:, :1]))  # noqa: E731
    monkeypatch.setattr(tile, "fall_back_to_reference", kept_whole)
    clean = merger.merge(slice(0, 40), slice(0, 40)).clean
    share = light[1] / (light[0] + light[1])
    torch.testing.assert_close(clean[:, 2] - 1, share)
    variance = NOISE.shot[0] * 0.1 + NOISE.read[0]
    worth = [
        1 + 7 * 0.92 * variance / (NOISE.shot[0] * 0.1 / g + NOISE.read[0] / g**2)
        for g in (4.0, 0.25)
    ]
    assert share.mean() == pytest.approx(worth[1] / sum(worth), rel=0.05)


def test_sixteen_frames_of_a_bracket_leave_less_noise_than_eight():
    network, noise = load_weights()[0], noise_of_gain(1)
    scene, gains = dim_scene(3, 96, 96), (1.0, 4.0, 0.25, 1.0) * 4
    frames = matched(expose(scene, gains, noise), gains)
    errors = [
        np.mean((merged(network, frames[:n], noise, measure_residual=False).planes - scene) ** 2)
        for n in (8, 16)
    ]
    assert errors[1] < 0.95 * errors[0]


# --- guard ------------------------------------------------------------------


def block_errors(picture, scene, side=16):
    squares = ((picture - scene) ** 2).mean(0)
    rows, columns = (length // side for length in squares.shape)
    cut = squares[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.mean((1, 3))


@pytest.mark.parametrize("gain", [0, 1, 4])
def test_where_something_moves_no_block_of_a_bracket_is_worse_than_the_reference(gain):
    network, noise = load_weights()[0], noise_of_gain(gain)
    scenes, gains = [], (1.0, 0.25, 4.0, 1.0, 0.25, 4.0)
    for n in range(len(gains)):
        scene = dim_scene(3, 128, 128)
        scene[:, 40:80, 10 + 14 * n : 40 + 14 * n] = 0.22 * planes(8, 40, 30)[:, ::-1]
        scene[:, 90:110, 100 - 12 * n : 112 - 12 * n] = 0.7  # a lamp, which clips long exposures
        scenes.append(scene)
    frames = matched(expose(scenes, gains, noise), gains)
    done = merged(network, frames, noise, measure_residual=False)
    reference = frames[0].linear(frames[0].samples).numpy()
    errors, noise_errors = (block_errors(x, scenes[0]) for x in (done.planes, reference))
    # A block has 1024 samples, whose mean square is known to 4 %.
    assert (errors / noise_errors).max() < 10**0.1
    assert errors.mean() < 0.5 * noise_errors.mean()


def test_the_guard_knows_where_the_reference_is_clipped(tiny_network, monkeypatch):
    clips = []

    def watch(clean, *_, clip, **__):
        clips.append(clip)
        return clean, torch.ones_like(clean[:, :1])

    monkeypatch.setattr(tile, "fall_back_to_reference", watch)
    frames = matched(expose(dim_scene(3, 32, 32), saturation=0.9))
    merged(tiny_network, frames, measure_residual=False)
    plain = [replace(frame, noise=None) for frame in frames]
    merged(tiny_network, plain, measure_residual=False)
    assert clips == [0.9, 1.0]


def test_where_the_reference_is_clipped_all_over_the_result_is_too():
    network, noise = load_weights()[0], noise_of_gain(1)
    scene = np.full((4, 48, 64), 0.3, np.float32)
    scene[:, :, 32:] = 1.5
    frames = matched(expose(scene, BRACKET, noise), BRACKET)
    done = merged(network, frames, noise, measure_residual=False)
    assert (done.planes[:, :, 40:] > 0.9999).all()
    assert done.planes[:, :, :24].max() < 0.5
