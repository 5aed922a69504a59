"""Defective columns and rows: lines of the sensor that deviate from their neighbours all along.

A line is measured against the same-colour lines beside it, in segments. A line of the scene that is
as straight, as long and exactly along the sensor's is rare, and the lens spreads it into the lines
of other colours beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..image.noise_model import NoiseModel
from ..system.threads import map_in_threads

#: Segments of a column or row, and fewest of them in a row that are a defective line.
_SEGMENTS, _MIN_SEGMENTS = 16, 4
#: Each segment deviates by more than this many sigmas of the segments of other lines, the whole
#: by more than the second number.
_SEGMENT_SIGMAS, _LINE_SIGMAS = 1.5, 8.0
#: Largest share of a line's deviation in the lines beside it, where the scene moves between the
#: frames, and where it stands still. A line of the scene that spreads a share L shows half of it:
#: its other neighbour, with which they are compared, has it too. A lens that blurs by 0.5 pixels
#: spreads 0.14.
_MAX_SHARED, _MAX_SHARED_WHERE_STILL = 0.1, 0.06
#: Lines of one colour on each side that the scatter of lines is taken from.
_WINDOW = 16
#: Fewest samples of a segment.
_MIN_SEGMENT_SAMPLES = 14
#: A line whose samples change by less than this share of their neighbours' does not see the light.
_DEAD_CHANGE = 0.5
#: Signal over white from which on samples are saturated.
_SATURATED = 0.95
#: Slopes beyond these are no property of a sensor's line.
_EXTREME_SLOPES = (-1.2, 1.0)
#: Largest unevenness of a line's segments, as a share of its deviation.
_MAX_UNEVEN = 0.3
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Line:
    """A defective part of a column or row.

    Attributes:
        vertical: whether it is a column.
        index: its column or row in the mosaic of the planes (red first), in sensor pixels.
        start, stop: cells along the line, from `start` to before `stop`.
        offsets: what its samples are too bright by, in the plane of the line's first and second
            sample, linear.
        dead: whether its samples don't follow the light and must be replaced.
    """

    vertical: bool
    index: int
    start: int
    stop: int
    offsets: tuple[float, float]
    dead: bool

    @property
    def planes(self) -> tuple[int, int]:
        """The two planes that the line crosses."""
        odd = self.index % 2
        return (odd, 2 + odd) if self.vertical else (2 * odd, 2 * odd + 1)

    def part(self, plane: int) -> tuple[int, slice, int] | tuple[int, int, slice]:
        """Return the index of the line's samples in one of its planes, within `(4, h, w)`."""
        along, across = slice(self.start, self.stop), self.index // 2
        return (plane, along, across) if self.vertical else (plane, across, along)


def find_lines(mean: np.ndarray, noise: NoiseModel, averaged: int, *, still: bool) -> list[Line]:
    """Return the defective columns and rows of a burst.

    Args:
        mean: `(4, height, width)` float32, by `mean_frame`.
        noise: of one frame.
        averaged: number of values in each sample of the mean.
        still: whether the scene stands still, or there is one frame only.
    """
    shared = _MAX_SHARED_WHERE_STILL if still else _MAX_SHARED
    columns = _lines(mean, noise, averaged, shared, vertical=True)
    # The planes of the transposed mosaic: G1 and G2 change places.
    transposed = mean[[0, 2, 1, 3]].swapaxes(1, 2)
    swapped = NoiseModel(*(((a, c, b, d)) for a, b, c, d in (noise.shot, noise.read)))
    return columns + _lines(transposed, swapped, averaged, shared, vertical=False)


