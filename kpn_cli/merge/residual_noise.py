"""Measure the residual noise: the share of the noise that is left in the merged picture.

A little noise is added to all frames on squares spread over the picture, and the change of the
result is compared with it. (The kernels change too, as they do with real noise; with the kernels
held fixed, the measured share would be too low.)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from .tile import TileMerger

#: The residual noise is measured on squares of this many cells a side, one in this many cells
#: each way, and in small pictures this many each way. Each square costs as much as merging its
#: area: all together, in large pictures, a thirtieth of the whole.
_PROBE_SIDE, _PROBE_SPACING, _MIN_PROBES = 96, 512, 3
#: Squares that are merged together: short operations take long to start.
_SQUARES_AT_ONCE = 8
#: Cells at the border of a square that are not used: their surroundings are missing.
_BORDER = 16
#: A sample counts with at most this square, six sigmas of the added noise: where that little
#: noise tips a decision of the guard, the change is no measure of noise.
_MAX_SQUARE = 36.0


def measure_residual_noise(
    merger: TileMerger, size: tuple[int, int], planes: Tensor | None = None
) -> float:
    """Return the share of the noise's variance that is left in the picture, 0 to 1.

    Measured on squares that are spread over it, wherever the tiles are.

    Args:
        merger: of the burst.
        size: rows and columns of the picture in cells.
        planes: `(4, rows, columns)`, the merged picture; None to merge the squares once more, as
            for one that was merged in integers. It was merged with the surroundings of the
            squares, which the measurement lacks; `_BORDER` cells inside, that changes the share by
            0.002 at most (docs/log.md). What it sees must lie alike on the network's coarser
            levels: hence the grid.
    """
    # Rounding to integers would hide what so little noise changes.
    exact = merger.in_floating_point()
    if exact is not merger or exact.sees_far:
        planes = None
    generator = torch.Generator().manual_seed(0)
    spans = (_probe_spans(length, exact.grid) for length in size)
    places = list(itertools.product(*spans))  # all of one size
    squares = []
    for first in range(0, len(places), _SQUARES_AT_ONCE):
        some = places[first : first + _SQUARES_AT_ONCE]
        burst = torch.cat([exact.warped(rows, columns) for rows, columns in some])
        if planes is None:
            clean = exact.merged(burst)
        else:
            clean = torch.stack([planes[:, rows, columns] for rows, columns in some])
        changes, unclipped = exact.probe_noise(burst, clean, generator)
        for change, usable, (rows, columns) in zip(changes, unclipped, some, strict=True):
            inner = (..., _inner(rows, size[0]), _inner(columns, size[1]))
            squares.append(change[inner][usable[inner]])
    return residual_share(squares)


def _probe_spans(length: int, grid: int) -> list[slice]:
    """Return the spans of one side of the picture that are probed; none overlap.

    Args:
        length: of the side, in cells.
        grid: spans start at multiples of it; divides `_PROBE_SIDE`, or some may overlap.
    """
    number = max(round(length / _PROBE_SPACING), min(_MIN_PROBES, length // _PROBE_SIDE), 1)
    side = min(_PROBE_SIDE, length)
    middles = ((length * (2 * n + 1) // number - side) // 2 for n in range(number))
    starts = (start // grid * grid for start in middles)
    return [slice(start, start + side) for start in starts]


def _inner(span: slice, length: int) -> slice:
    """Return what is used of a span, counted from its start: all but cut borders."""
    end = span.stop - span.start - (_BORDER if span.stop < length else 0)
    return slice(_BORDER if span.start else 0, end)


def residual_share(squares: Sequence[Tensor]) -> float:
    """Return the share of the noise's variance that is left, 0 to 1.

    Args:
        squares: what `TileMerger.probe_noise` has returned at several places, of any shapes. If
            there are no samples, because all are clipped, the share is 1.
    """
    samples = torch.cat([some.flatten().cpu() for some in squares])
    return min(float(samples.clamp_max(_MAX_SQUARE).mean()), 1.0) if len(samples) else 1.0
