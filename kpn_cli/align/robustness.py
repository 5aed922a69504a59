"""How far each frame can be trusted: the noise at each sample, and the robustness weights.

The weights play the part of the robustness mask of Wronski et al., "Handheld Multi-Frame
Super-Resolution" (SIGGRAPH 2019): 1 where a frame differs from the reference by nothing but noise,
0 where it shows something else.
"""

from __future__ import annotations

from torch import Tensor

from ..image.filters import box

#: Side of the square over which frames are compared with the reference, in cells.
ROBUSTNESS_SIDE = 3
#: No sensor is quieter than this: the quantisation of 14 bits has a sigma of 1.8e-5.
_MIN_SIGMA = 1e-5


def sigma_map(reference: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Return the noise's standard deviation at each sample of the reference.

    The signal is taken from a 3x3 mean: taken sample by sample, the estimate
    would itself be noisy and, as negative samples count as zero, biased.

    Args:
        reference: `(batch, 4, height, width)`, linear, 1.0 = white level.
        shot, read: `(batch, 4)` variance coefficients (`NoiseModel`).

    Returns:
        `(batch, 4, height, width)`, at least 1e-5.
    """
    signal = box(reference, 3).clamp_min_(0)
    variance = signal.mul_(shot[:, :, None, None]).add_(read[:, :, None, None])
    return variance.sqrt_().clamp_min_(_MIN_SIGMA)


def reference_coefficients(coefficients: Tensor) -> Tensor:
    """Return the reference's noise coefficients, `(batch, 4)`.

    Args:
        coefficients: `(batch, 4)`, the same for all frames, or `(batch, count, 4)`.
    """
    return coefficients if coefficients.dim() == 2 else coefficients[:, 0]


def relative_variance(reference: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Return the noise variance of each other frame over the reference's at the same signal.

    A frame whose recorded signal is g times the reference's is scaled by 1/g; at signal x its
    variance is then S x / g + O / g^2, where S and O are those of its own ISO.

    Args:
        reference: `(batch, 4, height, width)`, linear.
        shot, read: `(batch, count, 4)`, S / g and O / g^2 of each frame, the reference first.

    Returns:
        `(batch, count - 1, 4, height, width)`; exactly 1 where the coefficients are equal.
    """
    signal = box(reference, 3).clamp_min(0)[:, None]
    variance = shot[..., None, None] * signal + read[..., None, None]
    variance = variance.clamp_min(_MIN_SIGMA**2)
    return variance[:, 1:] / variance[:, :1]


def robustness_weights(differences: Tensor) -> Tensor:
    """Return how well each frame agrees with the reference, 0 to 1.

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
    first, *others = differences.unbind(2)
    squares = first.square()
    for plane in others:
        squares.addcmul_(plane, plane)
    distance = box(squares.div_(1 + len(others)), ROBUSTNESS_SIDE)
    return distance.sub_(1).clamp_min_(0).neg_().exp_()
