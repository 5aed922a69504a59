"""Cut a picture into overlapping tiles, process each, blend; knows nothing of networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Span:
    """A tile along one axis.

    Attributes:
        start, stop: the samples it covers, halo included.
        weight: `(stop - start,)` float32, the tile's share in each sample; the
            shares of all tiles of an axis sum to 1 at every sample.
    """

    start: int
    stop: int
    weight: np.ndarray

    @property
    def slice(self) -> slice:
        """The samples it covers."""
        return slice(self.start, self.stop)


def spans(length: int, tile: int, halo: int, grid: int = 1) -> list[Span]:
    """Cut an axis into tiles.

    Neighbours share `2 * halo` samples and hand over linearly in the middle half
    of them, so that what lies within `halo / 2` of a cut is never used.

    Args:
        length: of the axis, at least 1.
        tile: samples a tile adds, without halo, at most; rounded up to a multiple of `grid`,
            and to the halo, for a tile hands over to one neighbour at a time. Tiles are as
            few as that allows, and as equal.
        halo: samples a tile sees beyond these on either side; a multiple of `grid` too.
        grid: tiles start at multiples of it, so that a network that halves its
            input sees the same phase in a tile as in the whole picture.
    """
    tile, halo = (-(-max(value, 1) // grid) * grid for value in (tile, halo))
    tile = max(tile, halo)
    number = -(-length // tile)
    step = max(-(-length // (number * grid)) * grid, halo)  # not above `tile`, on the grid too
    edges = [*range(0, length, step), length]
    if len(edges) > 2 and edges[-1] - edges[-2] < halo:  # too short to hand over within
        del edges[-2]
    ramp = max(halo / 2, 0.5)
    result = []
    for low, high in pairwise(edges):
        start, stop = max(low - halo, 0), min(high + halo, length)
        place = np.arange(start, stop) + 0.5
        rise = np.clip((place - low) / (2 * ramp) + 0.5, 0, 1) if low > 0 else 1
        fall = np.clip((high - place) / (2 * ramp) + 0.5, 0, 1) if high < length else 1
        weight = np.broadcast_to(np.minimum(rise, fall), place.shape)
        result.append(Span(start, stop, weight.astype(np.float32)))
    return result


def count(height: int, width: int, tile: int, halo: int, grid: int = 1) -> int:
    """Number of tiles that `blend` will process."""
    return len(spans(height, tile, halo, grid)) * len(spans(width, tile, halo, grid))


def blend(
    process: Callable[[slice, slice], np.ndarray],
    planes: int,
    height: int,
    width: int,
    *,
    tile: int,
    halo: int,
    grid: int = 1,
    on_tile: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Process a picture tile by tile.

    Args:
        process: given rows and columns, returns `(planes, rows, columns)` of them.
        planes, height, width: size of the result.
        tile, halo, grid: see `spans`.
        on_tile: called after each tile.

    Returns:
        `(planes, height, width)` float32: as if `process` had been given the whole
        picture, as long as no sample depends on others more than `halo / 2` away.
    """
    out = np.zeros((planes, height, width), np.float32)
    for rows in spans(height, tile, halo, grid):
        for columns in spans(width, tile, halo, grid):
            part = process(rows.slice, columns.slice)
            part = part * rows.weight[:, None] * columns.weight
            out[:, rows.slice, columns.slice] += part
            on_tile()
    return out
