"""The black level of every sample of a DNG: BlackLevel, BlackLevelDeltaH and BlackLevelDeltaV.

DNG specification 1.7.1, chapter 5, "Black Subtraction": the black level of a sample is the sum of
its value in BlackLevel (tag 50714), which repeats from ActiveArea's origin with the period
BlackLevelRepeatDim (50713), and the values of its column in BlackLevelDeltaH (50715) and of its
row in BlackLevelDeltaV (50716). The range from black to white is WhiteLevel minus the largest
black level.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import numpy as np

from .tags import Metadata, Tag

#: Smaller differences within a plane are rounding errors, in DN.
_NEGLIGIBLE = 1e-6
#: Deltas that move black by more than this share of the range from BlackLevel to white are absurd.
#: They describe the sensor's fixed pattern, a small part of black.
_MAX_SHIFT = 0.5
#: Rows whose black levels are in memory at once.
_BAND_ROWS = 256

#: Top, left, height and width of a part of the whole frame, in sensor pixels.
Area = tuple[int, int, int, int]


@dataclass(frozen=True)
class BlackMap:
    """The black levels of a frame.

    Attributes:
        pattern: `(rows, columns)` DN, repeated from the origin.
        delta_rows, delta_columns: `(height,)` and `(width,)` DN, from the origin on. Beyond their
            ends, in masked borders, their mean is used.
        origin: row and column of ActiveArea in the frame, in sensor pixels.
    """

    pattern: np.ndarray
    delta_rows: np.ndarray
    delta_columns: np.ndarray
    origin: tuple[int, int]

    def extremes(self, area: Area) -> np.ndarray:
        """Return the lowest and the highest level of each pixel of an area's 2x2 blocks.

        Returns:
            `(2, 4)` DN: lowest and highest of the pixels of the first block, row by row.
        """
        rows, columns = self._phases(area, 0), self._phases(area, 1)
        found = np.empty((2, 4))
        for pixel in range(4):
            # Of the rows and columns with the same place in the pattern, only the lowest and the
            # highest delta matter.
            down, across = rows[pixel // 2], columns[pixel % 2]
            place = np.ix_(down[0].astype(int), across[0].astype(int))
            levels = self.pattern[place]
            found[0, pixel] = (levels + down[1][:, None] + across[1]).min()
            found[1, pixel] = (levels + down[2][:, None] + across[2]).max()
        return found

    def varies(self, area: Area) -> bool:
        """Whether the levels of a plane differ within an area."""
        lowest, highest = self.extremes(area)
        return bool((highest - lowest).max() > _NEGLIGIBLE)

    def raised(self, samples: np.ndarray, area: Area, levels: np.ndarray) -> np.ndarray:
        """Return samples as they would be if each plane's black level were the same all over.

        Args:
            samples: `(height, width)` DN.
            area: where they lie in the frame.
            levels: `(2, 2)` DN, the new black levels of the frame's even and odd rows and columns.

        Returns:
            `(height, width)` float32 DN: integers could not express fractions of a DN.
        """
        top, left, height, width = area
        x = left + np.arange(width)
        columns = x - self.origin[1]
        across = _extended(self.delta_columns, columns)
        result = np.empty(samples.shape, np.float32)
        for first in range(0, height, _BAND_ROWS):
            band = slice(first, min(first + _BAND_ROWS, height))
            y = top + np.arange(band.start, band.stop)[:, None]
            rows = y - self.origin[0]
            level = self.pattern[rows % self.pattern.shape[0], columns % self.pattern.shape[1]]
            level = level + _extended(self.delta_rows, rows) + across
            result[band] = samples[band] + (levels[y % 2, x % 2] - level)
        return result

    def _phases(self, area: Area, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the extreme deltas of even and of odd rows (axis 0) or columns (axis 1).

        Returns:
            Two arrays `(3, places)`: place in the pattern, lowest and highest delta there.
        """
        positions = area[axis] + np.arange(area[2 + axis]) - self.origin[axis]
        deltas = _extended((self.delta_rows, self.delta_columns)[axis], positions)
        size = self.pattern.shape[axis]
        period = min(lcm(2, size), len(deltas))
        groups = [deltas[n::period] for n in range(period)]
        phases = np.array(
            [
                positions[:period] % size,
                [group.min() for group in groups],
                [group.max() for group in groups],
            ]
        )
        return phases[:, 0::2], phases[:, 1::2]


