"""Columns and rows that deviate all along are found; edges and wires of the scene are not."""

from __future__ import annotations

import numpy as np
import pytest
from defective_bursts import NOISE, surface

from kpn_cli.burst.frame import Frame
from kpn_cli.defects.lines import find_lines
from kpn_cli.defects.repair import repair_burst
from kpn_cli.image import bayer

SIZE = 320


def burst(
    reach: int = 2, frames: int = 8, change=lambda mosaic: None, noise=NOISE
) -> tuple[np.ndarray, np.ndarray]:
    """A clean burst, and a noisy one of a sensor that `change` makes of each frame's mosaic."""
    clean = surface(frames, SIZE, reach)
    mosaics = [bayer.unpack(planes, "RGGB", 2 * SIZE, 2 * SIZE) for planes in clean]
    for mosaic in mosaics:
        change(mosaic)
    recorded = np.stack([bayer.pack(mosaic, "RGGB") for mosaic in mosaics])
    return clean, noise.sample(recorded, np.random.default_rng(0)).astype(np.float32)


def transposed(mosaic: np.ndarray, vertical: bool) -> np.ndarray:
    return mosaic if vertical else mosaic.T


@pytest.mark.parametrize("vertical", [True, False])
@pytest.mark.parametrize(
    ("index", "reach"),
    [(0, 2), (1, 2), (200, 2), (201, 2), (2 * SIZE - 1, 2), (200, 0), (201, 0)],
)
def test_the_offset_of_a_line_is_taken_away(vertical, index, reach):
    # On a tripod it might be a wire of the scene, if it weren't that strong.
    offset = np.float32(0.02 if reach else 0.05)

    def change(mosaic):
        transposed(mosaic, vertical)[:, index] += offset

    clean, noisy = burst(reach, change=change)
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    repaired = repair_burst(frames, NOISE)
    assert (repaired.columns, repaired.rows) == ((1, 0) if vertical else (0, 1))
    done, before = (
        transposed(bayer.unpack(planes.mean(0), "RGGB", 2 * SIZE, 2 * SIZE), vertical)[:, index]
        for planes in (np.stack([frame.planes() for frame in frames]), clean)
    )
    assert abs(np.median(done - before)) < offset / 4


@pytest.mark.parametrize("value", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("reach", [0, 2])
def test_a_strong_column_is_repaired_and_its_neighbours_stay(value, stuck, reach):
    def change(mosaic):
        mosaic[:, 301] = value if stuck else mosaic[:, 301] + np.float32(value)

    clean, noisy = burst(reach, change=change)
    noisy = np.minimum(noisy, 1)
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    repaired = repair_burst(frames, NOISE)
    expected = 1 if stuck or value else 0
    assert (repaired.columns, repaired.rows) == (expected, 0)
    done = np.mean([frame.planes() for frame in frames], 0) - clean.mean(0)
    errors = np.abs(np.median(bayer.unpack(done, "RGGB", 2 * SIZE, 2 * SIZE), axis=0))
    assert errors[[297, 299, 303, 305, 300, 302]].max() < 0.001
    assert errors[301] < 0.01


def test_a_part_of_a_column_is_repaired_alone():
    def change(mosaic):
        mosaic[:SIZE, 301] -= np.float32(0.02)

    _, noisy = burst(change=change)
    (line,) = find_lines(noisy.mean(0), NOISE, 8, still=False)
    assert (line.vertical, line.index, line.start, line.dead) == (True, 301, 0, False)
    assert abs(line.stop - SIZE // 2) <= SIZE // 16


def test_a_dead_column_is_replaced():
    def change(mosaic):
        mosaic[:, 301] = 0.01

    clean, noisy = burst(change=change)
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    assert repair_burst(frames, NOISE).columns == 1
    planes = frames[0].planes()[[1, 3]][:, :, 150]
    assert np.abs(planes - clean[0][[1, 3]][:, :, 150]).mean() < 0.02


def test_saturated_samples_stay_saturated():
    def change(mosaic):
        mosaic[:, 301] += np.float32(0.02)
        mosaic[300:340, 280:320] = 2

    _, noisy = burst(change=change)
    noisy = np.minimum(noisy, 1)
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    assert repair_burst(frames, NOISE).columns == 1
    assert frames[0].planes()[:, 155:165, 145:155].min() == 1


@pytest.mark.parametrize("sigma", [0.5, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("drift", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("frames", [1, 8])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_wire_of_the_scene_on_a_tripod_is_none(sigma, drift, frames, scale):
    y, x = np.mgrid[: 2 * SIZE, : 2 * SIZE]
    middle = 200.1 + drift * y / (2 * SIZE)
    wire = np.float32(0.05 * np.exp(-((x - middle) ** 2) / (2 * sigma**2)))
    noise = NOISE.with_strength(scale)

    def change(mosaic):
        mosaic -= wire

    _, noisy = burst(0, frames, change, noise)
    assert find_lines(noisy.mean(0), noise, frames, still=True) == []


@pytest.mark.parametrize("vertical", [True, False])
def test_a_sharp_horizon_is_none(vertical):
    def change(mosaic):
        transposed(mosaic, vertical)[:, 200:] *= 0.3

    _, noisy = burst(0, change=change)
    assert find_lines(noisy.mean(0), NOISE, 8, still=True) == []


def test_row_noise_of_single_frames_is_none():
    rng = np.random.default_rng(5)

    def change(mosaic):
        mosaic += rng.normal(0, 0.0008, (2 * SIZE, 1)).astype(np.float32)

    _, noisy = burst(change=change)
    assert find_lines(noisy.mean(0), NOISE, 8, still=True) == []


def test_a_small_picture_is_not_searched():
    assert find_lines(np.zeros((4, 20, 20), np.float32), NOISE, 8, still=False) == []
