"""Warp frames onto the reference: each tile's cells are copied from where its shift points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..burst.frame import Frame

#: Side of a tile in cells. Every tile has its own shift.
TILE = 16


def most_common(shifts: Tensor) -> Tensor:
    """The shift `(2,)` that most of `(tiles, 2)` have; on the CPU, as MPS can't tell."""
    keys = (shifts[:, 0] * 2**20 + shifts[:, 1]).cpu()
    return shifts[int(keys.mode().indices)]


def shifted(planes: Tensor, shifts: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return a part of a frame as it lies over the reference.

    Args:
        planes: `(4, height, width)`, any dtype, the whole frame.
        shifts: `(tile_rows, tile_columns, 2)` from `Aligner.align`.
        rows, columns: the part of the reference, in cells.

    Returns:
        `(4, rows, columns)`; outside of itself the frame is mirrored: repeated border
        samples would agree with a flat reference, and their common noise show as streaks.
    """
    _, height, width = planes.shape
    if planes.dtype == torch.uint16:  # which cannot be indexed
        return shifted(planes.view(torch.int16), shifts, rows, columns).view(torch.uint16)
    y = torch.arange(rows.start, rows.stop, device=planes.device)
    x = torch.arange(columns.start, columns.stop, device=planes.device)
    grid = shifts[rows.start // TILE : -(-rows.stop // TILE)]
    grid = grid[:, columns.start // TILE : -(-columns.stop // TILE)]
    # Most tiles move alike: they are copied line by line, and only the others cell by cell.
    common = most_common(grid.flatten(0, 1))
    part = planes[:, _mirror(y + common[0], height)][:, :, _mirror(x + common[1], width)]
    apart = (grid != common).any(-1)
    if apart.any():
        cells = apart[y // TILE - y[0] // TILE][:, x // TILE - x[0] // TILE]
        down, across = cells.nonzero(as_tuple=True)
        there = shifts[y[down] // TILE, x[across] // TILE]
        own_y = _mirror(y[down] + there[:, 0], height)
        own_x = _mirror(x[across] + there[:, 1], width)
        part[:, down, across] = planes.flatten(1)[:, own_y * width + own_x]
    return part


def _mirror(index: Tensor, length: int) -> Tensor:
    """Reflect indices about the first and last sample; beyond that, the border continues."""
    last = length - 1
    return (last - (last - index.abs()).abs()).clamp(0, last)


def aligned_part(
    frames: Sequence[Frame], shifts: Sequence[Tensor], rows: slice, columns: slice
) -> Tensor:
    """Return a part of all frames, `(frames, 4, rows, columns)`, linear, over the reference's."""
    return torch.stack(
        [
            frame.linear(shifted(frame.samples, shift, rows, columns))
            for frame, shift in zip(frames, shifts, strict=True)
        ]
    )
