"""Measure the residual noise: how much of the noise is left in the merged picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from .tile import Merger

#: What is left of noise is tried out on squares of so many cells, one in so many each way, of
#: small pictures up to so many. Each costs what twice its size of the picture does: together, of
#: large ones, a sixteenth.
_TRIED, _TRIED_EVERY, _TRIED_LEAST = 96, 512, 3
#: Cells at their borders that don't count, for want of their surroundings.
_UNSEEN = 16
#: Where so little tips a decision, of the guard's, what follows is no measure: of a sample so many
#: squares count at the most, six nudges.
_MOST = 36.0


def noise_left(merger: Merger, size: tuple[int, int]) -> float:
    """Return the share of the noise's variance that is left in the picture.

    Tried out on squares that are spread over it, whatever the tiles are.

    Args:
        merger: of the burst.
        size: rows and columns of the picture in cells.
    """
    generator = torch.Generator().manual_seed(0)
    tried = []
    for places in itertools.product(*(_stretches(length) for length in size)):
        inner = (_inner(place, length) for place, length in zip(places, size, strict=True))
        tried.append(merger.tried(merger.part(*places), *inner, generator))
    return share_left(tried)


def _stretches(length: int) -> list[slice]:
    """Parts of a side where it is tried out what is left of noise; none overlap."""
    number = max(round(length / _TRIED_EVERY), min(_TRIED_LEAST, length // _TRIED), 1)
    side = min(_TRIED, length)
    starts = ((length * (2 * n + 1) // number - side) // 2 for n in range(number))
    return [slice(start, start + side) for start in starts]


def _inner(place: slice, length: int) -> slice:
    """A stretch without what lacks its surroundings."""
    end = place.stop - place.start - min(_UNSEEN, length - place.stop)
    return slice(min(_UNSEEN, place.start), end)


def share_left(tried: Sequence[Tensor]) -> float:
    """Return the share of the noise's variance that is left, 0 to 1.

    Args:
        tried: what `Merger.tried` has returned, here and there. Where all samples are clipped, it
            says nothing, and the noise counts as left.
    """
    squares = torch.cat([some.flatten().cpu() for some in tried])
    return min(float(squares.clamp_max(_MOST).mean()), 1.0) if len(squares) else 1.0
