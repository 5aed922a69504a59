"""Whole bursts as a hand takes them, before any alignment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import protocol
from .motion import draw_object
from .photos import PIXELS_PER_CELL, Scene

_TRIPOD = 0.15  # chance
_TURNING, _DEGREES = 0.3, 0.2  # chance, and the most
_MOVING = 0.25  # chance


def draw_handheld(
    scenes: Sequence[Scene],
    number: int,
    rng: np.random.Generator,
    count: int,
    colours: np.ndarray | None = None,
) -> np.ndarray:
    """Return the noiseless frames of a whole photo.

    A tripod now and then; else the protocol's shifts (`protocol.draw_shifts`) and small
    turns, or an object that moves by itself.

    Args:
        scenes: photos; `scenes[number]` is the one taken, another lends the object.
        number: which.
        rng: where all chances come from.
        count: number of frames, the reference first.
        colours: `(3, 3)`, from the photos' to the camera's colours; None for equal ones.

    Returns:
        `(count, 4, rows, columns)` float32 in [0, 1], linear with the photo's white
        balance, of all the photo but a margin.
    """

    def photograph(which: int, shifts: np.ndarray) -> np.ndarray:
        scene = scenes[which].fitted(scenes[number].height, scenes[number].width)
        scene = scene if colours is None else scene.mixed(colours)
        return protocol.whole_planes(scene, shifts, angles).astype(np.float32) / 65535

    shifts = protocol.draw_shifts(rng, count) * (rng.random() >= _TRIPOD)
    angles = np.zeros(count)
    moving = rng.random() < _MOVING
    if shifts.any() and not moving and rng.random() < _TURNING:
        angles[1:] = np.radians(rng.uniform(-_DEGREES, _DEGREES, count - 1))
    frames = photograph(number, shifts)
    if moving:
        size = protocol.whole_size(scenes[number])
        camera = shifts[:, ::-1] / PIXELS_PER_CELL
        way, mask = draw_object(rng, size, np.arange(count), camera)
        steps = np.round(way[:, ::-1] * PIXELS_PER_CELL).astype(int)
        frames += mask * (photograph(int(rng.integers(len(scenes))), shifts - steps) - frames)
    return frames
