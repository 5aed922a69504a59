"""PSNR and SSIM of linear planes, after white level, gamma curve and clipping."""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from ..image.srgb import srgb_encode

#: Cells cropped from the border before measuring (8 mosaic pixels).
_BORDER = 4


def to_display(planes: np.ndarray, white: float) -> np.ndarray:
    """Convert linear planes to the values that the metrics compare.

    Args:
        planes: `(..., height, width)`, linear.
        white: white level of the scene, by which they are divided.

    Returns:
        `(..., height - 8, width - 8)` float32 in [0, 1], gamma-corrected (sRGB) and clipped.
    """
    inner = planes[..., _BORDER:-_BORDER, _BORDER:-_BORDER].astype(np.float32)
    encoded: np.ndarray = np.clip(srgb_encode(inner / np.float32(white)), 0, 1)
    return encoded


def psnr(output: np.ndarray, truth: np.ndarray, white: float) -> float:
    """Return the peak signal-to-noise ratio in dB.

    Args:
        output, truth: `(4, height, width)`, linear.
        white: white level of the scene.
    """
    error = to_display(output, white) - to_display(truth, white)
    with np.errstate(divide="ignore"):  # inf dB for equal pictures
        return float(-10 * np.log10(np.mean(np.square(error, dtype=np.float64))))


def ssim(output: np.ndarray, truth: np.ndarray, white: float) -> float:
    """Return the structural similarity, the mean over the planes, at most 1.

    Args:
        output, truth: `(4, height, width)`, linear.
        white: white level of the scene.
    """
    similarity = structural_similarity(  # type: ignore[no-untyped-call]  # no types in scikit-image
        to_display(output, white), to_display(truth, white), data_range=1.0, channel_axis=0
    )
    return float(similarity)
