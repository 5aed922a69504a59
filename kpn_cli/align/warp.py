"""Warp frames onto the reference: each tile's cells are copied from where its shift points.

Whole cells are copied, never interpolated: the noise stays independent from sample to sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from ..burst.frame import Frame
from ..system.bands import Band, bands, for_each

#: Side of an alignment tile in cells. Every tile has its own shift.
TILE = 16
#: Rows that one core of a CPU warps together.
_ROWS_AT_ONCE = 128


def most_common_shift(shifts: Tensor) -> Tensor:
    """Return the most frequent shift, `(2,)`, of `(tiles, 2)`.

    Counted on the CPU, as MPS has no mode.
    """
    keys = (shifts[:, 0] * 2**20 + shifts[:, 1]).cpu()
    return shifts[int(keys.mode().indices)]


def warp_planes(planes: Tensor, shifts: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return a region of a frame, aligned to the reference.

    Args:
        planes: `(4, height, width)`, any dtype, the whole frame.
        shifts: `(tile_rows, tile_columns, 2)` from `Aligner.align`.
        rows, columns: the region of the reference, in cells.

    Returns:
        `(4, rows, columns)`. Beyond its border the frame is mirrored: repeated border samples
        would agree with a flat reference, and the noise they share would show as streaks.
    """
    if planes.dtype == torch.uint16:  # which cannot be indexed
        return warp_planes(planes.view(torch.int16), shifts, rows, columns).view(torch.uint16)
    # Whole tiles are aligned, and then cut to size.
    down, across = (slice(span.start // TILE, -(-span.stop // TILE)) for span in (rows, columns))
    grid = shifts[down, across]
    top, left = down.start * TILE, across.start * TILE
    # Most tiles move alike: those are copied line by line, and only the others tile by tile.
    common = most_common_shift(grid.flatten(0, 1))
    size = [TILE * length for length in grid.shape[:2]]
    place = torch.stack([common.new_tensor([top, left]) + common, common.new_tensor(size)])
    region = _rectangle(planes, *place.flatten().tolist())
    differs = (grid != common).any(-1).nonzero()
    if len(differs):
        tiles = region.view(4, grid.shape[0], TILE, grid.shape[1], TILE).transpose(2, 3)
        corners = differs * TILE + grid[differs[:, 0], differs[:, 1]]
        corners += corners.new_tensor([top, left])
        last = corners.new_tensor(planes.shape[1:]) - TILE
        inside = ((corners >= 0) & (corners <= last)).all(1)
        for those, copied in ((inside, _tiles), (~inside, _mirrored_tiles)):
            row, column = differs[those].unbind(1)
            if len(row):
                tiles[:, row, column] = copied(planes, corners[those])
    return region[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _rectangle(planes: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Return a copy of a rectangle of planes, which are mirrored beyond their border."""
    y, first, end = _mirrored(top, height, planes.shape[1], planes.device)
    x, before, after = _mirrored(left, width, planes.shape[2], planes.device)
    out = planes.new_empty(planes.shape[0], height, width)
    rows = planes[:, top + first : top + end]
    out[:, first:end, before:after] = rows[..., left + before : left + after]
    for part in (slice(0, before), slice(after, width)):
        out[:, first:end, part] = rows[:, :, x[part]]
    for part in (slice(0, first), slice(end, height)):
        out[:, part] = planes[:, y[part]][:, :, x]
    return out


def _mirrored(
    start: int, number: int, length: int, device: torch.device
) -> tuple[Tensor, int, int]:
    """Return mirrored indices, and the first and the end of those that need no mirror.

    Args:
        start: the first index, which may be negative.
        number: of indices.
        length: of the axis.
        device: of the indices.
    """
    first = min(max(-start, 0), number)
    end = min(max(length - start, first), number)
    return _mirror(torch.arange(start, start + number, device=device), length), first, end


def _tiles(planes: Tensor, corners: Tensor) -> Tensor:
    """Return tiles of planes: `(4, tiles, TILE, TILE)`.

    Args:
        planes: `(4, height, width)`.
        corners: `(tiles, 2)`, row and column of the first cell of each.
    """
    return planes.unfold(1, TILE, 1).unfold(2, TILE, 1)[:, corners[:, 0], corners[:, 1]]


def _mirrored_tiles(planes: Tensor, corners: Tensor) -> Tensor:
    """Return what `_tiles` does; planes are mirrored where a tile leaves them."""
    cells = corners[:, :, None] + torch.arange(TILE, device=planes.device)
    y, x = (_mirror(cells[:, axis], planes.shape[1 + axis]) for axis in (0, 1))
    return planes[:, y[:, :, None], x[:, None, :]]


def _mirror(index: Tensor, length: int) -> Tensor:
    """Reflect indices about the first and last sample; beyond one reflection, repeat the border."""
    last = length - 1
    return (last - (last - index.abs()).abs()).clamp(0, last)


def warp_frames(
    frames: Sequence[Frame], shifts: Sequence[Tensor], rows: slice, columns: slice
) -> Tensor:
    """Return a region of all frames, aligned to the reference and linear.

    Args:
        frames: of equal size.
        shifts: of each frame, as in `alignment.AlignedBurst`.
        rows, columns: the region of the reference, in cells.

    Returns:
        `(frames, 4, rows, columns)` float32, 0 = black, 1 = white level.
    """
    height, width = rows.stop - rows.start, columns.stop - columns.start
    device = frames[0].samples.device
    out = torch.empty(len(frames), 4, height, width, device=device)
    step = _ROWS_AT_ONCE if device.type == "cpu" else height

    def work(item: tuple[int, Band]) -> None:
        n, band = item
        part = slice(rows.start + band.rows.start, rows.start + band.rows.stop)
        samples = warp_planes(frames[n].samples, shifts[n], part, columns)
        frames[n].linear(samples, out[n, :, band.rows])

    for_each(lambda: work, list(product(range(len(frames)), bands(height, step))), device)
    return out
