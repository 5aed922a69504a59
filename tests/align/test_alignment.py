"""The whole burst is aligned: which frames are used, and at which exposure."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from pictures import planes, scene

from kpn_cli.align import alignment
from kpn_cli.align.alignment import AlignedBurst, align_burst
from kpn_cli.burst.frame import Frame
from kpn_cli.evaluation.metrics import psnr
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge.merge import denoise_burst
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis.protocol import GAINS, noise_of_gain, photograph_planes, to_raw_signal

SIZE = 160


def frame(picture, noise, seed):
    return Frame(torch.from_numpy(noise.sample(picture, np.random.default_rng(seed))))


def burst(noise, *pictures):
    return [frame(picture, noise, seed) for seed, picture in enumerate(pictures)]


@pytest.mark.parametrize("gain", GAINS)
def test_frames_of_the_scene_are_used_and_others_dropped(gain):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    strange, black = planes(9, SIZE, SIZE)[:, ::-1], np.zeros_like(scene)
    found = align_burst(burst(noise, scene, scene, strange, black, scene), noise)
    assert found.used == [0, 1, 4]
    assert set(found.dropped) == {2, 3}
    assert "something else" in found.dropped[2]
    assert "times as bright" in found.dropped[3]
    assert found.robustness[0] == 1
    assert min(found.robustness) > 0.8
    assert len(found.frames) == len(found.shifts) == len(found.exposure) == 3


@pytest.mark.parametrize("gain", GAINS)
def test_frames_of_equal_brightness_are_left_exactly_as_they_are(gain):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    frames = burst(noise, *[scene] * 6)
    found = align_burst(frames, noise)
    assert found.exposure == [1.0] * 6
    assert all(after is before for after, before in zip(found.frames, frames, strict=True))


@pytest.mark.parametrize("gain", [0, 1, 8])
@pytest.mark.parametrize("exposure", [0.6, 0.95, 1.04, 1.5])
def test_flicker_is_measured_and_taken_away(gain, exposure):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    found = align_burst(burst(noise, scene, np.float32(exposure) * scene), noise)
    assert found.exposure[1] == pytest.approx(exposure, rel=0.01)
    matched = found.frames[1].linear(found.frames[1].samples)
    assert float(matched.mean()) == pytest.approx(float(scene.mean()), rel=0.01)


def test_an_object_that_moves_is_no_flicker():
    """It changes the mean of the frame, but not the median over places."""
    noise, scene = noise_of_gain(0), planes(3, SIZE, SIZE)
    moved = scene.copy()
    moved[:, 20:80, 20:90] = 0.9
    found = align_burst(burst(noise, scene, moved), noise)
    assert found.used == [0, 1]
    assert found.exposure == [1.0, 1.0]


def blurred(picture, down, across):
    kernel = np.outer(np.ones(down), np.ones(across)).astype(np.float32) / (down * across)
    return np.stack([cv2.filter2D(plane, -1, kernel) for plane in picture])


@pytest.mark.parametrize("gain", [0, 1, 4])
@pytest.mark.parametrize("shake", [(1, 31), (31, 1), (15, 15)])
def test_a_heavily_blurred_frame_is_dropped(gain, shake):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    found = align_burst(burst(noise, scene, scene, blurred(scene, *shake), scene), noise)
    assert found.used == [0, 1, 3]
    assert found.dropped[2] == "heavily blurred"


@pytest.mark.parametrize("gain", GAINS)
def test_a_slightly_blurred_frame_is_kept(gain):
    """Such a frame still helps where there is no texture."""
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    assert align_burst(burst(noise, scene, blurred(scene, 3, 3), scene), noise).used == [0, 1, 2]


def test_a_reference_with_an_object_of_its_own_makes_no_other_frame_blurred():
    noise, scene = noise_of_gain(0), planes(3, SIZE, SIZE)
    with_bars = scene.copy()
    with_bars[:, 20:60, 20:60:8] = 1
    assert align_burst(burst(noise, with_bars, scene, scene), noise).used == [0, 1, 2]


def test_the_best_frames_are_kept_if_the_network_takes_fewer():
    def aligned_with(*robustness):
        count = len(robustness) + 1
        return AlignedBurst(
            used=list(range(10, 10 + count)),
            frames=[SimpleNamespace(noise=None, number=n) for n in range(count)],
            shifts=[f"s{n}" for n in range(count)],
            robustness=[1.0, *robustness],
            exposure=[1.0] * count,
            rejected=[0.0] * count,
            dropped={3: "other"},
        )

    found = aligned_with(0.5, 0.91, 0.2, 0.93, 0.92, 0.9)
    best = found.keep_best(3)
    assert best.used == [10, 14, 15, 12, 16]
    assert [frame.number for frame in best.frames] == [0, 4, 5, 2, 6]
    assert best.shifts == ["s0", "s4", "s5", "s2", "s6"]
    assert best.robustness == [1.0, 0.93, 0.92, 0.91, 0.9]
    assert best.dropped == {3: "other"} | dict.fromkeys(
        (11, 13), "2 others agree better with the reference"
    )
    assert aligned_with(0.5, 0.1).keep_best(3) == aligned_with(0.5, 0.1)
    assert found.keep_best(1) == found
    assert found.keep_best(8) == found


@pytest.mark.parametrize("gain", [0, 1, 4])
def test_more_handheld_frames_are_never_worse(gain):
    """Eight of them, exactly aligned by chance or not, against sixteen."""
    network, _ = load_weights()
    noise, rng = noise_of_gain(gain), np.random.default_rng(0)
    photo = scene(3, 600, 600)
    shifts = rng.integers(-4, 5, (16, 2))
    shifts[0] = 0
    clean = to_raw_signal(photograph_planes(photo, shifts), 0.5)[..., :96, :96]
    frames = [Frame(torch.from_numpy(noise.sample(planes, rng))) for planes in clean]
    quality = [
        psnr(denoise_burst(network, frames[:count], noise)[0].planes, clean[0], 0.5)
        for count in (1, 2, 4, 8, 16)
    ]
    assert min(np.diff(quality)) > -0.05, quality
    assert quality[-1] > quality[0] + 1


@pytest.mark.parametrize("gain", [0, 1])  # noisier frames hide what differs
def test_the_share_of_tiles_that_show_something_else_is_reported(gain):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    partly = scene.copy()
    partly[:, :80, :80] = planes(9, 80, 80)[::-1]  # other colours: nowhere to be found
    found = align_burst(burst(noise, scene, scene, partly), noise)
    assert found.rejected[0] == 0
    assert found.rejected[1] < 0.01
    assert found.rejected[2] == pytest.approx(0.25, abs=0.06)


def test_frames_that_show_nothing_but_noise_are_kept():
    """There is nothing to compare but noise, so there is no reason to drop a frame."""
    noise = NoiseModel.uniform(1e-3, 1e-5)
    flat = np.full((4, SIZE, SIZE), 0.2, np.float32)
    assert align_burst(burst(noise, *[flat] * 4), noise).used == [0, 1, 2, 3]
    assert align_burst(burst(noise, *[0 * flat] * 3), noise).used == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 7, 20])
def test_tiny_pictures_are_aligned(size):
    noise, scene = noise_of_gain(1), planes(3, size, size)
    found = align_burst(burst(noise, scene, scene), noise)
    assert found.used == [0, 1]


def test_the_number_of_threads_changes_no_shift_and_no_figure():
    noise, scene = noise_of_gain(2), planes(3, SIZE, SIZE)
    frames = burst(noise, scene, np.roll(scene, 3, 1), scene * 0.9, np.roll(scene, -2, 2))
    before, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(align_burst(frames, noise))
    finally:
        torch.set_num_threads(before)
    one, two = found
    assert all(torch.equal(a, b) for a, b in zip(one.shifts, two.shifts, strict=True))
    assert (one.used, one.robustness, one.exposure) == (two.used, two.robustness, two.exposure)


def test_a_single_frame_is_not_searched(monkeypatch):
    noise, scene = noise_of_gain(2), planes(3, SIZE, SIZE)
    monkeypatch.setattr(alignment, "Aligner", None)
    monkeypatch.setattr(alignment, "sample_squares", None)
    found = align_burst(burst(noise, scene), noise)
    assert (found.used, found.robustness, found.rejected) == ([0], [1.0], [0.0])
    assert not found.shifts[0].any()
