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
#: Tiles that are looked at together: their windows fit into a cache.
_AT_ONCE = 512
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
    return _LARGE * float((mine - theirs).square_().mul_(0.5 / _LARGE).log1p_().mean())


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
    """The tiles of one level, row by row, and their costs against a frame.

    Their windows are cut out as they are needed, `_AT_ONCE` tiles at a time: all of them
    together would be several times the picture, and in no cache.

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
        insides = [self._inside(chosen).sum((1, 2)) for chosen in self._parts(self._all())]
        self.deviation = (2 * torch.cat(insides)).sqrt()

    def _all(self) -> Tensor:
        return torch.arange(len(self._top), device=self._top.device)

    def _parts(self, chosen: Tensor) -> tuple[Tensor, ...]:
        return chosen.split(_AT_ONCE)

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
        found = []
        for part in self._parts(chosen):
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

    def choose(self, frame: Tensor, first: Tensor, candidates: list[Tensor]) -> Tensor:
        """Of several `(tiles, 2)` shifts, the cheapest; `first` unless one is clearly better."""
        shifts = first.clone()
        cost = self._costs(frame, first, self._all())[0] - _LOYALTY * self.deviation
        for candidate in candidates:
            # Most neighbours move alike: only where they don't is there something to look up.
            other = (candidate != shifts).any(1).nonzero()[:, 0]
            if len(other) == 0:
                continue
            there = self._costs(frame, candidate, other)[0]
            better = other[there < cost[other]]
            cost[better] = there[there < cost[other]]
            shifts[better] = candidate[better]
        return shifts

    def step(self, frame: Tensor, shifts: Tensor) -> Tensor:
        """Move each tile by up to one cell either way where that is clearly better."""
        costs = self._costs(frame, shifts, self._all(), margin=1)
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
            first = torch.tensor(whole, device=frame.device).expand(tiles.rows * tiles.columns, 2)
            if shifts is not None:
                expected = tiles.from_coarser(shifts)
                first = tiles.choose(moved, first, [expected, *tiles.neighbours(expected)])
            shifts = tiles.step(moved, first).view(tiles.rows, tiles.columns, 2)
        return shifts


def align(reference: Tensor, frame: Tensor) -> Tensor:
    """Align one frame: see `Aligner`."""
    return Aligner(reference).align(frame)


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
