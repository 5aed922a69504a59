"""Scenes with real highlights: photos end at white, bracketed scenes go far beyond it."""

from __future__ import annotations

import cv2
import numpy as np

from .photos import Scene

#: Range of the smoothed brightness over which highlights rise, as quantiles of the photo's.
_FROM, _TO = 0.8, 0.98
#: Sigma of the smoothing, as a share of the photo's smaller side: the texture within a highlight
#: keeps its contrast.
_SMOOTHING = 1 / 32


def with_highlights(scene: Scene, factor: float) -> Scene:
    """Return a scene whose brightest regions are up to `factor` times as bright.

    The factor rises smoothly from 1 to `factor` with the smoothed brightness of the photo, from its
    80th to its 98th percentile. It is the same for R, G and B.

    Args:
        scene: the photo.
        factor: at least 1; 1 changes nothing.

    Returns:
        A scene of float32 channels, beyond 65535 in highlights; the scene itself for a factor of 1.
    """
    if factor == 1:
        return scene
    grey = scene.channels.mean(0, dtype=np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), min(grey.shape) * _SMOOTHING)
    low, high = np.quantile(smooth[::4, ::4], (_FROM, _TO))
    rise = np.clip((smooth - low) / max(high - low, 1), 0, 1)
    rise *= rise * (3 - 2 * rise)
    # In EV: equal steps for the eye.
    gain = np.exp2(np.float32(np.log2(factor)) * rise)
    return Scene(scene.name, scene.channels.astype(np.float32) * gain)
