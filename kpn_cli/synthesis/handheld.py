"""Bursts of whole photos with hand shake, camera rotation and moving objects, not aligned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import protocol
from .highlights import with_highlights
from .motion import draw_object
from .photos import PIXELS_PER_CELL, Scene

_TRIPOD_CHANCE = 0.15
_TURNING_CHANCE, _LARGEST_TURN = 0.3, 0.2  # the turn in degrees
_MOVING_CHANCE = 0.25


def draw_handheld(
    scenes: Sequence[Scene],
    number: int,
    rng: np.random.Generator,
    count: int,
    colours: np.ndarray | None = None,
    *,
    shake: np.ndarray | None = None,
    highlights: float = 1.0,
) -> np.ndarray:
    """Return the noiseless frames of a whole photo, less a margin.

    On a tripod, or with the protocol's shifts (`protocol.draw_camera_shifts`), and sometimes
    with small rotations or a moving object.

    Args:
        scenes: photos.
        number: index of the photo to take; the object shows a random other one.
        rng: source of all randomness.
        count: number of frames, the reference first.
        colours: `(3, 3)`, matrix from the photos' to the camera's colours; None for identity.
        shake: `(count, 2)`, path of the scene during each exposure (`protocol.photograph_planes`),
            unless on a tripod; None for none.
        highlights: brightness of the photos' highlights over that of the photos
            (`highlights.with_highlights`).

    Returns:
        `(count, 4, rows, columns)` float32 in [0, `highlights`], linear with the photo's white
        balance.
    """

    def photograph(index: int, shifts: np.ndarray) -> np.ndarray:
        scene = scenes[index].resized(scenes[number].height, scenes[number].width)
        scene = scene if colours is None else scene.with_primaries(colours)
        scene = with_highlights(scene, highlights)
        path = () if shake is None or not hand_held else (shake,)
        planes = protocol.photograph_planes(scene, shifts, angles, *path)
        return planes.astype(np.float32) / 65535

    shifts = protocol.draw_camera_shifts(rng, count)
    hand_held = rng.random() >= _TRIPOD_CHANCE
    shifts *= hand_held
    angles = np.zeros(count)
    moving = rng.random() < _MOVING_CHANCE
    if shifts.any() and not moving and rng.random() < _TURNING_CHANCE:
        angles[1:] = np.radians(rng.uniform(-_LARGEST_TURN, _LARGEST_TURN, count - 1))
    frames = photograph(number, shifts)
    if moving:
        size = protocol.frame_size(scenes[number])
        camera_shifts = shifts[:, ::-1] / PIXELS_PER_CELL
        path, mask = draw_object(rng, size, np.arange(count), camera_shifts)
        steps = np.round(path[:, ::-1] * PIXELS_PER_CELL).astype(int)
        frames += mask * (photograph(int(rng.integers(len(scenes))), shifts - steps) - frames)
    return frames
