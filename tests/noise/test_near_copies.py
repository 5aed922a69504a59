"""A photo that was stored again with losses is found; photos of a still scene are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import planes

from kpn_cli.burst.frame import Frame
from kpn_cli.noise import estimation
from kpn_cli.noise.near_copies import find_near_copies

BLACK, WHITE = 512, 16383
SCENE = 0.5 * planes(1, 240, 320)


def frame(samples: np.ndarray, black: int = BLACK, white: int = WHITE) -> Frame:
    return Frame(torch.from_numpy(np.rint(samples).astype(np.uint16)), (black,) * 4, white)


def shots(count: int, noise, scene=SCENE, white: int = WHITE) -> list[np.ndarray]:
    """Frames of a still scene, in DN."""
    rng = np.random.default_rng(0)
    return [BLACK + (white - BLACK) * noise.sample(scene, rng) for _ in range(count)]


def compressed(samples: np.ndarray) -> np.ndarray:
    """With steps of about two thirds of the noise, as lossy raw formats take."""
    noise = estimation.from_iso(800)
    step = 0.7 * np.sqrt(noise.shot[0] * (WHITE - BLACK))
    root = 2 * np.sqrt(np.maximum(samples - BLACK, 0))
    return BLACK + (np.rint(root / step) * step / 2) ** 2


@pytest.mark.parametrize("change", [compressed, lambda samples: samples + 1])
def test_a_frame_that_was_stored_again_with_losses_is_a_copy(change):
    noise = estimation.from_iso(800)
    first, second, third = shots(3, noise)
    frames = [frame(first), frame(second), frame(change(second)), frame(third)]
    assert find_near_copies(frames, noise) == [(1, 2)]


def test_a_frame_at_other_levels_is_a_copy():
    noise = estimation.from_iso(800)
    first, second = shots(2, noise)
    fewer_bits = frame((first - BLACK) / 4, 0, (WHITE - BLACK) / 4)
    assert find_near_copies([frame(first), frame(second), fewer_bits], noise) == [(0, 2)]


@pytest.mark.parametrize("sigma", [1.0, 0.35])
@pytest.mark.parametrize("iso", [50, 100, 6400])
@pytest.mark.parametrize("texture", ["smooth", "fine", "none"])
def test_photos_of_a_still_scene_are_no_copies_even_of_a_quiet_camera(sigma, iso, texture):
    stated = estimation.from_iso(iso)
    fine = np.clip(0.3 + 0.15 * np.random.default_rng(1).standard_normal(SCENE.shape), 0.01, 0.9)
    scene = {"smooth": SCENE, "fine": fine, "none": 0 * SCENE + 0.2}[texture].astype(np.float32)
    for white in (WHITE, 1535):  # 14 bits, 10 bits
        taken = shots(3, stated.with_strength(sigma), scene, white)
        assert find_near_copies([frame(s, BLACK, white) for s in taken], stated) == []


def test_clipped_and_black_frames_are_no_copies():
    noise = estimation.from_iso(800)
    for level in (BLACK, WHITE):
        assert find_near_copies([frame(0 * SCENE + level) for _ in range(2)], noise) == []
    assert find_near_copies([frame(SCENE[:, :4, :4]) for _ in range(2)], noise) == []
