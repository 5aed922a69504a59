"""The network's input channels: noise-normalised, so that one network serves every ISO.

Nothing here is learned. Linear planes and the noise model go in; the input channels come out,
and the weights from which the kernels start: how far each frame agrees with the reference, given
the noise. The paper (Mildenhall et al. 2018) gives its network the burst and one noise map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..align.robustness import (
    ROBUSTNESS_SIDE,
    reference_coefficients,
    relative_variance,
    robustness_weights,
    sigma_map,
)
from ..image.filters import box

#: Side of the square whose mean is subtracted to show detail, in cells.
_DETAIL_SIDE = 5
#: How far from a cell `network_input` looks, in cells: for sigma, for robustness, for the detail
#: of the mean.
REACH = 3 // 2 + ROBUSTNESS_SIDE // 2 + _DETAIL_SIDE // 2
#: Bends the square root companding into a straight line near black.
_COMPAND_OFFSET = 1e-3


def channel_count(frames: int) -> int:
    """Return the number of input channels for bursts of up to `frames` frames.

    Args:
        frames: the most frames, the reference included.
    """
    others = frames - 1
    return 4 * 4 + 4 * others + others


def _compress(x: Tensor) -> Tensor:
    """Logarithm with a linear middle, odd: keeps ratios of large differences apart."""
    return x.abs().log1p_().copysign_(x)


def compand(x: Tensor) -> Tensor:
    """Square root with a linear toe, odd: spreads the shadows as the eye and the loss do.

    Args:
        x: any shape, linear, 1.0 = white level.
    """
    companded: Tensor = x.sign() * ((x.abs() + _COMPAND_OFFSET).sqrt() - _COMPAND_OFFSET**0.5)
    return companded


class Runs(NamedTuple):
    """The network's input channels of a burst, but for those of missing frames, which are zero.

    Attributes:
        channels: the runs of channels that are there, `(batch, channels, rows, width)` each, and
            the number of the first channel of each.
        weights: `(batch, count, rows, width)`: robustness over relative variance; the
            reference's is 1.
        light: `(batch, count, rows, width)`: the share that a frame which agrees has in the mean
            by the inverse of variance, over its share among frames of one exposure; less for
            frames that agree less. None where all frames have one noise: there it is 1. By it the
            kernels that are right for frames of one exposure are multiplied.
    """

    channels: list[tuple[int, Tensor]]
    weights: Tensor
    light: Tensor | None


def network_input(
    burst: Tensor,
    shot: Tensor,
    read: Tensor,
    frames: int,
    *,
    unclipped: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the network's input channels and the weight from which each frame's kernel starts.

    Args:
        burst, shot, read, frames, unclipped: as for `input_runs`.

    Returns:
        `(batch, channel_count(frames), height, width)` and
        `(batch, count, height, width)` (`Runs.weights`). Neither depends on a cell more than
        `REACH` away.
    """
    runs, weights, _ = input_runs(burst, shot, read, frames, unclipped=unclipped)
    batch, _, _, height, width = burst.shape
    channels = burst.new_zeros(batch, channel_count(frames), height, width)
    for first, run in runs:
        channels[:, first : first + run.shape[1]] = run
    return channels, weights


def input_runs(
    burst: Tensor,
    shot: Tensor,
    read: Tensor,
    frames: int,
    *,
    unclipped: Tensor | None = None,
    rows: slice = slice(None),
) -> Runs:
    """Return the input channels of some rows of a burst.

    The channels, in order, each for four planes unless stated: the robust mean, companded; log
    sigma; reference minus mean and the mean's detail, in sigmas, compressed; the differences of
    each other frame from the reference, likewise; the robustness of each other frame (one). Where
    frames differ in noise, log sigma is that of frames of one exposure whose mean would have as
    little noise, and the mean's detail is in those.

    Args:
        burst: `(batch, count, 4, height, width)` linear planes in the reference's exposure, the
            reference first; 1 <= count <= frames.
        shot, read: variance coefficients in the reference's exposure (`relative_variance`),
            `(batch, count, 4)`, or `(batch, 4)` if they are the same for all frames.
        frames: the number of frames that the network was built for.
        unclipped: `(batch, count, height, width)`, weights of `clipping.exclude_clipped`.
        rows: for which channels are wanted; the others are their surroundings.
    """
    count, reference = burst.shape[1], burst[:, 0]
    sigma = sigma_map(reference, reference_coefficients(shot), reference_coefficients(read))
    differences = (burst[:, 1:] - reference[:, None]).mul_((2**-0.5 / sigma)[:, None])
    relative = None if shot.dim() == 2 or count == 1 else relative_variance(reference, shot, read)
    if relative is not None:
        differences /= ((1 + relative) / 2).sqrt_()
    agreement = robustness = robustness_weights(differences)
    if unclipped is not None:
        robustness = robustness * unclipped[:, 1:]
    weights, equal_sigma, light = robustness, sigma, None
    if relative is not None:
        variance = _blended_variance(relative.mean(2), unclipped)
        weights = robustness / variance
        # How many times the noise of the mean is what it would be at the reference's exposure.
        less = ((1 + robustness.sum(1)) / (1 + weights.sum(1)))[:, None]
        equal_sigma = sigma * less.sqrt()
        # What a network leaves of a frame that shows something else must not grow with its light.
        # Judged over a square, so that noise does not decide.
        shares = 1 + (1 / variance - 1) * box(agreement, _DETAIL_SIDE)
        light = torch.cat([less, less * shares], 1)[:, :, rows]
    mean = _weighted_mean(burst, weights)
    detail = (mean - box(mean, _DETAIL_SIDE))[:, :, rows]
    reference, mean, sigma, equal_sigma = (
        x[:, :, rows] for x in (reference, mean, sigma, equal_sigma)
    )
    common = [
        compand(mean),
        # Centred so that the noise met in practice (sigma 1e-5 to 0.2) spans about -3 to 1.
        equal_sigma.log().add_(4).div_(2),
        _compress((reference - mean) / sigma),
        _compress(detail / equal_sigma),
    ]
    runs = [(0, torch.cat(common, 1))]
    if count > 1:
        first = 4 * len(common)
        runs.append((first, _compress(differences[:, :, :, rows]).flatten(1, 2)))
        runs.append((first + 4 * (frames - 1), robustness[:, :, rows]))
    weights = torch.cat([torch.ones_like(mean[:, :1]), weights[:, :, rows]], 1)
    return Runs(runs, weights, light)


def _blended_variance(relative: Tensor, unclipped: Tensor | None) -> Tensor:
    """Return the relative variance of frames that `clipping.exclude_clipped` has blended.

    What it takes from the reference has the reference's noise.

    Args:
        relative: `(batch, count - 1, height, width)`, as recorded.
        unclipped: `(batch, count, height, width)`; None if nothing was blended.
    """
    if unclipped is None:
        return relative
    share = unclipped[:, 1:]
    return (1 - share).square_() + share.square() * relative


def _weighted_mean(burst: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of the frames, the reference with a weight of 1.

    Args:
        burst: `(batch, count, planes, height, width)`.
        weights: `(batch, count - 1, height, width)`, of the others.
    """
    total = burst[:, 0]
    for other, weight in zip(burst[:, 1:].unbind(1), weights.unbind(1), strict=True):
        total = torch.addcmul(total, other, weight[:, None])
    return total / (1 + weights.sum(1, keepdim=True))
