"""Strength above 1: removes what the network takes for noise, and leaves less residual noise.

If it assumes more noise than there is, the network removes what it would otherwise keep, fine
texture first. Where there is no such texture it leaves hardly any noise either way, but not less
than under the true noise: now and then half as much again. There the result of strength 1 is
used. And the dilated kernels filter the picture again, once or several times: every pass
leaves less residual noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..image.filters import box
from ..network.apply_kernels import Merged

#: At strength s, the dilated kernels are applied this many times log2(s) more; changes beyond
#: this share of sigma, times the root of s, are limited.
_PASSES, _CHANGE_SHARE = 2.5, 0.05
#: Differences well below this share of sigma are residual noise; those above it are what the
#: strength has removed. Root mean square over a square of this many cells a side.
_NOISE_SHARE, _SIDE = 0.15, 5

#: Filters a picture, `(batch, planes, height, width)`, with the dilated kernels; returns it and
#: their centre taps, `(batch, height, width)`.
DilatedFilter = Callable[[Tensor], tuple[Tensor, Tensor]]


def assumed_share(plain: Tensor, assumed: Tensor, variance: Tensor) -> Tensor:
    """Return the share of the result that assumes more noise than there is.

    Args:
        plain: `(batch, planes, height, width)`, merged under the true noise.
        assumed: `(batch, planes, height, width)`, merged under the strength times that sigma.
        variance: of the true noise in the reference; broadcasts to `plain`.

    Returns:
        `(batch, 1, height, width)`, d^4 / (d^4 + limit^4), where d is the root mean square
        difference in sigmas: 0 where they differ by no more than residual noise, near 1 where
        more was removed.
    """
    difference = box(((assumed - plain).square() / variance).mean(1, keepdim=True), _SIDE).square()
    return difference / (difference + _NOISE_SHARE**4)


def apply_strength(
    plain: Merged,
    assumed: Merged,
    share: Tensor,
    sigma: Tensor,
    strength: float,
    dilated_filter: DilatedFilter | None,
) -> Merged:
    """Return the result of a strength above 1.

    Args:
        plain, assumed: merged as for `assumed_share`.
        share: as it returns it.
        sigma: of the true noise in the reference; broadcasts to `plain.clean`.
        strength: 1 or more.
        dilated_filter: None for a network without a dilated kernel.
    """
    merged = Merged(
        torch.lerp(plain.clean, assumed.clean, share),
        torch.lerp(plain.reference_weight, assumed.reference_weight, share[:, 0]),
    )
    if dilated_filter is None:
        return merged
    limit = _CHANGE_SHARE * strength**0.5 * sigma
    return repeat_dilated_filter(merged, limit, _PASSES * math.log2(strength), dilated_filter)


def repeat_dilated_filter(
    merged: Merged, limit: Tensor, passes: float, dilated_filter: DilatedFilter
) -> Merged:
    """Filter a merged burst with its dilated kernels again, once or several times.

    Where there is nothing but noise, every pass leaves less of it. Where the passes change more
    than noise could, there is texture, which is kept; or a line, of which taps so far apart
    would draw an echo.

    Args:
        merged: a burst.
        limit: broadcasts to `merged.clean`. Of a change d by all passes together, the part
            1 / (1 + (d / limit)^2) is made, which is never more than half of the limit.
        passes: how often; the last pass may be a fraction.
        dilated_filter: with the kernels of the burst.
    """
    clean, reference_weight = merged
    while passes > 0:
        filtered, centre = dilated_filter(clean)
        change = filtered - merged.clean
        made = (1 + (change / limit).square()).reciprocal_()
        share = made.mean(1)
        part = min(passes, 1.0)
        clean = clean.lerp(torch.addcmul(merged.clean, made, change), part)
        after = merged.reference_weight * (1 - share) + reference_weight * centre * share
        reference_weight = reference_weight.lerp(after, part)
        passes -= 1
    return Merged(clean, reference_weight)
