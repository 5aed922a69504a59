"""Which frames are used, and how bright they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from pictures import planes

from kpn_cli.frame import Frame
from kpn_cli.lineup import line_up
from kpn_cli.noise import NoiseModel
from kpn_cli.protocol import GAINS, noise_of_gain

SIZE = 160


def frame(picture, noise, seed):
    return Frame(torch.from_numpy(noise.sample(picture, np.random.default_rng(seed))))


def burst(noise, *pictures):
    return [frame(picture, noise, seed) for seed, picture in enumerate(pictures)]


@pytest.mark.parametrize("gain", GAINS)
def test_frames_of_the_scene_are_used_and_others_dropped(gain):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    strange, black = planes(9, SIZE, SIZE)[:, ::-1], np.zeros_like(scene)
    found = line_up(burst(noise, scene, scene, strange, black, scene), noise)
    assert found.used == [0, 1, 4]
    assert set(found.dropped) == {2, 3}
    assert "something else" in found.dropped[2]
    assert "times as bright" in found.dropped[3]
    assert found.agreement[0] == 1
    assert min(found.agreement) > 0.8
    assert len(found.frames) == len(found.shifts) == len(found.exposure) == 3


@pytest.mark.parametrize("gain", GAINS)
def test_frames_of_equal_brightness_are_left_exactly_as_they_are(gain):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    frames = burst(noise, *[scene] * 6)
    found = line_up(frames, noise)
    assert found.exposure == [1.0] * 6
    assert all(after is before for after, before in zip(found.frames, frames, strict=True))


@pytest.mark.parametrize("gain", [0, 1, 8])
@pytest.mark.parametrize("exposure", [0.6, 0.95, 1.04, 1.5])
def test_flicker_is_measured_and_taken_away(gain, exposure):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    found = line_up(burst(noise, scene, np.float32(exposure) * scene), noise)
    assert found.exposure[1] == pytest.approx(exposure, rel=0.01)
    matched = found.frames[1].linear(found.frames[1].samples)
    assert float(matched.mean()) == pytest.approx(float(scene.mean()), rel=0.01)


def test_an_object_that_moves_is_no_flicker():
    """It changes the mean of the frame, but not the median over places."""
    noise, scene = noise_of_gain(0), planes(3, SIZE, SIZE)
    moved = scene.copy()
    moved[:, 20:80, 20:90] = 0.9
    found = line_up(burst(noise, scene, moved), noise)
    assert found.used == [0, 1]
    assert found.exposure == [1.0, 1.0]


def blurred(picture, down, across):
    kernel = np.outer(np.ones(down), np.ones(across)).astype(np.float32) / (down * across)
    return np.stack([cv2.filter2D(plane, -1, kernel) for plane in picture])


@pytest.mark.parametrize("gain", [0, 1, 4])
@pytest.mark.parametrize("shake", [(1, 31), (31, 1), (15, 15)])
def test_a_heavily_blurred_frame_is_dropped(gain, shake):
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    found = line_up(burst(noise, scene, scene, blurred(scene, *shake), scene), noise)
    assert found.used == [0, 1, 3]
    assert found.dropped[2] == "heavily blurred"


@pytest.mark.parametrize("gain", GAINS)
def test_a_little_blur_is_no_reason(gain):
    """What is left of such a frame still helps where there is no texture."""
    noise, scene = noise_of_gain(gain), planes(3, SIZE, SIZE)
    assert line_up(burst(noise, scene, blurred(scene, 3, 3), scene), noise).used == [0, 1, 2]


def test_a_reference_with_an_object_of_its_own_makes_no_other_frame_blurred():
    noise, scene = noise_of_gain(0), planes(3, SIZE, SIZE)
    with_bars = scene.copy()
    with_bars[:, 20:60, 20:60:8] = 1
    assert line_up(burst(noise, with_bars, scene, scene), noise).used == [0, 1, 2]


def test_flat_frames_are_of_the_same_scene():
    """Nothing but noise to be compared: no reason to drop any."""
    noise = NoiseModel.uniform(1e-3, 1e-5)
    flat = np.full((4, SIZE, SIZE), 0.2, np.float32)
    assert line_up(burst(noise, *[flat] * 4), noise).used == [0, 1, 2, 3]
    assert line_up(burst(noise, *[0 * flat] * 3), noise).used == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 7, 20])
def test_tiny_pictures_line_up(size):
    noise, scene = noise_of_gain(1), planes(3, size, size)
    found = line_up(burst(noise, scene, scene), noise)
    assert found.used == [0, 1]
