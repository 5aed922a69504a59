"""Defects are repaired, stars and detail are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from defective_bursts import NOISE, defective, surface
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.burst.frame import Frame
from kpn_cli.defects.repair import Repaired, fill, plane_sites, repair_burst
from kpn_cli.image import bayer
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.raw.info import RawInfo
from kpn_cli.synthesis.sensor_defects import add_stars


def as_uint16(planes: np.ndarray, black: int = 512, white: int = 16383) -> Frame:
    numbers = np.rint(planes * (white - black) + black).clip(0, 65535).astype(np.uint16)
    return Frame(torch.from_numpy(numbers), (black,) * 4, white)


def share_left(reach: int = 0, frames: int = 8) -> float:
    """Share of the clear defects of three bursts that keep more than half of their error."""
    left = []
    for seed in range(3):
        burst = defective(frames, 6e-4, reach, seed)
        done = burst.frames()
        repair_burst(done, NOISE)
        left.append(burst.errors_left(done) > 0.5)
    assert sum(map(len, left)) > 100
    return float(np.concatenate(left).mean())


@pytest.mark.parametrize("reach", [2, 16])
def test_defects_of_a_hand_held_burst_are_repaired(reach):
    assert share_left(reach) <= 0.02


def test_most_defects_of_a_burst_on_a_tripod_are_repaired():
    assert share_left() <= 0.1


def test_most_defects_of_a_single_frame_are_repaired():
    assert share_left(frames=1) <= 0.35


def test_defects_beside_others_are_repaired():
    burst = defective(reach=2, clusters=1.0, share=3e-4)
    frames = burst.frames()
    repair_burst(frames, NOISE)
    assert (burst.errors_left(frames) > 0.5).mean() < 0.1


@pytest.mark.parametrize("reach", [0, 2, 16])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_sensor_without_defects_stays_as_it_is(count, reach):
    clean = surface(count, reach=reach, seed=3)
    noisy = NOISE.sample(clean, np.random.default_rng(0)).astype(np.float32)
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    assert repair_burst(frames, NOISE) == Repaired()
    np.testing.assert_array_equal([frame.planes() for frame in frames], noisy)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("scale", [1.0, 9.0])
def test_stars_on_a_tripod_are_no_defects(count, scale):
    rng = np.random.default_rng(1)
    noise = NOISE.with_strength(scale**0.5)
    sky = np.full((count, 4, 160, 160), 0.01, np.float32)
    sigma = (noise.shot[0] * 0.01 + noise.read[0]) ** 0.5
    positions = rng.uniform(10, 310, (120, 2))
    peaks = sigma * rng.uniform(10, 50, 120)
    lit = add_stars(sky, positions, np.zeros((count, 2)), peaks, 0.6)
    noisy = noise.sample(lit, rng).astype(np.float32)
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    repair_burst(frames, noise)
    changed = np.stack([frame.planes() for frame in frames]) != noisy
    assert not changed[:, lit[0] > 0.01 + sigma].any()


def test_hot_samples_between_stars_are_repaired():
    rng = np.random.default_rng(2)
    sky = np.full((8, 4, 160, 160), 0.01, np.float32)
    sigma = (NOISE.shot[0] * 0.01 + NOISE.read[0]) ** 0.5
    stars = add_stars(
        sky, rng.uniform(10, 310, (60, 2)), np.zeros((8, 2)), sigma * rng.uniform(10, 50, 60), 0.6
    )
    hot = tuple(rng.integers(5, [4 - 0, 155, 155][axis], 40) for axis in (1, 2))
    plane = rng.integers(0, 4, 40)
    stars[:, plane, hot[0], hot[1]] += np.float32(0.2)
    noisy = NOISE.sample(stars, rng).astype(np.float32)
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    repair_burst(frames, NOISE)
    left = np.mean([frame.planes() for frame in frames], 0)[plane, hot[0], hot[1]]
    assert (left > 0.1).mean() < 0.1


def test_integers_are_repaired_like_floats():
    burst = defective(reach=2)
    floats, integers = burst.frames(), [as_uint16(planes) for planes in burst.noisy]
    assert repair_burst(integers, NOISE).found == pytest.approx(
        repair_burst(floats, NOISE).found, abs=2
    )
    assert integers[0].samples.dtype == torch.uint16
    assert (burst.errors_left(integers) > 0.5).mean() <= 0.02


def test_the_same_burst_gives_the_same_bytes():
    burst = defective(reach=2)
    one, other = burst.frames(), burst.frames()
    assert repair_burst(one, NOISE) == repair_burst(other, NOISE)
    for a, b in zip(one, other, strict=True):
        assert a.samples.numpy().tobytes() == b.samples.numpy().tobytes()


def test_marked_and_listed_samples_are_replaced_whatever_they_are():
    clean = surface(3)
    frames = [Frame.of_planes(planes.copy()) for planes in clean]
    marked, listed = (np.array([[p], [r], [c]]) for p, r, c in ((1, 20, 30), (2, 50, 60)))
    repaired = repair_burst(frames, NOISE, marked=[marked] * 3, listed=listed, find=False)
    assert repaired == Repaired(marked=1, listed=1)
    changed = np.argwhere(frames[0].planes() != clean[0])
    np.testing.assert_array_equal(changed, [[1, 20, 30], [2, 50, 60]])


def test_with_find_off_nothing_else_is_touched():
    burst = defective()
    frames = burst.frames()
    assert not repair_burst(frames, NOISE, find=False)
    np.testing.assert_array_equal(frames[0].planes(), burst.noisy[0])


def test_a_cluster_is_filled_from_its_edges():
    planes = np.ones((4, 24, 24), np.float32) * np.float32([0.1, 0.2, 0.3, 0.4])[:, None, None]
    expected = planes.copy()
    sites = np.stack(np.meshgrid(range(4), range(6, 14), range(5, 15), indexing="ij")).reshape(
        3, -1
    )
    planes[tuple(sites)] = 7.0
    frame = Frame.of_planes(planes)
    fill(frame, sites, NOISE)
    np.testing.assert_allclose(frame.planes(), expected, atol=1e-5)


def test_a_picture_of_nothing_but_defects_is_left():
    planes = np.zeros((4, 8, 8), np.float32)
    fill(Frame.of_planes(planes), np.stack(np.nonzero(planes == 0)), NOISE)
    assert np.isfinite(planes).all()


@given(
    st.integers(0, 3),
    st.sampled_from([(2, 2), (3, 5), (17, 9), (40, 30)]),
    st.integers(1, 9),
    st.integers(0, 2**16),
)
def test_any_size_and_place_is_filled_within_the_range_of_the_picture(plane, size, count, seed):
    rng = np.random.default_rng(seed)
    planes = rng.uniform(0.2, 0.4, (4, *size)).astype(np.float32)
    sites = np.stack([np.full(count, plane), *(rng.integers(0, side, count) for side in size)])
    kept = planes.copy()
    planes[tuple(sites)] = 50
    frame = Frame.of_planes(planes)
    fill(frame, sites, NoiseModel.uniform(1e-3, 1e-5))
    unmarked = np.ones(planes.shape, bool)
    unmarked[tuple(sites)] = False
    np.testing.assert_array_equal(planes[unmarked], kept[unmarked])
    if unmarked[plane].any() and min(size) > 8:
        assert np.abs(planes).max() < 2


@pytest.mark.parametrize("phase", bayer.PHASES)
def test_pixels_of_the_mosaic_are_found_in_the_planes(phase):
    mosaic = np.arange(7 * 9).reshape(7, 9)
    info = RawInfo(
        path=None, make="", model="", phase=phase, height=7, width=9, black=(0.0,) * 4, white=1.0,
        iso=None, exposure_time=None, f_number=None, focal_length=None, captured=None,
        orientation=1, white_balance=(1.0, 1.0, 1.0), color_matrix=None, noise_profile=None,
    )  # fmt: skip
    rows, columns = np.array([0, 3, 6, 7, -1]), np.array([0, 8, 5, 2, 2])
    sites = plane_sites(info, rows, columns)
    assert sites.shape == (3, 3)
    found = bayer.pack(mosaic, phase)[tuple(sites)]
    np.testing.assert_array_equal(found, mosaic[rows[:3], columns[:3]])


@pytest.mark.parametrize(
    ("repaired", "text"),
    [
        (Repaired(), ""),
        (Repaired(found=1), "1 pixel (1 found)"),
        (Repaired(marked=2, found=1), "3 pixels (2 marked by the file, 1 found)"),
        (Repaired(columns=1), "1 column"),
        (Repaired(listed=4, columns=2, rows=1), "4 pixels (4 listed), 2 columns and 1 row"),
    ],
)
def test_what_was_repaired_is_told_in_words(repaired, text):
    assert repaired.in_words() == text
    assert bool(repaired) == bool(text)
