"""Planes in, clean planes out: tiles, frames and noise, without files."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from merged_bursts import NOISE, burst_of, shifts_of
from pictures import planes

from kpn_cli.align import alignment, warp
from kpn_cli.burst.frame import Frame
from kpn_cli.merge import merge
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis.protocol import noise_of_gain


def test_tiled_equals_whole_within_rounding(tiny_network):
    frames = burst_of(4, size=(150, 170))
    shifts = shifts_of(frames)
    whole = merge.denoise_frames(tiny_network, frames, shifts, NOISE, tile=1024)
    tiled = merge.denoise_frames(tiny_network, frames, shifts, NOISE, tile=128)
    np.testing.assert_allclose(tiled.planes, whole.planes, atol=2e-5)
    assert tiled.residual_noise == pytest.approx(whole.residual_noise, rel=1e-5)


@pytest.mark.parametrize("gain", [0, 8])
def test_tiles_show_no_seams_with_the_network_that_ships(gain):
    """It sees further than a tile and its halo; the cut changes less than the residual noise."""
    network, _ = load_weights()
    noise = noise_of_gain(gain)
    scene = planes(4, 240, 250)
    scene[:, :, 125:] = 0.3  # textured and flat
    rng = np.random.default_rng(1)
    frames = [Frame(torch.from_numpy(noise.sample(scene, rng))) for _ in range(3)]
    shifts = alignment.align_frames(frames, noise)
    whole = merge.denoise_frames(network, frames, shifts, noise, tile=1024).planes
    tiled = merge.denoise_frames(network, frames, shifts, noise, tile=160).planes
    left = np.sqrt(np.mean((whole - scene) ** 2))
    assert np.sqrt(np.mean((tiled - whole) ** 2)) < 0.01 * left
    assert np.abs(tiled - whole).max() < 0.2 * left


@pytest.mark.parametrize("gain", [0, 8])
def test_in_int8_tiles_differ_by_rounding_alone(gain, shipped_int8):
    """What a tile does not see tips the rounding of some values, all over these small tiles."""
    noise = noise_of_gain(gain)
    scene = planes(4, 240, 250)
    scene[:, :, 125:] = 0.3
    rng = np.random.default_rng(1)
    frames = [Frame(torch.from_numpy(noise.sample(scene, rng))) for _ in range(3)]
    whole, tiled, plain = (
        merge.denoise_frames(
            network, frames, shifts_of(frames), noise, tile=tile, measure_residual=False
        ).planes
        for network, tile in ((shipped_int8, 1024), (shipped_int8, 160), (load_weights()[0], 1024))
    )
    rounding = np.sqrt(np.mean((whole - plain) ** 2))
    # 0.03 dB if the rounding is independent of the error.
    assert rounding < 0.08 * np.sqrt(np.mean((plain - scene) ** 2))
    assert np.sqrt(np.mean((tiled - whole) ** 2)) < rounding


def test_every_tile_is_reported(tiny_network):
    frames, reports = burst_of(1), []
    merge.denoise_frames(
        tiny_network, frames, shifts_of(frames), NOISE, tile=64, on_tile=lambda: reports.append(1)
    )
    assert len(reports) == merge.tile_count(tiny_network, 96, 120, 64) > 1


def test_whole_cell_shifts_are_undone_before_the_network(tiny_network):
    frames = burst_of(3, shift=3)
    shifts = shifts_of(frames)
    # Frame n shows what the reference shows, 3n cells further up and left.
    assert [tuple(shift[1, 1].tolist()) for shift in shifts] == [(0, 0), (-3, -3), (-6, -6)]
    part = warp.warp_frames(frames, shifts, slice(20, 60), slice(20, 60))
    noise = (part[1:] - part[:1]).std() / 2**0.5
    assert noise < 1.2 * NOISE.variance(frames[0].samples.numpy()).mean() ** 0.5


def test_integer_samples_with_levels_equal_linear_ones(tiny_network):
    linear = burst_of(2)
    black, white = (60.0, 61.5, 62.0, 64.0), 1023.0
    levels = torch.tensor(black).view(4, 1, 1)
    coded = [
        Frame((frame.samples * (white - levels) + levels).round().to(torch.int32), black, white)
        for frame in linear
    ]
    decoded = [Frame(frame.linear(frame.samples)) for frame in coded]
    shifts = shifts_of(decoded)
    one = merge.denoise_frames(tiny_network, coded, shifts, NOISE).planes
    two = merge.denoise_frames(tiny_network, decoded, shifts, NOISE).planes
    np.testing.assert_allclose(one, two, atol=1e-5)


# --- strength ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "level", "count"),
    [
        *itertools.product([0, 1, 4], [0.02, 0.18], [1, 5, 8]),
        # Where the network alone leaves most under the assumed noise.
        *[(1, 0.005, 1), (1, 0.005, 3), (4, 0.06, 1), (8, 0.18, 1)],
    ],
)
def test_more_strength_never_leaves_more_noise(gain, level, count):
    check_strength(load_weights()[0], gain, level, count)


@pytest.mark.parametrize(
    ("gain", "level", "count"), [(0, 0.18, 5), (1, 0.02, 8), (1, 0.005, 1), (8, 0.18, 1)]
)
def test_more_strength_never_leaves_more_noise_in_int8(gain, level, count, shipped_int8):
    check_strength(shipped_int8, gain, level, count)


def check_strength(network, gain, level, count):
    noise, rng = noise_of_gain(gain), np.random.default_rng((gain, count))
    scene = np.full((count, 4, 64, 64), level, np.float32)
    frames = [Frame(torch.from_numpy(planes)) for planes in noise.sample(scene, rng)]
    inner = np.s_[:, 10:-10, 10:-10]
    sigma = np.std((frames[0].samples.numpy() - level)[inner])
    shifts = shifts_of(frames)
    left = []
    for strength in (0.25, 0.5, 1, 1.25, 1.5, 2, 3, 4):
        done = merge.denoise_frames(
            network, frames, shifts, noise, strength=strength, measure_residual=False
        )
        left.append(np.std((done.planes - level)[inner]) / sigma)
    # This patch is too small to measure a ten-thousandth of sigma.
    assert max(np.diff(left)) < 3e-4, left
    assert left[-1] < 0.8 * left[2]


# --- many frames ------------------------------------------------------------


def test_no_more_noise_is_left_where_a_picture_ends_within_a_stride(shipped_network):
    """Its last rows and columns are continued for the network; the first ones are not."""
    noise = noise_of_gain(1)
    scene = np.full((8, 4, 129, 129), 0.2, np.float32)
    frames = [
        Frame(torch.from_numpy(noise.sample(x, np.random.default_rng(n))))
        for n, x in enumerate(scene)
    ]
    done = merge.denoise_frames(
        shipped_network, frames, shifts_of(frames), noise, measure_residual=False
    )
    left = np.square(done.planes - 0.2).mean(0)
    assert left[-4:].mean() < 2 * left[:4].mean()
    assert left[:, -4:].mean() < 2 * left[:, :4].mean()


def test_more_frames_than_the_network_takes_leave_less_noise(shipped_network):
    network = shipped_network
    noise = noise_of_gain(4)
    scene = planes(4, 100, 100)
    rng = np.random.default_rng(1)
    frames = [Frame(torch.from_numpy(noise.sample(scene, rng))) for _ in range(16)]
    errors, left = [], []
    for count in (1, 2, 8, 16):
        done, found = merge.denoise_burst(network, frames[:count], noise)
        assert len(found.used) == count
        errors.append(np.mean((done.planes - scene) ** 2))
        left.append(done.residual_noise)
    assert errors == sorted(errors, reverse=True)
    assert left == sorted(left, reverse=True)


def test_tiles_fit_into_the_free_memory(shipped_network):
    sides = [merge.tile_side(shipped_network, free << 20, 8) for free in (64000, 4000, 300, 100, 1)]
    assert sides[:2] == [merge.DEFAULT_TILE] * 2
    assert sides == sorted(sides, reverse=True)
    assert sides[2] < merge.DEFAULT_TILE
    assert sides[-1] == merge.SMALLEST_TILE
    few, many = (merge.tile_side(shipped_network, 300 << 20, frames) for frames in (1, 300))
    assert few >= sides[2] > many
