"""What the network is shown of a burst: noise-normalised, so that one network serves every ISO.

Nothing here is learned. The functions take linear planes and the noise model
and return the input channels, plus the *robust weights* from which the kernels
start: how far each frame agrees with the reference, given the noise.
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

#: Side of the square whose mean is taken away to show detail, in cells.
_DETAIL = 5
#: How far `prepare` looks: for sigma, for the weights, for the detail of the mean.
REACH = 3 // 2 + ROBUSTNESS_SIDE // 2 + _DETAIL // 2
#: Bends the square root companding into a straight line near black.
_COMPAND_OFFSET = 1e-3


def channels(frames: int, noise_ratios: bool = False) -> int:
    """Number of input channels for bursts of up to `frames` frames.

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
    """Square root with a linear toe, odd: spreads the shadows as the eye and the loss do."""
    return x.sign() * ((x.abs() + _COMPAND_OFFSET).sqrt() - _COMPAND_OFFSET**0.5)


def prepare(
    burst: Tensor,
    shot: Tensor,
    read: Tensor,
    frames: int,
    *,
    noise_ratios: bool = False,
    unclipped: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the network's input channels and the weight from which each frame's kernel starts.

    Args:
        burst: `(batch, count, 4, height, width)` linear planes in the reference's exposure, the
            reference first; 1 <= count <= frames.
        shot, read: variance coefficients in the reference's exposure (`relative_variance`),
            `(batch, count, 4)`, or `(batch, 4)` where they are the same for all frames.
        frames: the number of frames the network was built for; channels of
            frames that are not there are zero.
        noise_ratios: whether to show the logarithm of each other frame's sigma over the
            reference's.
        unclipped: `(batch, count, height, width)`, weights of `clipping.exclude_clipped`.

    Returns:
        `(batch, channels(frames, noise_ratios), height, width)` and
        `(batch, count, height, width)`: robustness over relative variance, the reference's
        being 1. Both depend on no cell more than `REACH` away.
    """
    batch, count, _, height, width = burst.shape
    reference = burst[:, 0]
    sigma = sigma_map(reference, reference_coefficients(shot), reference_coefficients(read))
    others = burst[:, 1:]
    differences = (others - reference[:, None]) * (2**-0.5 / sigma[:, None])
    relative = None if shot.dim() == 2 else relative_variance(reference, shot, read)
    if relative is not None:
        differences = differences / ((1 + relative) / 2).sqrt()
    agreement = robustness_weights(differences)
    if unclipped is not None:
        agreement = agreement * unclipped[:, 1:]
    weights = agreement if relative is None else agreement / relative.mean(2)
    weights = torch.cat([torch.ones_like(reference[:, :1]), weights], 1)
    mean = (weights[:, :, None] * burst).sum(1) / weights.sum(1, keepdim=True)
    missing = burst.new_zeros(batch, frames - count, 5, height, width)
    shown = [
        compand(mean),
        # Centred so that the noises met in practice (1e-5 to 0.2) span about -3 to 1.
        (sigma.log() + 4) / 2,
        _compress((reference - mean) / sigma),
        _compress((mean - box(mean, _DETAIL)) / sigma),
        _compress(differences).flatten(1, 2),
        missing[:, :, :4].flatten(1, 2),
        agreement,
        missing[:, :, 4],
    ]
    if noise_ratios:
        no_ratio = torch.zeros_like(agreement)
        shown.append(no_ratio if relative is None else relative.log().mean(2) / 2)
        shown.append(missing[:, :, 4])
    return torch.cat(shown, 1), weights
