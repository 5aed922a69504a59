"""More strength than 1: what is told as noise goes, and of noise less is left.

Told more noise than there is, the network takes away what else it would keep, fine texture
first. Where there is nothing of that kind it leaves hardly any noise anyway, but of that not
less than when it is told the truth: now and then half as much again. So there its result of
strength 1 counts. And its wide kernels pass over the picture once more, or several times: what
is left of noise shrinks with every pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..image.filters import box
from ..network.restore import Merged

#: With strength s, the wide kernels pass this often times log2(s), and where they change a sample
#: by more than this share of sigma, times the root of s, the less of it is made.
_PASSES, _CHANGE = 2.0, 0.05
#: Differences well below this share of sigma are what is left of noise; those above it, what
#: strength has taken away. Root mean square over a square of so many cells a side.
_SETTLED, _SIDE = 0.15, 5

#: A picture, `(batch, planes, height, width)` -> that under the wide kernels, and their
#: centre taps, `(batch, height, width)`.
Widely = Callable[[Tensor], tuple[Tensor, Tensor]]


def share_of_told(plain: Tensor, told: Tensor, variance: Tensor) -> Tensor:
    """Return how far the result counts that was made with more noise told than there is.

    Args:
        plain: `(batch, planes, height, width)`, merged with the noise as it is.
        told: merged with the strength times that sigma.
        variance: of the noise in the reference, as it is; broadcasts to `plain`.

    Returns:
        `(batch, 1, height, width)`, d^4 / (d^4 + limit^4); 0 where they differ by no more than
        what is left of noise, near 1 where something else has gone.
    """
    difference = box(((told - plain).square() / variance).mean(1, keepdim=True), _SIDE).square()
    return difference / (difference + _SETTLED**4)


def strengthened(
    plain: Merged,
    told: Merged,
    share: Tensor,
    sigma: Tensor,
    strength: float,
    widely: Widely | None,
) -> Merged:
    """Return what a strength beyond 1 makes of a burst.

    Args:
        plain, told: merged as for `share_of_told`.
        share: what that returned.
        sigma: of the noise in the reference, as it is; broadcasts to `plain.clean`.
        strength: 1 or more.
        widely: filters with the wide kernels; None where there are none.
    """
    merged = Merged(
        torch.lerp(plain.clean, told.clean, share), torch.lerp(plain.own, told.own, share[:, 0])
    )
    if widely is None:
        return merged
    limit = _CHANGE * strength**0.5 * sigma
    return smoothed(merged, limit, _PASSES * math.log2(strength), widely)


def smoothed(merged: Merged, limit: Tensor, passes: float, widely: Widely) -> Merged:
    """Filter a merged burst with its wide kernels once more, or several times.

    Where there is nothing but noise, what is left of it shrinks with every pass. Where that changes
    more than noise could, there is texture, which stays; and a line whose echo taps so far apart
    would draw beside it.

    Args:
        merged: a burst.
        limit: broadcasts to `merged.clean`; of a change d from it, by all passes together, the
            part 1 / (1 + (d / limit)^2) is made, which is never more than half of the limit.
        passes: how often; of the last one, a part may be made.
        widely: filters with the wide kernels.
    """
    clean, own = merged
    while passes > 0:
        wider, centre = widely(clean)
        change = wider - merged.clean
        made = (1 + (change / limit).square()).reciprocal_()
        share = made.mean(1)
        part = min(passes, 1.0)
        clean = clean.lerp(torch.addcmul(merged.clean, made, change), part)
        own = own.lerp(merged.own * (1 - share) + own * centre * share, part)
        passes -= 1
    return Merged(clean, own)
