"""The network's input channels: noise-normalised, so that one network serves every ISO.

Nothing here is learned. Linear planes and the noise model go in; the input channels come out,
and the weights from which the kernels start: how far each frame agrees with the reference, given
the noise. The paper (Mildenhall et al. 2018) gives its network the burst and one noise map.
"""

from __future__ import annotations

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


def channel_count(frames: int, noise_ratios: bool = False) -> int:
    """Return the number of input channels for bursts of up to `frames` frames.

    Args:
        frames: the most frames, the reference included.
        noise_ratios: whether each other frame has a map of its noise over the reference's.
    """
    others = frames - 1
    return 4 * 4 + 4 * others + others + noise_ratios * others


def _compress(x: Tensor) -> Tensor:
    """Logarithm with a linear middle, odd: keeps ratios of large differences apart."""
    return torch.log1p(x.abs()).copysign(x)


def compand(x: Tensor) -> Tensor:
    """Square root with a linear toe, odd: spreads the shadows as the eye and the loss do.

    Args:
        x: any shape, linear, 1.0 = white level.
    """
    companded: Tensor = x.sign() * ((x.abs() + _COMPAND_OFFSET).sqrt() - _COMPAND_OFFSET**0.5)
    return companded


def network_input(
    burst: Tensor,
    shot: Tensor,
    read: Tensor,
    frames: int,
    *,
    noise_ratios: bool = False,
    unclipped: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the network's input channels and the weight from which each frame's kernel starts.

    The channels, in order, each for four planes unless stated: the robust mean, companded; log
    sigma; reference minus mean and the mean's detail, in sigmas, compressed; the differences of
    each other frame from the reference, likewise; the robustness of each other frame (one);
    with `noise_ratios` the log ratio of its sigma to the reference's (one).

    Args:
        burst: `(batch, count, 4, height, width)` linear planes in the reference's exposure, the
            reference first; 1 <= count <= frames.
        shot, read: variance coefficients in the reference's exposure (`relative_variance`),
            `(batch, count, 4)`, or `(batch, 4)` if they are the same for all frames.
        frames: the number of frames that the network was built for; the channels of missing
            frames are zero.
        noise_ratios: whether to include the logarithm of each other frame's sigma over the
            reference's.
        unclipped: `(batch, count, height, width)`, weights of `clipping.exclude_clipped`.

    Returns:
        `(batch, channel_count(frames, noise_ratios), height, width)` and
        `(batch, count, height, width)`: robustness over relative variance; the reference's is
        1. Neither depends on a cell more than `REACH` away.
    """
    batch, count, _, height, width = burst.shape
    reference = burst[:, 0]
    sigma = sigma_map(reference, reference_coefficients(shot), reference_coefficients(read))
    others = burst[:, 1:]
    differences = (others - reference[:, None]) * (2**-0.5 / sigma[:, None])
    relative = None if shot.dim() == 2 else relative_variance(reference, shot, read)
    if relative is not None:
        differences = differences / ((1 + relative) / 2).sqrt()
    robustness = robustness_weights(differences)
    if unclipped is not None:
        robustness = robustness * unclipped[:, 1:]
    weights = robustness if relative is None else robustness / relative.mean(2)
    weights = torch.cat([torch.ones_like(reference[:, :1]), weights], 1)
    mean = (weights[:, :, None] * burst).sum(1) / weights.sum(1, keepdim=True)
    missing = burst.new_zeros(batch, frames - count, 5, height, width)
    channels = [
        compand(mean),
        # Centred so that the noise met in practice (sigma 1e-5 to 0.2) spans about -3 to 1.
        (sigma.log() + 4) / 2,
        _compress((reference - mean) / sigma),
        _compress((mean - box(mean, _DETAIL_SIDE)) / sigma),
        _compress(differences).flatten(1, 2),
        missing[:, :, :4].flatten(1, 2),
        robustness,
        missing[:, :, 4],
    ]
    if noise_ratios:
        no_ratio = torch.zeros_like(robustness)
        channels.append(no_ratio if relative is None else relative.log().mean(2) / 2)
        channels.append(missing[:, :, 4])
    return torch.cat(channels, 1), weights
