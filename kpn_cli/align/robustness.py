"""How far a frame can be trusted: the noise sigma at each sample, and the robust weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.filters import box

#: Side of the square over which frames are compared with the reference, in cells.
COMPARE = 3
#: No sensor is quieter than this: the quantisation of 14 bits has a sigma of 1.8e-5.
_SIGMA_FLOOR = 1e-5


def sigma_map(reference: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Noise standard deviation at each sample of the reference frame.

    The signal is read off a 3x3 mean: taken sample by sample, the estimate
    would itself be noisy and, as its negatives count as zero, biased.

    Args:
        reference: `(batch, 4, height, width)`, linear, 1.0 = white level.
        shot, read: `(batch, 4)` variance coefficients (`NoiseModel`).
    """
    signal = box(reference, 3).clamp_min(0)
    variance = shot[:, :, None, None] * signal + read[:, :, None, None]
    return variance.sqrt().clamp_min(_SIGMA_FLOOR)


def of_reference(coefficients: Tensor) -> Tensor:
    """Return the reference's noise coefficients, `(batch, 4)`.

    Args:
        coefficients: `(batch, 4)`, the same for all frames, or `(batch, count, 4)`.
    """
    return coefficients if coefficients.dim() == 2 else coefficients[:, 0]


def relative_variance(reference: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Noise variance of each other frame over the reference's, r^2, at the same signal.

    A frame whose recorded signal is g times the reference's is scaled by 1/g; at signal x its
    variance is then S x / g + O / g^2, S and O being those of its own ISO.

    Args:
        reference: `(batch, 4, height, width)`, linear.
        shot, read: `(batch, count, 4)`, S / g and O / g^2 of each frame, the reference first.

    Returns:
        `(batch, count - 1, 4, height, width)`; exactly 1 where the coefficients are equal.
    """
    signal = box(reference, 3).clamp_min(0)[:, None]
    variance = shot[..., None, None] * signal + read[..., None, None]
    variance = variance.clamp_min(_SIGMA_FLOOR**2)
    return variance[:, 1:] / variance[:, :1]


def robust_weights(differences: Tensor) -> Tensor:
    """How far each frame agrees with the reference, 0 to 1.

    The mean square of the normalised differences over 3x3 cells and four planes
    (36 samples) is 1 where only noise separates the frames; the weight falls off
    exponentially above that.

    Args:
        differences: `(batch, others, 4, height, width)`, (frame - reference) / (sqrt(2) sigma).

    Returns:
        `(batch, others, height, width)`.
    """
    if differences.shape[1] == 0:  # a burst of one frame; padding refuses empty tensors
        return differences[:, :, 0]
    distance = box(differences.square().mean(2), COMPARE)
    return torch.exp(-(distance - 1).clamp_min(0))
