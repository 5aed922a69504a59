"""Pictures made by the tests: rich in detail at every scale, different for each seed."""

from __future__ import annotations

import cv2
import numpy as np

from kpn_cli.synthesis.photos import Scene, scene_from_srgb

ORIENTATIONS = range(1, 9)


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """A picture `(height, width)` float32 in [0.05, 0.95] with detail from 2 to 32 samples."""
    rng = np.random.default_rng(seed)
    size = max(height, 32), max(width, 32)  # a smaller one need not have detail at every scale
    picture = np.zeros(size, np.float32)
    for scale in (1, 4, 16):
        noise = rng.standard_normal(size, dtype=np.float32)
        blurred = cv2.GaussianBlur(noise, (0, 0), scale)
        picture += blurred / blurred.std()
    low, high = picture.min(), picture.max()
    return 0.05 + 0.9 * (picture[:height, :width] - low) / (high - low)


def planes(seed: int, height: int, width: int) -> np.ndarray:
    """Four planes `(4, height, width)` that show one texture in four brightnesses."""
    brightness = np.float32([0.5, 1.0, 0.95, 0.6])[:, None, None]
    return brightness * texture(seed, height, width)


def photo(seed: int, height: int, width: int) -> np.ndarray:
    """An sRGB photo `(height, width, 3)` uint8."""
    channels = [texture(1000 * seed + channel, height, width) for channel in range(3)]
    return np.round(255 * np.stack(channels, -1)).astype(np.uint8)


def scene(seed: int, height: int, width: int) -> Scene:
    """A photo as a linear scene."""
    return scene_from_srgb(f"photo {seed}", photo(seed, height, width))
