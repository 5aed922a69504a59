"""Coarse-to-fine alignment of a frame to the reference, tile by tile, in whole cells.

Whole cells, because resampling would correlate the noise, which the network
assumes to be independent; the kernels take care of the rest, less than a cell. The
scheme is that of HDR+ (Hasinoff et al., SIGGRAPH Asia 2016, section 4), on
variance-stabilised grey: its noise has unit variance, so costs are chi-square sums
and one threshold serves every ISO.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.filters import box
from ..image.noise_model import NoiseModel
from .warp import TILE, most_common_shift

#: Row and column of a shift, in cells.
Shift = tuple[int, int]

#: Tiles whose windows are cut out together: they fit into a cache.
_TILES_AT_ONCE = 512
#: How far a tile's window reaches beyond the tile on each side, in cells: more than twice the
#: samples, which high noise needs.
_WINDOW_MARGIN = 4
#: Windows are added up from blocks of this side, in cells; it divides tiles and windows.
_BLOCK = math.gcd(TILE, 2 * _WINDOW_MARGIN)
#: Rows of cells whose costs are computed together, at all shifts: they stay in a core's cache.
_DENSE_ROWS = 8 * _BLOCK
#: If at least this share of the tiles has one shift, costs are computed densely, over the whole
#: picture at that shift; else tile by tile.
_DENSE_SHARE = 0.25
#: Samples that go through all steps of the global cost together: they stay in a cache.
_CACHED_SAMPLES = 2**17
#: Largest shift of the whole picture in cells, either way: 128 sensor pixels.
MAX_SHIFT = 64
_MAX_LEVELS = 4  # of the pyramid
_MIN_SIDE = 24  # of the coarsest level, in samples
#: A tile leaves the shift of the whole picture only for a gain of this many standard
#: deviations of the cost: flat tiles would wander with the noise.
_SWITCH_SIGMAS = 3.0
#: The whole picture leaves the shift expected from the coarser level, zero at the coarsest,
#: only for a gain of this many.
_LEAVE_ZERO_SIGMAS = 5.0
#: If the best shift and the expected one differ by less than this many, and the frames by hardly
#: more than noise (a chi-square of 1 a sample), they are compared once more, in smoothed images:
#: shifts by one cell of very noisy frames show there by four times as many.
_CLEAR_SIGMAS, _HARDLY_MORE_THAN_NOISE = 30.0, 1.1
#: Weight of the image in its smoothed one. Its means over 3x3 and 9x9 cells are added, and that
#: over 27x27 is taken away: brightness that drifts would pass for a shift of what is smooth.
_SHARP_WEIGHT = 0.3
#: Variance of white noise in the sum: of a sample in the middle, 8 and 72 around it, and the rest.
_SMOOTHED_VARIANCE = sum(
    number * (weight - (2 + _SHARP_WEIGHT) / 27**2) ** 2
    for number, weight in (
        (1, _SHARP_WEIGHT + 1 / 9 + 1 / 81),
        (8, 1 / 9 + 1 / 81),
        (72, 1 / 81),
        (27**2 - 81, 0),
    )
)
#: Chi-square of a sample from which on the global cost grows only logarithmically.
_CAUCHY_SCALE = 200.0


def stabilise(planes: Tensor, noise: NoiseModel) -> Tensor:
    """Return variance-stabilised grey: its noise has variance 1 at every signal.

    The generalised Anscombe transform (Starck, Murtagh and Bijaoui, "Image Processing and Data
    Analysis", 1998, section 2.3.3) of the mean of the four planes.

    Args:
        planes: `(4, height, width)`, linear, 1.0 = white level.

    Returns:
        `(height, width)`.
    """
    # The mean of four samples has a quarter of their variance.
    shot, read = sum(noise.shot) / 16, sum(noise.read) / 16
    grey, offset = planes.mean(0), 0.375 * shot**2 + read
    if shot > 0:
        grey.clamp_min_(-offset / shot)
    # The transform minus its value at black, written so that nothing cancels: in float32 it then
    # works for little shot noise, and for none.
    divisor = (shot * grey).add_(offset).clamp_min_(0).sqrt_().add_(offset**0.5)
    return grey.mul_(2).div_(divisor)


def _pyramid(grey: Tensor) -> list[Tensor]:
    """Return levels of half the size each, finest first, scaled so that noise keeps variance 1."""
    levels = [grey]
    while len(levels) < _MAX_LEVELS and min(levels[-1].shape) >= 2 * _MIN_SIDE:
        finer = levels[-1]
        height, width = (side // 2 * 2 for side in finer.shape)
        # In the order of `avg_pool2d`, which takes longer.
        evens, odds = finer[0:height:2], finer[1:height:2]
        total = evens[:, 0:width:2] + evens[:, 1:width:2]
        levels.append(total.add_(odds[:, 0:width:2]).add_(odds[:, 1:width:2]).mul_(0.5))
    return levels


def _global_costs(reference: Tensor, frame: Tensor, shifts: Sequence[Shift]) -> list[float]:
    """Return the mean chi-square of the whole frame at each shift, large values compressed.

    1 where nothing but noise is left. The logarithm (a Cauchy likelihood) lets the rest of
    the picture decide where a bright object comes or goes, which in squares would outweigh
    all of it; it begins where noise ends, so that edges in noisy frames count.
    """
    height, width = reference.shape
    step = max(_CACHED_SAMPLES // width, 1) if reference.device.type == "cpu" else height
    memory = reference.new_empty(min(step, height) * width)
    sums: list[list[Tensor]] = [[] for _ in shifts]
    for top in range(0, height, step):
        for (y, x), of_shift in zip(shifts, sums, strict=True):
            rows = slice(max(-y, top), min(height - max(y, 0), top + step))
            columns = slice(max(-x, 0), width - max(x, 0))
            number = (rows.stop - rows.start) * (columns.stop - columns.start)
            if number <= 0:
                continue
            one = reference[rows, columns]
            other = frame[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x]
            # Contiguous memory: all steps but the first take half the time there.
            odds = memory[:number]
            torch.sub(one, other, out=odds.view(one.shape))
            odds.mul_(odds).mul_(0.5 / _CAUCHY_SCALE).add_(1)
            # Two samples share a logarithm: that of a product is the sum of both.
            half = number // 2
            odds[:half].mul_(odds[number - half :])
            of_shift.append(odds[: number - half].log_().sum())
    return [
        _CAUCHY_SCALE * float(torch.stack(parts).sum()) / ((height - abs(y)) * (width - abs(x)))
        for (y, x), parts in zip(shifts, sums, strict=True)
    ]


def _smoothed(image: Tensor) -> Tensor:
    """Return an image in which noise hides shifts less, its noise again of variance 1.

    A shift changes the frequency f of a picture in proportion to f, and pictures themselves fall as
    1 / f: all frequencies tell as much of it. The noise is white, so the high ones drown the low
    ones, unless they are weighted by about 1 / f. Sums of the image and its means over squares do
    that.

    Args:
        image: `(height, width)`, its noise white and of variance 1.
    """
    over_3 = box(image[None, None], 3)
    over_9 = box(over_3, 3, 3)
    over_27 = box(over_9, 3, 9)
    total = over_9.add_(over_3).sub_(over_27, alpha=2 + _SHARP_WEIGHT)[0, 0]
    return total.add_(image, alpha=_SHARP_WEIGHT).div_(_SMOOTHED_VARIANCE**0.5)


def _global_shift(
    reference: Tensor,
    frame: Tensor,
    expected: Shift,
    reach: int,
    smoothed: Callable[[], tuple[Tensor, Tensor]] | None = None,
) -> Shift:
    """Return the best shift (row, column) of the whole frame, by exhaustive search.

    Args:
        reference, frame: `(height, width)` of one level.
        expected: the shift to search around.
        reach: how far from it, in cells of the level.
        smoothed: returns both, `_smoothed`, for shifts that noise nearly hides. Only with a reach
            of 1: for larger shifts the threshold would be too low there.
    """
    limit_y, limit_x = (side // 3 for side in reference.shape)
    others = [
        (y, x)
        for y in range(expected[0] - reach, expected[0] + reach + 1)
        for x in range(expected[1] - reach, expected[1] + reach + 1)
        if abs(y) <= limit_y and abs(x) <= limit_x and (y, x) != expected
    ]
    lowest, *costs = _global_costs(reference, frame, [expected, *others])
    deviation = (2 / reference.numel()) ** 0.5
    unclear = bool(others) and abs(min(costs) - lowest) < _CLEAR_SIGMAS * deviation
    if smoothed and unclear and lowest < _HARDLY_MORE_THAN_NOISE:
        lowest, *costs = _global_costs(*smoothed(), [expected, *others])
    # The expected shift wins unless another is clearly better: where there is hardly
    # any texture, the luckiest of some hundred shifts beats it by three deviations.
    lowest -= _LEAVE_ZERO_SIGMAS * deviation
    best = expected
    for shift, cost in zip(others, costs, strict=True):
        if cost < lowest:
            best, lowest = shift, cost
    return best


def _block_sums(padded: Tensor) -> Tensor:
    """Return the sums over blocks of `_BLOCK` cells a side, of which windows are made."""
    return F.avg_pool2d(padded[None], _BLOCK, divisor_override=1)[0]


def _window_sums(blocks: Tensor) -> Tensor:
    """Return the sum over the window of each tile, `(tiles,)`.

    Args:
        blocks: `_block_sums` of an image like `_TileGrid._padded_zeros`.
    """
    side, step = (TILE + 2 * _WINDOW_MARGIN) // _BLOCK, TILE // _BLOCK
    return F.avg_pool2d(blocks[None], side, step, divisor_override=1).flatten()


class _TileGrid:
    """The tiles of one level, row by row, and the costs of their shifts in a frame.

    A cost is half the sum of squared differences over the tile's window. Where many tiles have
    one shift, their costs are computed over the whole picture at once (dense). Else their windows
    are cut out as they are needed, `_TILES_AT_ONCE` at a time (sparse): all of them together
    would be several times the picture, and fit into no cache.

    Attributes:
        reference: the level, `(height, width)`.
        rows, columns: of the grid of tiles.
        padded_size: rows and columns that the windows of all tiles span, in cells.
        deviation: `(tiles,)`, standard deviation of a tile's cost if it differs from the
            reference by nothing but noise: of differences of variance 2, squared and halved.
    """

    def __init__(self, reference: Tensor) -> None:
        height, width = reference.shape
        self.reference = reference
        self.rows, self.columns = -(-height // TILE), -(-width // TILE)
        self.padded_size = (
            TILE * self.rows + 2 * _WINDOW_MARGIN,
            TILE * self.columns + 2 * _WINDOW_MARGIN,
        )
        device = reference.device
        row, column = torch.meshgrid(
            torch.arange(self.rows, device=device),
            torch.arange(self.columns, device=device),
            indexing="ij",
        )
        self._top, self._left = row.flatten() * TILE, column.flatten() * TILE
        inside, picture = self._padded_zeros()
        picture.fill_(1)
        self.deviation = (2 * _window_sums(_block_sums(inside))).sqrt()

    def _padded_zeros(self) -> tuple[Tensor, Tensor]:
        """Return zeros that hold the windows of all tiles, and the view that is the picture."""
        zeros = self.reference.new_zeros(*self.padded_size)
        height, width = self.reference.shape
        return zeros, zeros[_WINDOW_MARGIN:, _WINDOW_MARGIN:][:height, :width]

    def _window_offsets(self, margin: int = 0) -> Tensor:
        reach = _WINDOW_MARGIN + margin
        return torch.arange(-reach, TILE + reach, device=self._top.device)

    def _inside(self, chosen: Tensor) -> Tensor:
        """Return 1 where the windows of tiles are inside the picture, `(chosen, side, side)`."""
        starts = (self._top[chosen], self._left[chosen])
        y, x = (
            (index >= 0) & (index < size)
            for index, size in zip(
                (start[:, None] + self._window_offsets() for start in starts),
                self.reference.shape,
                strict=True,
            )
        )
        return (y[:, :, None] & x[:, None, :]).float()

    def _windows(
        self, image: Tensor, chosen: Tensor, shifts: Tensor | None = None, margin: int = 0
    ) -> Tensor:
        """Cut the windows of tiles, `(chosen, side, side)`, out of an image.

        Beyond its border the image is continued by its border sample.
        """
        height, width = image.shape
        offsets = self._window_offsets(margin)
        y, x = self._top[chosen, None] + offsets, self._left[chosen, None] + offsets
        if shifts is not None:
            y, x = y + shifts[chosen, :1], x + shifts[chosen, 1:]
        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
        return image.flatten()[y[:, :, None] * width + x[:, None, :]]

    def _costs(self, frame: _Moved, shifts: Tensor, chosen: Tensor, margin: int = 0) -> Tensor:
        """Return the costs of tiles at their shifts, and at all shifts up to `margin` from them.

        Args:
            frame: the level of the frame.
            shifts: `(tiles, 2)`.
            chosen: `(chosen,)`, indices of the tiles.
            margin: in cells.

        Returns:
            `((2 * margin + 1) ** 2, chosen)`, row by row of the further shifts.
        """
        of_chosen = shifts[chosen]
        common = most_common_shift(of_chosen)
        alike = (of_chosen == common).all(1)
        if int(alike.sum()) < _DENSE_SHARE * len(shifts):
            return self._sparse_costs(frame.image, shifts, chosen, margin)
        y, x = common.tolist()
        near = range(-margin, margin + 1)
        dense = frame.tile_costs([(y + row, x + column) for row in near for column in near])
        costs = torch.stack(dense)[:, chosen]
        others = (~alike).nonzero()[:, 0]
        if len(others):
            costs[:, others] = self._sparse_costs(frame.image, shifts, chosen[others], margin)
        return costs

    def _sparse_costs(self, frame: Tensor, shifts: Tensor, chosen: Tensor, margin: int) -> Tensor:
        """Return `_costs`, window by window."""
        costs = []
        for some in torch.split(chosen, _TILES_AT_ONCE):
            tiles, inside = self._windows(self.reference, some), self._inside(some)
            windows = self._windows(frame, some, shifts, margin)
            side = tiles.shape[1]
            moved = [
                windows[:, y : y + side, x : x + side]
                for y in range(2 * margin + 1)
                for x in range(2 * margin + 1)
            ]
            costs.append(
                torch.stack(
                    [(one - tiles).square_().mul_(inside).sum((1, 2)).mul_(0.5) for one in moved]
                )
            )
        return torch.cat(costs, 1)

    def best_candidate(self, frame: _Moved, first: Tensor, candidates: list[Tensor]) -> Tensor:
        """Return the cheapest of several `(tiles, 2)` shifts; `first` unless one clearly wins."""
        every = torch.arange(len(first), device=first.device)
        shifts, tried = first.clone(), [first]
        lowest = self._costs(frame, first, every)[0] - _SWITCH_SIGMAS * self.deviation
        for candidate in candidates:
            # Most neighbours move alike: only new shifts need a cost.
            is_new = torch.stack([(candidate != one).any(1) for one in tried]).all(0)
            tried.append(candidate)
            new = is_new.nonzero()[:, 0]
            if len(new) == 0:
                continue
            costs = self._costs(frame, candidate, new)[0]
            better = new[costs < lowest[new]]
            lowest[better] = costs[costs < lowest[new]]
            shifts[better] = candidate[better]
        return shifts

    def refine(self, frame: _Moved, shifts: Tensor) -> Tensor:
        """Move each tile by up to one cell either way where that is clearly better."""
        every = torch.arange(len(shifts), device=shifts.device)
        costs = self._costs(frame, shifts, every, margin=1)
        costs[4] -= _SWITCH_SIGMAS * self.deviation  # of no move
        best = costs.argmin(0)
        return shifts + torch.stack([best // 3 - 1, best % 3 - 1], 1)

    def neighbours(self, shifts: Tensor) -> list[Tensor]:
        """Return the shifts of the tile above, below, left and right of each tile."""
        grid = shifts.view(self.rows, self.columns, 2)
        up, down = (torch.cat(parts) for parts in ((grid[:1], grid[:-1]), (grid[1:], grid[-1:])))
        left = torch.cat([grid[:, :1], grid[:, :-1]], 1)
        right = torch.cat([grid[:, 1:], grid[:, -1:]], 1)
        return [moved.reshape(-1, 2) for moved in (up, down, left, right)]

    def upsample(self, shifts: Tensor) -> Tensor:
        """Return the `(rows, columns, 2)` shifts of the next coarser level as `(tiles, 2)`."""
        grid = 2 * shifts.repeat_interleave(2, 0).repeat_interleave(2, 1)
        # Halving an odd size loses a line, and with it perhaps a tile: repeat the last one.
        rows = torch.arange(self.rows, device=grid.device).clamp_max(len(grid) - 1)
        columns = torch.arange(self.columns, device=grid.device).clamp_max(grid.shape[1] - 1)
        return grid[rows[:, None], columns].reshape(-1, 2)


class _Moved:
    """A level of a frame, and the costs of tiles where all of it has one shift.

    Attributes:
        image: `(height, width)`.
    """

    def __init__(self, grid: _TileGrid, image: Tensor) -> None:
        self.image = image
        self._grid = grid
        self._known: dict[Shift, Tensor] = {}

    def tile_costs(self, shifts: Sequence[Shift]) -> list[Tensor]:
        """Return the costs of all tiles at each shift, `(tiles,)`, as `_TileGrid` defines them.

        Those of a shift are computed once.
        """
        new = [shift for shift in shifts if shift not in self._known]
        if new:
            self._known.update(zip(new, self._computed(new), strict=True))
        return [self._known[shift] for shift in shifts]

    def _computed(self, shifts: Sequence[Shift]) -> list[Tensor]:
        reference = self._grid.reference
        height, width = reference.shape
        reach = max(max(abs(y), abs(x)) for y, x in shifts)
        padded = F.pad(self.image[None, None], (reach,) * 4, mode="replicate")[0, 0]
        moved = [padded[reach + y :, reach + x :][:height, :width] for y, x in shifts]
        padded_height, padded_width = self._grid.padded_size
        sums = reference.new_empty(len(shifts), padded_height // _BLOCK, padded_width // _BLOCK)
        # In bands, which stay in a cache for all shifts.
        for start in range(0, padded_height, _DENSE_ROWS):
            band = slice(start // _BLOCK, min(start + _DENSE_ROWS, padded_height) // _BLOCK)
            squares = reference.new_zeros(_BLOCK * (band.stop - band.start), padded_width)
            first = start - _WINDOW_MARGIN
            stop = min(first + len(squares), height)
            rows = slice(min(max(first, 0), stop), stop)  # none below the picture
            if rows.start == rows.stop:
                sums[:, band] = 0
                continue
            inside = squares[rows.start - first : rows.stop - first]
            inside = inside[:, _WINDOW_MARGIN : _WINDOW_MARGIN + width]
            for one, of_shift in zip(moved, sums, strict=True):
                torch.sub(one[rows], reference[rows], out=inside).square_()
                of_shift[band] = _block_sums(squares)
        return [_window_sums(blocks).mul_(0.5) for blocks in sums]


class Aligner:
    """Aligns frames to one reference."""

    def __init__(self, reference: Tensor) -> None:
        """Prepare a reference, `(height, width)` stabilised grey (`stabilise`)."""
        self._levels = _pyramid(reference)
        self._grids = [_TileGrid(level) for level in self._levels]
        self._smoothed_reference: Tensor | None = None

    def align(self, frame: Tensor) -> Tensor:
        """Return where each tile of the reference is found in the frame.

        A tile follows the whole picture, unless the shift expected from the coarser
        level, or a neighbour's, is clearly better; then it moves by one cell if
        that is clearly better again.

        Args:
            frame: stabilised grey of the reference's size.

        Returns:
            `(tile_rows, tile_columns, 2)` int64 shifts (row, column) in cells: cell p
            of the reference is found at p + shift in the frame.
        """
        levels = list(zip(self._levels, _pyramid(frame), self._grids, strict=True))
        whole, shifts = (0, 0), torch.zeros(0, dtype=torch.int64)
        for level, (reference, image, grid) in enumerate(reversed(levels)):
            coarsest = level == 0
            whole = (2 * whole[0], 2 * whole[1])
            reach = MAX_SHIFT >> (len(levels) - 1) if coarsest else 1
            finest = level == len(levels) - 1
            smoothed = partial(self._both_smoothed, image) if finest and not coarsest else None
            whole = _global_shift(reference, image, whole, reach, smoothed)
            moved = _Moved(grid, image)
            first = torch.tensor(whole, device=frame.device).repeat(grid.rows * grid.columns, 1)
            if not coarsest:
                expected = grid.upsample(shifts)
                first = grid.best_candidate(moved, first, [expected, *grid.neighbours(expected)])
            shifts = grid.refine(moved, first).view(grid.rows, grid.columns, 2)
        return shifts

    def _both_smoothed(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the finest level of the reference and of a frame, smoothed."""
        if self._smoothed_reference is None:
            self._smoothed_reference = _smoothed(self._levels[0])
        return self._smoothed_reference, _smoothed(image)