def _lines(
    mean: np.ndarray, noise: NoiseModel, averaged: int, shared: float, *, vertical: bool
) -> list[Line]:
    """Return the defective columns of planes, as columns or, of transposed planes, as rows."""
    _, height, width = mean.shape
    if height < _SEGMENTS * _MIN_SEGMENT_SAMPLES or width < 2 * _WINDOW:
        return []
    edges = np.linspace(0, height, _SEGMENTS + 1).astype(int)
    deviation = np.empty((2, _SEGMENTS, width), np.float32)
    error = np.empty((2, _SEGMENTS, 1), np.float32)
    of_planes = list(map_in_threads(lambda plane: _segments(plane, edges), mean))
    for odd in (0, 1):
        segments, variance = zip(*of_planes[odd::2], strict=True)
        deviation[odd] = sum(segments) / 2
        error[odd] = np.sqrt(sum(variance)) / 2
    floor = _rounding_floor(noise, averaged)
    scatter = np.stack(list(map_in_threads(_scatter_around, deviation)))
    scatter = np.maximum(np.maximum(scatter, error), floor)
    relative = deviation / scatter
    alike = (np.abs(relative) > _SEGMENT_SIGMAS).sum(1) >= _MIN_SEGMENTS
    found = []
    for odd, column in zip(*np.nonzero(alike), strict=True):
        run = _longest_run(relative[odd, :, column], deviation[odd, :, column])
        if run is None:
            continue
        along = deviation[:, run].mean(1)
        near = along[odd, max(column - _WINDOW, 0) : column + _WINDOW + 1]
        usual = max(
            _MAD_TO_SIGMA * float(np.median(np.abs(near))),
            float(np.sqrt(np.square(error[odd, run]).sum())) / (run.stop - run.start),
            floor,
        )
        own = abs(along[odd, column])
        # A defective line seems to bend the lines of its colour beside it the other way.
        beside = np.abs(along[odd, max(column - 1, 0) : column + 2]).max()
        index = 2 * int(column) + int(odd)
        rows = slice(edges[run.start], edges[run.stop])
        if own < max(_LINE_SIGMAS * usual, beside) or _shares(mean[:, rows], index, shared):
            continue
        line = _measured(mean, vertical, index, edges[run.start : run.stop + 1], usual)
        if line is not None:
            found.append(line)
    return found


def _rounding_floor(noise: NoiseModel, averaged: int) -> float:
    """Return a scatter below which lines of a noiseless picture are not told apart."""
    return float(np.sqrt(max(min(noise.read), 1e-12) / averaged) * 1e-2)


def _against_neighbours(plane: np.ndarray) -> np.ndarray:
    """Return samples minus the mean of those of the columns beside them in the plane."""
    beside = np.empty(plane.shape, np.float32)
    np.add(plane[:, :-2], plane[:, 2:], out=beside[:, 1:-1])
    beside[:, 0], beside[:, -1] = 2 * plane[:, 1], 2 * plane[:, -2]  # mirrored at the borders
    beside *= np.float32(-0.5)
    beside += plane
    return beside


