"""Shake during an exposure: the scene smears along a line as long as the exposure lasts."""

from __future__ import annotations

import cv2
import numpy as np

from .photos import Scene

#: Samples of the line for each photo pixel of its length.
_SAMPLES_PER_PIXEL = 4


def smeared(scene: Scene, path: np.ndarray) -> Scene:
    """Return a scene that moved during the exposure, at constant speed, about where it is.

    Args:
        scene: the photo.
        path: `(2,)`, (x, y) in photo pixels, from the start of the exposure to its end; zero
            returns the scene itself.
    """
    if not np.any(path):
        return scene
    kernel = _line(np.asarray(path, float))
    channels = [
        cv2.filter2D(channel, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        for channel in scene.channels
    ]
    return Scene(scene.name, np.stack(channels))


def _line(path: np.ndarray) -> np.ndarray:
    """Return the kernel of a line around the middle; each of its points shared by 4 pixels."""
    number = int(np.ceil(_SAMPLES_PER_PIXEL * np.hypot(*path))) + 1
    points = np.linspace(-0.5, 0.5, number)[:, None] * path
    reach = np.ceil(np.abs(path) / 2).astype(int)
    kernel = np.zeros((2 * reach[1] + 3, 2 * reach[0] + 3))
    whole = np.floor(points).astype(int)
    part = points - whole
    for x in (0, 1):
        for y in (0, 1):
            share = np.abs(1 - x - part[:, 0]) * np.abs(1 - y - part[:, 1])
            at = whole[:, 1] + reach[1] + 1 + y, whole[:, 0] + reach[0] + 1 + x
            np.add.at(kernel, at, share / number)
    return kernel
