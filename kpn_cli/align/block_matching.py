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

from ..image.noise_model import NoiseModel
from .warp import TILE, most_common

#: Tiles that are looked at together: their windows fit into a cache.
_AT_ONCE = 512
#: Where so large a share of the tiles is compared at one shift, the whole picture is.
_WORTH = 0.25
#: Samples that several steps are done to before the next ones: they stay in a cache.
_CACHED = 2**17
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
#: Chi-square of a sample from which on it is compressed.
_LARGE = 200.0


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
    """Mean chi-square of the whole frame for one shift, large ones compressed.

    1 where nothing but noise is left. The logarithm (a Cauchy likelihood) lets the rest of
    the picture decide where a bright object comes or goes, which in squares would weigh
    more than all of it; it begins where noise ends, so that edges in noisy frames count.
    """
    height, width = reference.shape
    mine = reference[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
    theirs = frame[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)]
    step = max(_CACHED // mine.shape[1], 1)
    parts = [
        (one - other).square_().mul_(0.5 / _LARGE).log1p_().sum()
        for one, other in zip(mine.split(step), theirs.split(step), strict=True)
    ]
    return _LARGE * float(torch.stack(parts).sum()) / mine.numel()


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


def _sums(surrounded: Tensor) -> Tensor:
    """Sum over the window of each tile, `(tiles,)`, of what `_Tiles._surrounded` has made."""
    side = TILE + 2 * _SURROUND
    return F.avg_pool2d(surrounded[None], side, TILE, divisor_override=1).flatten()


class _Tiles:
    """The tiles of one level, row by row, and their costs against a frame.

    Where many are compared at one shift, that is done in the whole picture at once. Else their
    windows are cut out as they are needed, `_AT_ONCE` tiles at a time: all of them together
    would be several times the picture, and in no cache.

    Attributes:
        rows, columns: of the grid of tiles.
        deviation: `(tiles,)`, standard deviation of a tile's cost if nothing but noise
            tells it from the reference: of differences of variance 2, squared and halved.
    """

    def __init__(self, reference: Tensor) -> None:
        height, width = reference.shape
        self._reference = reference
        self.rows, self.columns = -(-height // TILE), -(-width // TILE)
        device = reference.device
        row, column = torch.meshgrid(
            torch.arange(self.rows, device=device),
            torch.arange(self.columns, device=device),
            indexing="ij",
        )
        self._top, self._left = row.flatten() * TILE, column.flatten() * TILE
        inside, picture = self._surrounded()
        picture.fill_(1)
        self.deviation = (2 * _sums(inside)).sqrt()

    def _surrounded(self) -> tuple[Tensor, Tensor]:
        """Zeros that hold all tiles' windows, and the view of them that is the picture."""
        sides = (TILE * number + 2 * _SURROUND for number in (self.rows, self.columns))
        zeros = self._reference.new_zeros(*sides)
        height, width = self._reference.shape
        return zeros, zeros[_SURROUND:, _SURROUND:][:height, :width]

    def _side(self, margin: int = 0) -> Tensor:
        reach = _SURROUND + margin
        return torch.arange(-reach, TILE + reach, device=self._top.device)

    def _inside(self, chosen: Tensor) -> Tensor:
        """1 where the windows of tiles are inside of the picture, `(chosen, side, side)`."""
        starts = (self._top[chosen], self._left[chosen])
        y, x = (
            (place >= 0) & (place < size)
            for place, size in zip(
                (start[:, None] + self._side() for start in starts),
                self._reference.shape,
                strict=True,
            )
        )
        return (y[:, :, None] & x[:, None, :]).float()

    def _windows(
        self, image: Tensor, chosen: Tensor, shifts: Tensor | None = None, margin: int = 0
    ) -> Tensor:
        """Cut `(chosen, side, side)` out of an image, whose border continues."""
        height, width = image.shape
        side = self._side(margin)
        y, x = self._top[chosen, None] + side, self._left[chosen, None] + side
        if shifts is not None:
            y, x = y + shifts[chosen, :1], x + shifts[chosen, 1:]
        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
        return image.flatten()[y[:, :, None] * width + x[:, None, :]]

    def _costs(self, frame: Tensor, shifts: Tensor, chosen: Tensor, margin: int = 0) -> Tensor:
        """Costs of tiles, each at its shift and all those up to `margin` from it.

        Returns:
            `((2 * margin + 1) ** 2, chosen)`, row by row of the further shifts.
        """
        own = shifts[chosen]
        common = most_common(own)
        together = (own == common).all(1)
        if int(together.sum()) < _WORTH * len(shifts):
            return self._costs_one_by_one(frame, shifts, chosen, margin)
        costs = self._costs_at(frame, common, margin)[:, chosen]
        apart = (~together).nonzero()[:, 0]
        if len(apart):
            costs[:, apart] = self._costs_one_by_one(frame, shifts, chosen[apart], margin)
        return costs

    def _costs_one_by_one(
        self, frame: Tensor, shifts: Tensor, chosen: Tensor, margin: int
    ) -> Tensor:
        found = []
        for part in chosen.split(_AT_ONCE):
            mine, inside = self._windows(self._reference, part), self._inside(part)
            theirs = self._windows(frame, part, shifts, margin)
            side = mine.shape[1]
            moved = [
                theirs[:, y : y + side, x : x + side]
                for y in range(2 * margin + 1)
                for x in range(2 * margin + 1)
            ]
            found.append(
                torch.stack(
                    [(one - mine).square_().mul_(inside).sum((1, 2)).mul_(0.5) for one in moved]
                )
            )
        return torch.cat(found, 1)

    def _costs_at(self, frame: Tensor, shift: Tensor, margin: int) -> Tensor:
        """Costs of all tiles at one shift and those up to `margin` from it."""
        height, width = self._reference.shape
        y, x = shift.tolist()
        reach = max(abs(y), abs(x)) + margin
        padded = F.pad(frame[None, None], (reach,) * 4, mode="replicate")[0, 0]
        top, left = reach + y - margin, reach + x - margin
        moved = [
            padded[row : row + height, column : column + width]
            for row in range(top, top + 2 * margin + 1)
            for column in range(left, left + 2 * margin + 1)
        ]
        squares, picture = self._surrounded()
        costs = []
        for one in moved:
            torch.sub(one, self._reference, out=picture).square_()
            costs.append(_sums(squares).mul_(0.5))
        return torch.stack(costs)

    def choose(self, frame: Tensor, first: Tensor, candidates: list[Tensor]) -> Tensor:
        """Of several `(tiles, 2)` shifts, the cheapest; `first` unless one is clearly better."""
        every = torch.arange(len(first), device=first.device)
        shifts, tried = first.clone(), [first]
        cost = self._costs(frame, first, every)[0] - _LOYALTY * self.deviation
        for candidate in candidates:
            # Most neighbours move alike: only where they don't is there something to look up.
            new = torch.stack([(candidate != one).any(1) for one in tried]).all(0)
            tried.append(candidate)
            other = new.nonzero()[:, 0]
            if len(other) == 0:
                continue
            there = self._costs(frame, candidate, other)[0]
            better = other[there < cost[other]]
            cost[better] = there[there < cost[other]]
            shifts[better] = candidate[better]
        return shifts

    def step(self, frame: Tensor, shifts: Tensor) -> Tensor:
        """Move each tile by up to one cell either way where that is clearly better."""
        every = torch.arange(len(shifts), device=shifts.device)
        costs = self._costs(frame, shifts, every, margin=1)
        costs[4] -= _LOYALTY * self.deviation  # staying
        best = costs.argmin(0)
        return shifts + torch.stack([best // 3 - 1, best % 3 - 1], 1)

    def neighbours(self, shifts: Tensor) -> list[Tensor]:
        """The shifts of the tile above, below, left and right of each tile."""
        grid = shifts.view(self.rows, self.columns, 2)
        up, down = (torch.cat(parts) for parts in ((grid[:1], grid[:-1]), (grid[1:], grid[-1:])))
        left = torch.cat([grid[:, :1], grid[:, :-1]], 1)
        right = torch.cat([grid[:, 1:], grid[:, -1:]], 1)
        return [moved.reshape(-1, 2) for moved in (up, down, left, right)]

    def from_coarser(self, shifts: Tensor) -> Tensor:
        """Take over the `(rows, columns, 2)` shifts of the next coarser level."""
        grid = 2 * shifts.repeat_interleave(2, 0).repeat_interleave(2, 1)
        # Halving an odd size loses a line, and with it perhaps a tile: repeat the last one.
        rows = torch.arange(self.rows, device=grid.device).clamp_max(len(grid) - 1)
        columns = torch.arange(self.columns, device=grid.device).clamp_max(grid.shape[1] - 1)
        return grid[rows[:, None], columns].reshape(-1, 2)


class Aligner:
    """Aligns frames to one reference."""

    def __init__(self, reference: Tensor) -> None:
        """Prepare a reference, `(height, width)` stabilised grey (`stabilise`)."""
        self._levels = _pyramid(reference)
        self._tiles = [_Tiles(level) for level in self._levels]

    def align(self, frame: Tensor) -> Tensor:
        """Return where each tile of the reference is found in the frame.

        A tile follows the whole picture, unless the shift expected from the coarser
        level, or a neighbour's, is clearly better; and then takes a step of one if
        that is clearly better again.

        Args:
            frame: stabilised grey of the reference's size.

        Returns:
            `(tile_rows, tile_columns, 2)` int64 shifts (row, column) in cells: cell p
            of the reference lies at p + shift in the frame.
        """
        whole, shifts = (0, 0), None
        levels = list(zip(self._levels, _pyramid(frame), self._tiles, strict=True))
        for reference, moved, tiles in reversed(levels):
            whole = (2 * whole[0], 2 * whole[1])
            reach = REACH >> (len(levels) - 1) if shifts is None else 1
            whole = _whole_shift(reference, moved, whole, reach)
            first = torch.tensor(whole, device=frame.device).repeat(tiles.rows * tiles.columns, 1)
            if shifts is not None:
                expected = tiles.from_coarser(shifts)
                first = tiles.choose(moved, first, [expected, *tiles.neighbours(expected)])
            shifts = tiles.step(moved, first).view(tiles.rows, tiles.columns, 2)
        return shifts
