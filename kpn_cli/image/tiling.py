"""Cut a picture into overlapping tiles, process each and blend the results linearly.

Knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Span:
    """The extent of a tile along one axis.

    Attributes:
        start, stop: first sample and end of the tile, halo included.
        weight: `(stop - start,)` float32, 0 to 1, the blending weight of each sample; the
            weights of all tiles of an axis sum to 1 at every sample.
    """

    start: int
    stop: int
    weight: np.ndarray

    @property
    def slice(self) -> slice:
        """The samples of the tile, halo included."""
        return slice(self.start, self.stop)


def spans(length: int, tile: int, halo: int, grid: int = 1, equal: bool = False) -> list[Span]:
    """Cut an axis into tiles.

    Adjacent tiles overlap by `2 * halo` samples. Their weights cross linearly in the middle
    quarter of the overlap, so that samples within `3 / 4 * halo` of a tile's end have weight 0.

    Args:
        length: samples of the axis, at least 1.
        tile: largest tile without its halo, in samples; rounded up to a multiple of `grid`
            and at least to the halo, because a tile blends with one neighbour at a time.
            The tiles are as few and as equal as this allows.
        halo: context on either side of a tile, in samples; rounded up to a multiple of `grid`.
        grid: tiles start at multiples of it, so that a network that halves its
            input sees the same phase in a tile as in the whole picture.
        equal: whether all tiles have the same length, rounded up to a multiple of `grid`: tiles at
            the ends, which lack one halo, see more of the picture instead.

    Returns:
        The tiles in order.
    """
    tile, halo = (-(-max(value, 1) // grid) * grid for value in (tile, halo))
    tile = max(tile, halo)
    number = -(-length // tile)
    step = max(-(-length // (number * grid)) * grid, halo)  # at most `tile`, and on the grid
    edges = [*range(0, length, step), length]
    if len(edges) > 2 and edges[-1] - edges[-2] < halo:  # too short for the weights to cross
        del edges[-2]
    ramp = max(halo / 4, 0.5)
    result = []
    for low, high in pairwise(edges):
        start, stop = max(low - halo, 0), min(high + halo, length)
        centre = np.arange(start, stop) + 0.5
        rise = np.clip((centre - low) / (2 * ramp) + 0.5, 0, 1) if low > 0 else 1
        fall = np.clip((high - centre) / (2 * ramp) + 0.5, 0, 1) if high < length else 1
        weight = np.broadcast_to(np.minimum(rise, fall), centre.shape)
        result.append(Span(start, stop, weight.astype(np.float32)))
    return _equalised(result, length, grid) if equal else result


def _equalised(tiles: list[Span], length: int, grid: int) -> list[Span]:
    """Return tiles that are as long as the longest, by samples of weight 0 at their inner ends."""
    longest = max(tile.stop - tile.start for tile in tiles)
    longest = -(-longest // grid) * grid
    result = []
    for tile in tiles:
        start, stop = tile.start, min(tile.start + longest, length)
        if stop == length:  # the last may end within the grid
            start = min(start, max(-(-length // grid) * grid - longest, 0))
        weight = np.pad(tile.weight, (tile.start - start, stop - tile.stop))
        result.append(Span(start, stop, weight))
    return result


def count(height: int, width: int, tile: int, halo: int, grid: int = 1, equal: bool = False) -> int:
    """Return the number of tiles that `blend` processes; arguments as there."""
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
    equal: bool = False,
    on_tile: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Process a picture tile by tile and blend the tiles.

    Args:
        process: takes the rows and columns of a tile, returns its `(planes, rows, columns)`.
        planes, height, width: size of the result, in samples.
        tile, halo, grid, equal: see `spans`.
        on_tile: called after each tile.

    Returns:
        `(planes, height, width)` float32: the same as processing the whole picture at
        once, provided that no sample depends on others more than `3 / 4 * halo` away.
    """
    out = np.zeros((planes, height, width), np.float32)
    for rows in spans(height, tile, halo, grid, equal):
        for columns in spans(width, tile, halo, grid, equal):
            result = process(rows.slice, columns.slice)
            weighted = result * rows.weight[:, None] * columns.weight
            out[:, rows.slice, columns.slice] += weighted
            on_tile()
    return out
