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


def psnr(
    output: np.ndarray, truth: np.ndarray, white: float, where: np.ndarray | None = None
) -> float:
    """Return the peak signal-to-noise ratio in dB.

    Args:
        output, truth: `(4, height, width)`, linear.
        white: white level of the scene.
        where: `(height, width)` bool, the cells that are compared; None for all.
    """
    error = to_display(output, white) - to_display(truth, white)
    if where is not None:
        error = error[:, where[_BORDER:-_BORDER, _BORDER:-_BORDER]]
    with np.errstate(divide="ignore"):  # inf dB for equal pictures
        return float(-10 * np.log10(np.mean(np.square(error, dtype=np.float64))))


def darkest_third(truth: np.ndarray) -> np.ndarray:
    """Return the darkest third of the cells of a picture, `(height, width)` bool.

    Args:
        truth: `(4, height, width)`, linear. A cell is as bright as the mean of its samples.
    """
    brightness = truth.mean(0)
    dark: np.ndarray = brightness <= np.quantile(brightness, 1 / 3)
    return dark


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
