"""Warp frames onto the reference: each tile's cells are copied from where its shift points.

Whole cells are copied, never interpolated: the noise stays independent from sample to sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..burst.frame import Frame

#: Side of an alignment tile in cells. Every tile has its own shift.
TILE = 16


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
    _, height, width = planes.shape
    if planes.dtype == torch.uint16:  # which cannot be indexed
        return warp_planes(planes.view(torch.int16), shifts, rows, columns).view(torch.uint16)
    y = torch.arange(rows.start, rows.stop, device=planes.device)
    x = torch.arange(columns.start, columns.stop, device=planes.device)
    grid = shifts[rows.start // TILE : -(-rows.stop // TILE)]
    grid = grid[:, columns.start // TILE : -(-columns.stop // TILE)]
    # Most tiles move alike: those are copied line by line, and only the others cell by cell.
    common = most_common_shift(grid.flatten(0, 1))
    region = planes[:, _mirror(y + common[0], height)][:, :, _mirror(x + common[1], width)]
    differs = (grid != common).any(-1)
    if differs.any():
        cells = differs[y // TILE - y[0] // TILE][:, x // TILE - x[0] // TILE]
        down, across = cells.nonzero(as_tuple=True)
        shift = shifts[y[down] // TILE, x[across] // TILE]
        source_y = _mirror(y[down] + shift[:, 0], height)
        source_x = _mirror(x[across] + shift[:, 1], width)
        region[:, down, across] = planes.flatten(1)[:, source_y * width + source_x]
    return region


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
    return torch.stack(
        [
            frame.linear(warp_planes(frame.samples, shift, rows, columns))
            for frame, shift in zip(frames, shifts, strict=True)
        ]
    )