def _segments(plane: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviation of the segments of columns, and the variance of its error.

    Returns:
        `(segments, width)`, and `(segments, 1)`.
    """
    # Edges and defects in the segment must not decide.
    some = _against_neighbours(plane[::5])[:, ::3]
    limit = 3 * _MAD_TO_SIGMA * float(np.median(np.abs(some)))
    counts = np.diff(edges)[:, None]
    sums = np.empty((2, len(counts), plane.shape[1]), np.float32)
    for number, (start, stop) in enumerate(pairwise(edges)):
        # A segment at a time, which stays in the processor's cache.
        deviation = _against_neighbours(np.ascontiguousarray(plane[start:stop]))
        np.clip(deviation, -limit, limit, out=deviation)
        deviation.sum(0, out=sums[0, number])
        deviation *= deviation
        deviation.sum(0, out=sums[1, number])
    return sums[0] / counts, np.median(sums[1], axis=1, keepdims=True) / counts**2


def _scatter_around(deviation: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the segments of the lines around each, robustly.

    Args:
        deviation: `(segments, width)`.
    """
    padded = np.pad(np.abs(deviation), ((0, 0), (_WINDOW, _WINDOW)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _WINDOW + 1, axis=1)
    scatter: np.ndarray = _MAD_TO_SIGMA * np.median(windows, axis=2)
    return scatter


def _longest_run(relative: np.ndarray, deviation: np.ndarray) -> slice | None:
    """Return the longest run of segments that deviate alike, `_MIN_SEGMENTS` or more.

    Args:
        relative: `(segments,)`, deviations in sigmas.
        deviation: `(segments,)`, linear.
    """
    signs = np.sign(relative) * (np.abs(relative) > _SEGMENT_SIGMAS)
    run = _longest(signs)
    if run is None:
        return None
    # Where a defect ends, chance may go on in its direction.
    strong = np.abs(deviation) > np.quantile(np.abs(deviation[run]), 0.75) / 4
    inside = np.zeros(len(signs), bool)
    inside[run] = True
    return _longest(np.where(strong & inside, signs, 0))


def _longest(signs: np.ndarray) -> slice | None:
    """Return the longest run of equal values other than 0, of `_MIN_SEGMENTS` or more."""
    best, start = None, 0
    for end in range(1, len(signs) + 1):
        if end < len(signs) and signs[end] == signs[start]:
            continue
        long_enough = signs[start] and end - start >= _MIN_SEGMENTS
        if long_enough and (best is None or end - start > best.stop - best.start):
            best = slice(start, end)
        start = end
    return best


def _shares(mean: np.ndarray, index: int, most: float) -> bool:
    """Whether a line is one of the scene, or only seems to deviate beside a defective one.

    Lines beside a line or an edge of the scene deviate too. And the lines of its colour beside a
    defective line, which are compared with it, seem to deviate by half as much.

    Args:
        mean: of the rows of the line.
        index: column of the line in the mosaic.
        most: largest share that the lines beside a defective one show.
    """
    last = 2 * mean.shape[2] - 1

    def size(at: int) -> float:
        at = last - abs(last - abs(at))  # mirrored at the borders
        medians = [np.median(_deviation(mean[plane], at // 2)) for plane in (at % 2, 2 + at % 2)]
        return float(abs(np.mean(medians)))

    own = size(index)
    return (
        max(size(index - 1), size(index + 1)) > most * own
        or max(size(index - 2), size(index + 2)) > own
    )


def _deviation(plane: np.ndarray, column: int) -> np.ndarray:
    """Return a column of a plane minus the mean of the two beside it, mirrored at the border."""
    last = plane.shape[1] - 1
    left = plane[:, column - 1 if column else 1]
    right = plane[:, column + 1 if column < last else last - 1]
    deviation: np.ndarray = plane[:, column] - (left + right) / 2
    return deviation


def _measured(
    mean: np.ndarray, vertical: bool, index: int, edges: np.ndarray, usual: float
) -> Line | None:
    """Measure a line: its offsets, and whether it follows the light at all.

    Args:
        mean: of the burst.
        vertical, index: of the line.
        edges: cells where its segments begin, and where the last one ends.
        usual: standard deviation of lines of its length.

    Returns:
        The line; None if it is none of the sensor: its deviation is neither constant nor in
        proportion to the light.
    """
    offsets: list[float] = []
    dead = False
    odd, column = index % 2, index // 2
    for plane in (odd, 2 + odd):
        part = mean[plane, edges[0] : edges[-1]]
        deviation = _deviation(part, column)
        beside = part[:, column] - deviation
        starts = edges[:-1] - edges[0]
        segments = [
            (np.median(d), b.mean())
            for d, b in zip(
                np.split(deviation, starts[1:]), np.split(beside, starts[1:]), strict=True
            )
        ]
        values, lights = np.array(segments).T
        offset = float(np.median(values))
        light = lights - lights.mean()
        slope = (light * values).sum() / max(float((light * light).sum()), 1e-12)
        if not _EXTREME_SLOPES[0] < slope < _EXTREME_SLOPES[1]:
            slope = 0.0
        rest = values - values.mean() - slope * light
        allowed = max(_MAX_UNEVEN * abs(offset), 3 * usual * len(values) ** 0.5)
        # Three quarters: a defect may begin or end within a segment.
        uneven = [np.quantile(np.abs(part), 0.75) for part in (rest, values - offset)]
        if min(uneven) > allowed:
            return None
        offsets.append(offset)
        dead = dead or _is_dead(part[:, column], deviation)
    return Line(vertical, index, int(edges[0]), int(edges[-1]), (offsets[0], offsets[1]), dead)


def _is_dead(line: np.ndarray, deviation: np.ndarray) -> bool:
    """Whether a line's samples do not follow the light: they change less than their neighbours'.

    Args:
        line: `(length,)`, its samples in one plane.
        deviation: of them from the mean of the lines beside it.
    """
    own, beside = (np.median(np.abs(np.diff(values))) for values in (line, line - deviation))
    saturated = np.median(line) > _SATURATED > np.median(line - deviation)
    # The mean of two lines has less noise than one.
    return bool(own < _DEAD_CHANGE * beside or saturated)