def _extended(deltas: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the deltas at positions; their mean outside of them."""
    inside = (positions >= 0) & (positions < len(deltas))
    found: np.ndarray = np.where(inside, deltas[positions.clip(0, len(deltas) - 1)], deltas.mean())
    return found


def dng_black(
    metadata: Metadata, area: Area, white: float
) -> tuple[BlackMap | None, tuple[str, ...]]:
    """Return the black levels of a DNG.

    A tag that is damaged, or that moves black absurdly far, is ignored with a note.

    Args:
        metadata: of the file.
        area: the visible area.
        white: saturation in DN.

    Returns:
        The levels, None where no tag states any; a line for each tag that was ignored.
    """
    notes: list[str] = []
    pattern = _pattern(metadata, notes)
    corners = metadata.raw_integers(Tag.ACTIVE_AREA)
    if len(corners) != 4:
        sizes = [metadata.raw_integers(tag) for tag in (Tag.HEIGHT, Tag.WIDTH)]
        corners = (0, 0, *(size[0] if size else 0 for size in sizes))
    top, left, bottom, right = corners
    rows = _deltas(metadata, Tag.BLACK_LEVEL_DELTA_V, bottom - top, white, notes)
    columns = _deltas(metadata, Tag.BLACK_LEVEL_DELTA_H, right - left, white, notes)
    if pattern is None:
        if Tag.BLACK_LEVEL in metadata.raw or (rows is None and columns is None):
            return None, tuple(notes)
        pattern = np.zeros((1, 1))  # the default of BlackLevel
    none = np.zeros(1)
    plain = BlackMap(pattern, none, none, (top, left))
    found = BlackMap(
        pattern, none if rows is None else rows, none if columns is None else columns, (top, left)
    )
    (low, high), (new_low, new_high) = (
        (levels[0].min(), levels[1].max())
        for levels in (plain.extremes(area), found.extremes(area))
    )
    shift = max(new_high - high, low - new_low)
    if high < white and shift > _MAX_SHIFT * (white - high):
        notes.append(
            f"BlackLevelDeltaH and BlackLevelDeltaV move black by {shift:g} DN, and white is only "
            f"{white - high:g} DN above it: ignored"
        )
        found = plain
    return found, tuple(notes)


def _pattern(metadata: Metadata, notes: list[str]) -> np.ndarray | None:
    """Return BlackLevel, `(rows, columns)`; None, with a note, if it is not usable."""
    levels = metadata.raw_numbers(Tag.BLACK_LEVEL)
    if not levels:
        return None
    repeat = metadata.raw_integers(Tag.BLACK_LEVEL_REPEAT_DIM)
    rows, columns = repeat if len(repeat) == 2 else (1, 1)
    if min(rows, columns) < 1 or len(levels) != rows * columns:
        notes.append(
            f"BlackLevel has {len(levels)} values, but BlackLevelRepeatDim is {rows}x{columns}: "
            "ignored, LibRaw's black level is used"
        )
        return None
    if not np.isfinite(levels).all():
        notes.append("BlackLevel is not a number: ignored, LibRaw's black level is used")
        return None
    return np.reshape(levels, (rows, columns)).astype(float)


def _deltas(
    metadata: Metadata, tag: Tag, count: int, white: float, notes: list[str]
) -> np.ndarray | None:
    """Return BlackLevelDeltaH or V, `(count,)`; None if absent or, with a note, not usable."""
    if tag not in metadata.raw:
        return None
    deltas = np.array(metadata.raw_numbers(tag), float)
    name, lines = {
        Tag.BLACK_LEVEL_DELTA_H: ("BlackLevelDeltaH", "columns"),
        Tag.BLACK_LEVEL_DELTA_V: ("BlackLevelDeltaV", "rows"),
    }[tag]
    if len(deltas) != count:
        notes.append(f"{name} has {len(deltas)} values for {count} {lines}: ignored")
    elif not np.isfinite(deltas).all():
        notes.append(f"{name} has values that are not numbers: ignored")
    elif np.abs(deltas).max(initial=0) >= white:
        notes.append(f"{name} has values of {white:g} DN and more, the white level: ignored")
    else:
        return deltas
    return None
