"""Coarse-to-fine alignment of a frame to the reference, tile by tile, in whole cells.

Whole cells, because resampling would correlate the noise that the network is
told is independent; the sub-cell rest is left to the kernels. The scheme is that
of HDR+ (Hasinoff et al., SIGGRAPH Asia 2016, section 4), on variance-stabilised
grey: its noise has unit variance, so costs are chi-square sums and one threshold
serves every ISO.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .noise import NoiseModel

#: Side of a tile in cells. Every tile has its own shift.
TILE = 16
#: How far a tile's cost looks beyond it on each side: twice the samples at high noise.
_SURROUND = 4
#: Largest shift in cells, either way: 128 sensor pixels.
REACH = 64
_LEVELS = 4
#: Smallest side of the coarsest level.
_SMALLEST = 24
#: A tile leaves the shift of the whole picture only for a gain of this many standard
#: deviations of the cost: flat tiles would wander with the noise.
_LOYALTY = 3.0
#: The same for leaving zero with the whole picture.
_PATIENCE = 5.0


def stabilise(planes: Tensor, noise: NoiseModel) -> Tensor:
    """Return grey whose noise has variance 1 at every signal.

    The generalised Anscombe transform (Starck, Murtagh and Bijaoui 1998,
    section 2.3.3) of the mean of the four planes.

    Args:
        planes: `(4, height, width)`, linear, 1.0 = white level.

    Returns:
        `(height, width)`.
    """
    # The mean of four samples has a quarter of their variance.
    shot, read = sum(noise.shot) / 16, sum(noise.read) / 16
    grey, offset = planes.mean(0), 0.375 * shot**2 + read
    if shot > 0:
        grey = grey.clamp_min(-offset / shot)
    # The transform less its value at black, written so that nothing cancels: it then holds
    # in float32 for little and for no shot noise too.
    return 2 * grey / ((shot * grey + offset).clamp_min(0).sqrt() + offset**0.5)


def _pyramid(grey: Tensor) -> list[Tensor]:
    """Halve, finest first; each level is scaled to keep the noise at variance 1."""
    levels = [grey]
    while len(levels) < _LEVELS and min(levels[-1].shape) >= 2 * _SMALLEST:
        levels.append(2 * F.avg_pool2d(levels[-1][None], 2)[0])
    return levels


def _whole_cost(reference: Tensor, frame: Tensor, y: int, x: int) -> float:
    """Mean chi-square of the whole frame for one shift: 1 where nothing but noise is left."""
    height, width = reference.shape
    mine = reference[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    theirs = frame[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)]
    return float((mine - theirs).square_().mean()) / 2


def _whole_shift(
    reference: Tensor, frame: Tensor, around: tuple[int, int], reach: int
) -> tuple[int, int]:
    """Return the best shift (row, column) of the whole frame, by exhaustive search."""
    limit_y, limit_x = (side // 3 for side in reference.shape)
    # The expected shift wins unless another is clearly better: where there is hardly
    # any texture, the luckiest of some hundred shifts beats it by three deviations.
    found = around
    least = _whole_cost(reference, frame, *around) - _PATIENCE * (2 / reference.numel()) ** 0.5
    for y in range(around[0] - reach, around[0] + reach + 1):
        for x in range(around[1] - reach, around[1] + reach + 1):
            if abs(y) <= limit_y and abs(x) <= limit_x:
                cost = _whole_cost(reference, frame, y, x)
                if cost < least:
                    found, least = (y, x), cost
    return found


class _Tiles:
    """The tiles of one level: their windows in the reference, and costs against a frame."""

    def __init__(self, reference: Tensor) -> None:
        height, width = reference.shape
        self.rows, self.columns = -(-height // TILE), -(-width // TILE)
        side = torch.arange(-_SURROUND, TILE + _SURROUND, device=reference.device)
        self.y = torch.arange(self.rows, device=reference.device)[:, None] * TILE + side
        self.x = torch.arange(self.columns, device=reference.device)[:, None] * TILE + side
        inside = ((self.y >= 0) & (self.y < height))[:, None, :, None] & (
            (self.x >= 0) & (self.x < width)
        )[None, :, None, :]
        self.inside = inside.float()
        # Of a difference of two independent samples of variance 1, squared and halved.
        self.deviation = (2 * self.inside.sum((2, 3))).sqrt()
        self.mine = _look_up(reference, self.y[:, None], self.x[None])

    def cost(self, frame: Tensor, shifts: Tensor) -> Tensor:
        """Chi-square sums of all tiles for `(rows, columns, 2)` shifts."""
        theirs = _look_up(frame, self.y[:, None] + shifts[..., :1], self.x[None] + shifts[..., 1:])
        difference = (theirs - self.mine).square_().mul_(self.inside)
        return difference.sum((2, 3)).mul_(0.5)


def _look_up(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return `image[y, x]` for `(rows, columns, n)` rows and columns; the border continues."""
    height, width = image.shape
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    return image.flatten()[y[..., :, None] * width + x[..., None, :]]


