"""Measure the residual noise: the share of the noise that is left in the merged picture.

On squares spread over the picture, part of the frames' noise is drawn anew, twice, and the two
results are compared (`TileMerger.probe_noise`). What was merged from x and from y, whose noise has
the correlation r, differs by the more the smaller r is; a share of the result that is linear in the
noise by 2 (1 - r) of its variance, one of degree k by 2 (1 - r^k). At r = 1/4, noise that is not
linear, because the kernels follow it, counts 1.25 to 1.33 times; with a tenth of a sigma added
to the frames instead, two times and more (docs/log.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from .tile import TileMerger

#: The residual noise is measured on squares of this many cells a side, one in this many cells
#: each way, and in small pictures this many each way; the smallest pictures are one square. A
#: square costs twice as much as merging its area: all together, in large pictures, a twentieth of
#: the whole.
_PROBE_SIDE, _PROBE_SPACING, _MIN_PROBES = 96, 640, 3
#: Squares that are merged together: short operations take long to start.
_SQUARES_AT_ONCE = 8
#: Cells at the border of a square that are not used: their surroundings are missing.
_BORDER = 24
#: A sample counts with at most this square, six sigmas of the reference's noise: where noise tips
#: a decision of the guard, the change is no measure of noise.
_MAX_SQUARE = 36.0


def measure_residual_noise(merger: TileMerger, size: tuple[int, int], planes: Tensor) -> float:
    """Return the share of the noise's variance that is left in the picture, 0 to 1.

    Measured on squares that are spread over it, wherever the tiles are.

    Args:
        merger: of the burst.
        size: rows and columns of the picture in cells.
        planes: `(4, rows, columns)`, the merged picture.
    """
    # An engine of integers would be compiled anew for squares.
    exact = merger.in_floating_point()
    generator = torch.Generator().manual_seed(0)
    spans = (_probe_spans(length, exact.grid) for length in size)
    places = list(itertools.product(*spans))  # all of one size
    squares = []
    for first in range(0, len(places), _SQUARES_AT_ONCE):
        some = places[first : first + _SQUARES_AT_ONCE]
        burst = torch.cat([exact.warped(rows, columns) for rows, columns in some])
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
    side = length if number == 1 else _PROBE_SIDE
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
