"""Estimate the noise model of a burst whose file states no NoiseProfile.

Either from the ISO alone (`from_iso`), or measured in the frames (`measure_blocks`,
`measure_burst_blocks`), in four steps:

1. Small blocks are cut out; a mask that cancels planes and edges leaves noise
   (Immerkaer, "Fast Noise Variance Estimation", CVIU 1996).
2. Blocks are grouped by signal, and in every group the flattest are kept. Flatness is
   judged by something independent of the measured noise (the other planes of a frame;
   the sum of two frames, where their difference is measured), so that the selection
   does not bias the variance as a low quantile would.
3. The median of the kept blocks is a point of variance over signal.
4. `Var = S x + O` is fitted to the points (Foi et al., "Practical Poissonian-Gaussian
   Noise Modeling and Fitting for Single-Image Raw-Data", IEEE TIP 2008) as a lower
   envelope: texture and motion add variance and never remove any.

The noise must be white: after noise reduction in the camera, or lossy compression, the
mask responds to too little of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import KpnError
from ..image.noise_model import NoiseModel, typical_log_read
from ..system.threads import map_in_threads

#: Medians over the green channels of the noise profiles of 433 camera models: ISO, S, O.
_TABLE_ISO = np.array([100, 800, 3200, 12800, 25600])
_TABLE_SHOT = np.array([3.2e-6, 1.8e-5, 6.7e-5, 2.3e-4, 3.4e-4])
_TABLE_READ = np.array([2.8e-9, 3.9e-8, 2.7e-7, 1.3e-6, 2.1e-6])

#: Side of a block in cells; the mask loses one at each side.
_SIDE = 10
#: Blocks may overlap by half: small pictures have few that are flat.
_MIN_STRIDE = _SIDE // 2
#: Blocks used at most: 10 000 give the variance to a percent or two.
MAX_BLOCKS = 10_000
#: Independent samples that the 64 mask responses of a block are worth: 64 over the
#: sum of squares of the mask's autocorrelation, (70 / 36) ** 2.
_DEGREES_OF_FREEDOM = (_SIDE - 2) ** 2 / (70 / 36) ** 2
#: Median of a mean of squares over its expectation, by Wilson and Hilferty (1931).
_MEDIAN_OVER_MEAN = (1 - 2 / (9 * _DEGREES_OF_FREEDOM)) ** 3
#: The most groups by signal, and the fewest blocks a group should have.
_MAX_GROUPS, _MIN_GROUP_BLOCKS = 12, 30
#: The flattest blocks of a group: this share to begin with, and at least this many.
_FLATTEST_SHARE, _MIN_FLATTEST = 0.02, 8
#: Share of blocks with clipped samples above which a group has lost noise to clipping:
#: with 100 samples a block, its signal is about three sigmas from the clipping level.
_MAX_CLIPPED_SHARE = 0.1

#: Standard deviation of a point's relative error beside its sampling error.
_MODEL_ERROR = 0.04
#: Largest cost, in variances, of a point that is too low.
_MAX_COST_BELOW = 25.0
#: Scatter in decades: of O about its line over S, from camera to camera (`typical_log_read`);
#: of the planes' S and O about their common ones.
_LINE_SCATTER, _SHOT_SCATTER, _READ_SCATTER = 0.4, 0.04, 0.1

_REMEDY = "give the noise with --noise S,O"


def from_iso(iso: float) -> NoiseModel:
    """Return the noise of a typical camera at a sensitivity.

    S and O are medians over the green channels of the noise profiles of 433 camera
    models at five ISOs, interpolated in log-log and extrapolated with the slope of the
    outer interval. Single cameras differ by several times: phone sensors are far
    noisier, full-frame sensors less.

    Args:
        iso: EXIF ISO, above 0.

    Raises:
        KpnError: if the ISO is not a positive number.
    """
    if not (np.isfinite(iso) and iso > 0):
        raise KpnError(f"ISO {iso} is not a positive number: {_REMEDY}")
    return NoiseModel.uniform(
        _log_log(iso, _TABLE_ISO, _TABLE_SHOT), _log_log(iso, _TABLE_ISO, _TABLE_READ)
    )


def _log_log(at: float, x: np.ndarray, y: np.ndarray) -> float:
    """Interpolate y over x linearly in their logarithms, and extrapolate."""
    x, y, at = np.log(x), np.log(y), np.log(at)
    left = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    slope = (y[left + 1] - y[left]) / (x[left + 1] - x[left])
    return float(np.exp(y[left] + slope * (at - x[left])))


def measure_blocks(blocks: np.ndarray) -> NoiseModel:
    """Measure the noise of a single frame in its flat blocks.

    Fine texture all over the picture passes for noise; prefer `measure_burst_blocks`.

    Args:
        blocks: `(4, blocks, side, side)`, as `cut_blocks` returns them.

    Raises:
        KpnError: if the frame is blank or clipped all over.
    """
    levels = clip_levels(blocks)
    blocks = blocks[:, ~_copied(blocks)]
    signal, variance = blocks.mean((-2, -1)), _mean_square(noise_response(blocks))
    grey = blocks.sum(0)
    # Noise is independent between the planes, texture is not: the flatness of a plane is
    # judged by the three others.
    texture = np.stack([(grey - plane).var((-2, -1)) for plane in blocks])
    return _fit([_points(signal, variance, texture, clipped_blocks(blocks, levels))])


def measure_burst_blocks(
    reference: np.ndarray, others: Iterable[Callable[[], np.ndarray]]
) -> NoiseModel:
    """Measure the noise of a burst in the differences between its frames.

    Args:
        reference: `(4, blocks, side, side)`, as `cut_blocks` returns them.
        others: functions that cut the same blocks of each other frame, aligned to the reference
            in whole cells; called in several threads. If there are none, the reference is
            measured alone.

    Raises:
        KpnError: if the frames are blank or clipped all over.
    """
    levels = clip_levels(reference)
    # The points of the frames are not averaged: those of a misaligned or blurred frame are above
    # the others, and the fit passes below them.
    copied, clipped = _copied(reference), clipped_blocks(reference, levels)

    def points_of(cut: Callable[[], np.ndarray]) -> list[np.ndarray]:
        frame = cut()
        usable = ~(copied | _copied(frame))
        if not usable.all():  # a selection is a copy
            frame = frame[:, usable]
            return _difference_points(reference[:, usable], frame, clipped[:, usable], levels)
        return _difference_points(reference, frame, clipped, levels)

    points = list(map_in_threads(points_of, others))
    return _fit(points) if points else measure_blocks(reference)


def sigma_ratio(a: NoiseModel, b: NoiseModel, signal: float = 0.18) -> float:
    """Return sigma of `a` over sigma of `b` at a signal in [0, 1]; mean over the planes."""
    shots, reads = (np.array([getattr(m, name) for m in (a, b)]) for name in ("shot", "read"))
    variance = shots * signal + reads
    return float(np.mean(np.sqrt(variance[0] / variance[1])))


# --- blocks ---------------------------------------------------------------------------


def cut_blocks(
    rows: int, columns: int, cells: Callable[[slice], np.ndarray], most: int = MAX_BLOCKS
) -> np.ndarray:
    """Cut a bounded number of evenly spread blocks out of planes, band by band.

    Args:
        rows, columns: size of the planes, in cells.
        cells: for a slice of rows, returns their `(4, rows, columns)` float32, 1.0 = white level.
        most: number of blocks, about.

    Returns:
        `(4, blocks, 10, 10)`; blocks may overlap by half.

    Raises:
        KpnError: if the planes have fewer than 10 cells a side.
    """
    if min(rows, columns) < _SIDE:
        raise KpnError(
            f"noise cannot be measured in {columns}x{rows} cells, at least {_SIDE}x{_SIDE} "
            f"are needed: {_REMEDY}"
        )
    spread = (rows - _SIDE + 1) * (columns - _SIDE + 1) / most
    stride = max(_MIN_STRIDE, int(np.ceil(np.sqrt(spread))))
    bands = []
    for top in range(0, rows - _SIDE + 1, stride):
        windows = sliding_window_view(cells(slice(top, top + _SIDE)), _SIDE, axis=2)
        bands.append(windows[:, :, ::stride].transpose(0, 2, 1, 3))
    return np.concatenate(bands, 1)


def noise_response(blocks: np.ndarray) -> np.ndarray:
    """Return the response of Immerkaer's mask to `(..., side, side)`: two less a side.

    White noise keeps its variance; planes and straight edges respond with 0.
    """
    across = blocks[..., :-2] - 2 * blocks[..., 1:-1] + blocks[..., 2:]
    response: np.ndarray = (across[..., :-2, :] - 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 6
    return response


def _mean_square(response: np.ndarray) -> np.ndarray:
    mean: np.ndarray = np.square(response).mean((-2, -1))
    return mean


def clip_levels(samples: np.ndarray) -> np.ndarray:
    """Return the levels at which each plane of `(4, ...)` clips, `(2, 4)`: black and white.

    Black is -inf where nothing clips there, white at most 1.0.

    A sensor may saturate below the white level, and some cameras clip at black: then
    the extreme value is more frequent than the next one, which noise never causes.
    """
    levels = np.empty((2, 4))
    for plane, values in enumerate(samples.reshape(4, -1)):
        levels[0, plane] = -_clip_level(-values, np.inf)
        levels[1, plane] = _clip_level(values, 1.0)
    return levels


def _clip_level(samples: np.ndarray, otherwise: float) -> float:
    """Return the level at which `(samples,)` clip from above; `otherwise` if they don't."""
    top = samples.max()
    below = samples[samples < top]
    piled = samples.size - below.size
    if below.size and piled <= max(np.count_nonzero(below == below.max()), samples.size // 2000):
        return otherwise
    return min(float(top), otherwise)


def clipped_blocks(blocks: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return which blocks, `(4, blocks)`, hold clipped samples."""
    low, high = levels[..., None]
    clipped: np.ndarray = (blocks.min((-2, -1)) <= low) | (blocks.max((-2, -1)) >= high)
    return clipped


def _copied(blocks: np.ndarray) -> np.ndarray:
    """Return which blocks, `(blocks,)`, start or end with the same line twice.

    Some decoders pad a border with copies of a line, which repeat its noise.
    """
    copied = np.zeros(blocks.shape[1], bool)
    for lines in (blocks, blocks.swapaxes(-2, -1)):
        for one, other in ((0, 1), (-1, -2)):
            copied |= (lines[..., one, :] == lines[..., other, :]).all((0, -1))
    return copied


# --- points of variance over signal ---------------------------------------------------


def _difference_points(
    reference: np.ndarray, frame: np.ndarray, clipped: np.ndarray, levels: np.ndarray
) -> list[np.ndarray]:
    """Return `_points` of two frames.

    Args:
        reference, frame: `(4, blocks, _SIDE, _SIDE)`.
        clipped: `(4, blocks)`, which blocks of the reference hold clipped samples.
        levels: at which planes clip.
    """
    total = reference + frame
    # Sum and difference of independent noise of equal variance are independent.
    texture = np.broadcast_to(total.sum(0).var((-2, -1)), total.shape[:2])
    variance = _mean_square(noise_response(reference - frame)) / 2
    clipped = clipped | clipped_blocks(frame, levels)
    return _points(total.mean((-2, -1)) / 2, variance, texture, clipped)


def _points(
    signal: np.ndarray, variance: np.ndarray, texture: np.ndarray, clipped: np.ndarray
) -> list[np.ndarray]:
    """Group the blocks of each plane by signal; return a point for the flattest of each group.

    Args:
        signal, variance, texture: `(4, blocks)`.
        clipped: `(4, blocks)`, which blocks hold clipped samples.

    Returns:
        For each plane `(points, 3)`: signal, variance, relative error of the variance.
    """
    by_plane = []
    for x, v, t, c in zip(signal, variance, texture, clipped, strict=True):
        groups = [group[~c[group]] for group in _groups(x, c)]
        points = np.array([_flattest(x[g], v[g], t[g]) for g in groups]).reshape(-1, 3)
        by_plane.append(points[points[:, 1] > 0])
    return by_plane


def _groups(signal: np.ndarray, clipped: np.ndarray) -> list[np.ndarray]:
    """Return the indices of blocks of similar signal, without groups that are clipped.

    If all groups are, the least clipped are returned.

    Args:
        signal, clipped: `(blocks,)`.
    """
    count = int(np.clip(len(signal) // _MIN_GROUP_BLOCKS, 1, _MAX_GROUPS))
    groups = np.array_split(np.argsort(signal), count) if len(signal) else []
    shares = [clipped[group].mean() for group in groups]
    limit = max(_MAX_CLIPPED_SHARE, min(shares, default=0))
    return [g for g, share in zip(groups, shares, strict=True) if share <= limit and share < 1]


def _flattest(
    signal: np.ndarray, variance: np.ndarray, texture: np.ndarray
) -> tuple[float, float, float]:
    """Return signal, variance and relative error of the flattest blocks of a group.

    As many blocks as agree: their number doubles until the variance has risen by more
    than two standard errors (in the manner of Lepski's choice of a bandwidth).

    Args:
        signal, variance, texture: `(blocks,)`.
    """
    order = np.argsort(texture)
    signal, variance = signal[order], variance[order]
    kept = min(max(_MIN_FLATTEST, int(_FLATTEST_SHARE * len(order))), len(order))
    highest, count = np.inf, kept
    while True:
        level = np.median(variance[:count]) / _MEDIAN_OVER_MEAN
        if level > highest:
            break
        # The median's standard error is sqrt(pi / 2) times the mean's.
        error = np.sqrt(np.pi / (_DEGREES_OF_FREEDOM * count))
        kept, highest = count, min(highest, level * (1 + 2 * error))
        if count == len(order):
            break
        count = min(2 * count, len(order))
    level, error = (
        np.median(variance[:kept]) / _MEDIAN_OVER_MEAN,
        np.sqrt(np.pi / (_DEGREES_OF_FREEDOM * kept)),
    )
    return float(signal[:kept].mean()), float(level), float(error)


# --- the fit --------------------------------------------------------------------------


def _fit(frames: list[list[np.ndarray]]) -> NoiseModel:
    """Fit common S and O to the points of all frames, then those of each plane.

    Where the range of signals is too small to separate S from O, the line of typical
    cameras does; where a plane has too few points, the common ones are used.

    Args:
        frames: for each frame and plane `(points, 3)`, as `_points` returns them.
    """
    planes = [np.concatenate(points) for points in zip(*frames, strict=True)]
    every = np.concatenate(planes)
    if not len(every):
        raise KpnError(f"noise cannot be measured: the picture is blank or clipped; {_REMEDY}")

    def by_line(shot: np.ndarray, read: np.ndarray) -> np.ndarray:
        cost: np.ndarray = ((read - typical_log_read(shot)) / _LINE_SCATTER) ** 2
        return cost

    common = _search(every, by_line)

    def by_planes(shot: np.ndarray, read: np.ndarray) -> np.ndarray:
        shot_cost: np.ndarray = ((shot - common[0]) / _SHOT_SCATTER) ** 2
        return shot_cost + ((read - common[1]) / _READ_SCATTER) ** 2

    fitted = np.array([_search(p, by_planes) if len(p) else common for p in planes])
    return NoiseModel(*(tuple(10**column) for column in fitted.T))


def _search(
    points: np.ndarray, prior: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Return log10 of S and O of least cost, by a grid search, refined around the best.

    The cost has many local minima, so the search starts wide and blurred: misfits are
    measured in grid steps while these are coarse. The grid's axes are the variance at a
    middle signal and O / S: their errors hardly depend on each other, unlike those of S
    and O. Logarithms keep everything positive.

    Args:
        points: `(points, 3)`, at least one.
        prior: cost over log10 of S and of O, in squared standard deviations.
    """
    middle = max(np.median(points[:, 0]), 1e-4)
    level, split = np.log10(np.median(points[:, 1])), -2.5
    for step in 0.45 * 0.5 ** np.arange(9):
        grid = step * np.arange(-8, 9)
        levels, splits = np.meshgrid(level + grid, split + grid, indexing="ij")
        shots = levels - np.log10(middle + 10**splits)
        cost = _cost(points, shots, shots + splits, step) + prior(shots, shots + splits)
        best = np.unravel_index(np.argmin(cost), cost.shape)
        level, split = levels[best], splits[best]
    return float(shots[best]), float(shots[best] + split)


def _cost(points: np.ndarray, shot: np.ndarray, read: np.ndarray, blur: float) -> np.ndarray:
    """Return the misfit of models to the points, of the shape of `shot`.

    Points above the model have the cost of a Cauchy distribution, which is low for
    outliers; points below it cost their square, up to a limit: so the model follows the
    lowest points that agree.

    Args:
        points: `(points, 3)`.
        shot, read: log10 of S and O, of any shape.
        blur: lower limit of a point's relative error.
    """
    signal, variance, error = points.T
    model = 10 ** shot[..., None] * np.maximum(signal, 0) + 10 ** read[..., None]
    misfit = np.log(variance / model) / np.hypot(error, max(_MODEL_ERROR, blur))
    squared = np.square(misfit)
    below = np.minimum(squared, _MAX_COST_BELOW)
    cost: np.ndarray = np.where(misfit > 0, np.log1p(squared), below).sum(-1)
    return cost