def _best(tiles: _Tiles, frame: Tensor, candidates: list[Tensor], first: Tensor) -> Tensor:
    """Of several shifts for each tile, the cheapest; `first` unless another is clearly better."""
    shifts, cost = first, tiles.cost(frame, first) - _LOYALTY * tiles.deviation
    for candidate in candidates:
        other = tiles.cost(frame, candidate)
        better = other < cost
        cost = torch.where(better, other, cost)
        shifts = torch.where(better[..., None], candidate, shifts)
    return shifts


def _neighbours(shifts: Tensor) -> list[Tensor]:
    """The shifts of the tile above, below, left and right of each tile."""
    padded = F.pad(shifts.permute(2, 0, 1).float()[None], (1,) * 4, mode="replicate")[0]
    padded = padded.permute(1, 2, 0).long()
    rows, columns, _ = shifts.shape
    places = ((0, 1), (2, 1), (1, 0), (1, 2))
    return [padded[y : y + rows, x : x + columns] for y, x in places]


def _refine(reference: Tensor, frame: Tensor, whole: tuple[int, int], expected: Tensor) -> Tensor:
    """Return one level's tile shifts.

    A tile follows the whole picture, unless the shift expected from the coarser
    level, or a neighbour's, is clearly better; and then takes a step of one if
    that is clearly better again.
    """
    tiles = _Tiles(reference)
    expected = expected[: tiles.rows, : tiles.columns]
    first = torch.tensor(whole, device=expected.device).expand_as(expected)
    shifts = _best(tiles, frame, [expected, *_neighbours(expected)], first)
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    candidates = [shifts + torch.tensor(step, device=shifts.device) for step in steps]
    return _best(tiles, frame, candidates, shifts)


def align(reference: Tensor, frame: Tensor) -> Tensor:
    """Return where each tile of the reference is found in the frame.

    Args:
        reference, frame: `(height, width)` stabilised grey (`stabilise`).

    Returns:
        `(tile_rows, tile_columns, 2)` int64 shifts (row, column) in cells: cell p
        of the reference lies at p + shift in the frame.
    """
    references, frames = _pyramid(reference), _pyramid(frame)
    coarsest = len(references) - 1
    whole = _whole_shift(references[-1], frames[-1], (0, 0), REACH >> coarsest)
    height, width = references[-1].shape
    shifts = torch.tensor(whole, device=reference.device)
    shifts = shifts.expand(-(-height // TILE), -(-width // TILE), 2)
    for level in range(coarsest, -1, -1):
        if level < coarsest:
            whole = (2 * whole[0], 2 * whole[1])
            whole = _whole_shift(references[level], frames[level], whole, 1)
            # A level of odd size loses its last row; `_refine` cuts what is too much.
            shifts = 2 * shifts.repeat_interleave(2, 0).repeat_interleave(2, 1)
            shifts = _grow(shifts, references[level].shape)
        shifts = _refine(references[level], frames[level], whole, shifts)
    return shifts


def _grow(shifts: Tensor, size: torch.Size) -> Tensor:
    """Repeat the last row and column where halving has lost a tile."""
    rows, columns = -(-size[0] // TILE), -(-size[1] // TILE)
    if rows > shifts.shape[0]:
        shifts = torch.cat([shifts, shifts[-1:].expand(rows - shifts.shape[0], -1, -1)])
    if columns > shifts.shape[1]:
        last = shifts[:, -1:].expand(-1, columns - shifts.shape[1], -1)
        shifts = torch.cat([shifts, last], 1)
    return shifts


def shifted(planes: Tensor, shifts: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return a part of a frame as it lies over the reference.

    Args:
        planes: `(4, height, width)`, any dtype, the whole frame.
        shifts: `(tile_rows, tile_columns, 2)` from `align`.
        rows, columns: the part of the reference, in cells.

    Returns:
        `(4, rows, columns)`; outside of itself the frame is mirrored: repeated border
        samples would agree with a flat reference, and their common noise show as streaks.
    """
    _, height, width = planes.shape
    y = torch.arange(rows.start, rows.stop, device=planes.device)[:, None]
    x = torch.arange(columns.start, columns.stop, device=planes.device)[None, :]
    there = shifts[y // TILE, x // TILE]
    y, x = _mirror(y + there[..., 0], height), _mirror(x + there[..., 1], width)
    return planes.flatten(1)[:, y * width + x]


def _mirror(index: Tensor, length: int) -> Tensor:
    """Reflect indices about the first and last sample; beyond that, the border continues."""
    last = length - 1
    return (last - (last - index.abs()).abs()).clamp(0, last)
