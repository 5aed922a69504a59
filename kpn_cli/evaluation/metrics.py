"""PSNR and SSIM of linear planes, on gamma-corrected and clipped values."""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from ..image.srgb import srgb_encode

#: Cells cropped from the border before measuring (8 mosaic pixels).
_CROP = 4


def displayed(planes: np.ndarray, white: float) -> np.ndarray:
    """What is compared: divided by the white level, gamma-corrected, clipped, border cropped."""
    inner = planes[..., _CROP:-_CROP, _CROP:-_CROP].astype(np.float32)
    return np.clip(srgb_encode(inner / np.float32(white)), 0, 1)


def psnr(output: np.ndarray, truth: np.ndarray, white: float) -> float:
    """Peak signal-to-noise ratio in dB of linear planes `(4, height, width)`."""
    error = displayed(output, white) - displayed(truth, white)
    with np.errstate(divide="ignore"):  # no error at all is infinitely many dB
        return float(-10 * np.log10(np.mean(np.square(error, dtype=np.float64))))


def ssim(output: np.ndarray, truth: np.ndarray, white: float) -> float:
    """Structural similarity, the mean over the four planes, of linear planes."""
    return float(
        structural_similarity(
            displayed(output, white), displayed(truth, white), data_range=1.0, channel_axis=0
        )
    )
