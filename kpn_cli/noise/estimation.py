"""Where a noise model comes from when the file has no NoiseProfile.

Either from the sensitivity alone (`from_iso`), or measured in the pictures
(`measure_blocks`, `measure_burst_blocks`). Measuring goes through four steps:

1. Small blocks are cut out; a mask that is blind to planes and edges leaves noise
   (Immerkaer, "Fast Noise Variance Estimation", CVIU 1996).
2. Blocks are grouped by signal, and in every group the flattest are kept. What
   judges flatness is independent of the noise that is then measured (other planes
   of a frame; the sum of two frames, where the difference is measured), so that
   choosing doesn't bias the variance as a low quantile would.
3. The median of the kept blocks is a point of variance over signal.
4. `Var = S x + O` is fitted to the points (Foi et al., "Practical Poissonian-Gaussian
   Noise Modeling and Fitting for Single-Image Raw-Data", IEEE TIP 2008) as a lower
   envelope: texture and motion add variance and never take any.

All that presumes noise that is white: noise reduction in the camera, or lossy
compression, makes the mask see too little of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import KpnError
from ..image.noise_model import NoiseModel, typical_log_read

#: Medians over the green channels of 433 camera models' profiles: ISO, S, O.
_ISO = np.array([100, 800, 3200, 12800, 25600])
_ISO_SHOT = np.array([3.2e-6, 1.8e-5, 6.7e-5, 2.3e-4, 3.4e-4])
_ISO_READ = np.array([2.8e-9, 3.9e-8, 2.7e-7, 1.3e-6, 2.1e-6])

#: Side of a block in cells; the mask loses one at each side.
_SIDE = 10
#: Blocks may overlap by half: small pictures have few that are flat.
_STRIDE = _SIDE // 2
#: Blocks looked at, at most: 10 000 of them tell the variance to a percent or two.
_MOST_BLOCKS = 10_000
#: Independent samples that the 64 mask responses of a block are worth: 64 over the
#: sum of squares of the mask's autocorrelation, (70 / 36) ** 2.
_FREEDOM = (_SIDE - 2) ** 2 / (70 / 36) ** 2
#: Median of a mean of squares over its expectation, by Wilson and Hilferty (1931).
_MEDIAN = (1 - 2 / (9 * _FREEDOM)) ** 3
#: Groups by signal, at most, and blocks a group should have at least.
_GROUPS, _GROUP_BLOCKS = 12, 30
#: The flattest of a group: this share to begin with, and this many at least.
_FLATTEST, _FEWEST = 0.02, 8
#: Share of blocks with clipped samples above which a group has lost noise to clipping:
#: with 100 samples a block, it lies about three sigmas from the level.
_MOST_CLIPPED = 0.1

#: Standard deviation of a point's relative error beside its sampling error.
_MODEL_ERROR = 0.04
#: Squared error, in variances, beyond which a point that lies too low counts no more.
_LOWEST = 25.0
#: Scatter in decades: of O about the line it follows over S, from camera to camera
#: (`typical_log_read`); of the planes' S and O about their common ones.
_LINE_SCATTER, _SHOT_SCATTER, _READ_SCATTER = 0.4, 0.04, 0.1

_REMEDY = "give the noise with --noise S,O"


def from_iso(iso: float) -> NoiseModel:
    """Return the noise of a typical camera at a sensitivity.

    S and O are medians over the green channels of 433 camera models' profiles
    at five sensitivities, interpolated in log-log and extrapolated with the
    slope of the outer interval. Single cameras lie several times off: sensors
    of phones are far noisier, full frames less.

    Args:
        iso: EXIF ISO, above 0.

    Raises:
        KpnError: for an ISO that isn't a positive number.
    """
    if not (np.isfinite(iso) and iso > 0):
        raise KpnError(f"ISO {iso} says nothing about noise: {_REMEDY}")
    return NoiseModel.uniform(_log_log(iso, _ISO, _ISO_SHOT), _log_log(iso, _ISO, _ISO_READ))


def _log_log(at: float, x: np.ndarray, y: np.ndarray) -> float:
    x, y, at = np.log(x), np.log(y), np.log(at)
    left = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    slope = (y[left + 1] - y[left]) / (x[left + 1] - x[left])
    return float(np.exp(y[left] + slope * (at - x[left])))


def measure_blocks(blocks: np.ndarray) -> NoiseModel:
    """Measure the noise of a single frame in its flat blocks.

    Fine texture all over the picture counts as noise; prefer `measure_burst_blocks`.

    Args:
        blocks: of the frame, as `cut_blocks` returns them.

    Raises:
        KpnError: if nothing can be measured: blank, or clipped all over.
    """
    levels = clip_levels(blocks)
    blocks = blocks[:, ~_copied(blocks)]
    signal, variance = blocks.mean((-2, -1)), _mean_square(_response(blocks))
    grey = blocks.sum(0)
    # Noise is independent between the planes, texture is not: a plane's flatness is
    # judged by the three others.
    texture = np.stack([(grey - plane).var((-2, -1)) for plane in blocks])
    return _fit([_points(signal, variance, texture, _clipped(blocks, levels))])


def measure_burst_blocks(reference: np.ndarray, others: Iterable[np.ndarray]) -> NoiseModel:
    """Measure the noise of a burst in the differences between its frames.

    Args:
        reference: blocks of the reference, as `cut_blocks` returns them.
        others: the same blocks of each other frame, moved onto the reference in whole
            cells; taken one at a time. Without any, the reference is measured on its own.

    Raises:
        KpnError: if nothing can be measured: blank, or clipped all over.
    """
    levels = clip_levels(reference)
    # A frame's points stay its own: one that is misaligned or blurred lies above the
    # others, and the fit passes below it.
    points = [_difference_points(reference, blocks, levels) for blocks in others]
    return _fit(points) if points else measure_blocks(reference)


def sigma_ratio(a: NoiseModel, b: NoiseModel, signal: float = 0.18) -> float:
    """Return sigma of `a` over sigma of `b` at a signal in [0, 1], the mean over the planes."""
    shots, reads = (np.array([getattr(m, name) for m in (a, b)]) for name in ("shot", "read"))
    variance = shots * signal + reads
    return float(np.mean(np.sqrt(variance[0] / variance[1])))


# --- blocks ---------------------------------------------------------------------------


def cut_blocks(rows: int, columns: int, cells: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Cut evenly spread blocks, a bounded number, out of planes that needn't be in memory.

    Args:
        rows, columns: size of the planes, in cells.
        cells: given some rows, returns their `(4, rows, columns)` float32, 1.0 = white level.

    Returns:
        `(4, blocks, side, side)`.

    Raises:
        KpnError: if the planes have fewer than 10 cells a side.
    """
    if min(rows, columns) < _SIDE:
        raise KpnError(
            f"noise can't be measured in {columns}x{rows} cells, at least {_SIDE}x{_SIDE} "
            f"are needed: {_REMEDY}"
        )
    spread = (rows - _SIDE + 1) * (columns - _SIDE + 1) / _MOST_BLOCKS
    stride = max(_STRIDE, int(np.ceil(np.sqrt(spread))))
    found = []
    for top in range(0, rows - _SIDE + 1, stride):
        windows = sliding_window_view(cells(slice(top, top + _SIDE)), _SIDE, axis=2)
        found.append(windows[:, :, ::stride].transpose(0, 2, 1, 3))
    return np.concatenate(found, 1)


def _response(blocks: np.ndarray) -> np.ndarray:
    """Return the response of Immerkaer's mask; white noise keeps its variance."""
    across = blocks[..., :-2] - 2 * blocks[..., 1:-1] + blocks[..., 2:]
    return (across[..., :-2, :] - 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 6


def _mean_square(response: np.ndarray) -> np.ndarray:
    return np.square(response).mean((-2, -1))


def clip_levels(samples: np.ndarray) -> np.ndarray:
    """Return the levels at which each plane of `(4, ...)` clips, `(2, 4)`: black and white.

    Black is -inf where nothing clips there, white 1.0.

    A sensor may saturate below the white level, and some cameras clip at black: then
    the extreme value is met more often than the next one, which noise never does.
    """
    levels = np.empty((2, 4))
    for plane, own in enumerate(samples.reshape(4, -1)):
        levels[0, plane] = -_ceiling(-own, np.inf)
        levels[1, plane] = _ceiling(own, 1.0)
    return levels


def _ceiling(samples: np.ndarray, otherwise: float) -> float:
    top = samples.max()
    below = samples[samples < top]
    piled = samples.size - below.size
    if below.size and piled <= max(np.count_nonzero(below == below.max()), samples.size // 2000):
        return otherwise
    return min(float(top), otherwise)


def _clipped(blocks: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return which blocks, `(4, blocks)`, hold clipped samples."""
    low, high = levels[..., None]
    return (blocks.min((-2, -1)) <= low) | (blocks.max((-2, -1)) >= high)


def _copied(blocks: np.ndarray) -> np.ndarray:
    """Return which blocks, `(blocks,)`, begin or end with the same line twice.

    Some decoders pad a border with copies of a line, and with it repeat the noise.
    """
    copied = np.zeros(blocks.shape[1], bool)
    for lines in (blocks, blocks.swapaxes(-2, -1)):
        for one, other in ((0, 1), (-1, -2)):
            copied |= (lines[..., one, :] == lines[..., other, :]).all((0, -1))
    return copied


# --- points of variance over signal ---------------------------------------------------


def _difference_points(
    reference: np.ndarray, frame: np.ndarray, levels: np.ndarray
) -> list[np.ndarray]:
    """Return `_points` of two frames, from blocks `(4, blocks, _SIDE, _SIDE)` of each."""
    own = ~(_copied(reference) | _copied(frame))
    reference, frame = reference[:, own], frame[:, own]
    total = reference + frame
    # Of independent noise of equal variance, sum and difference are independent.
    texture = np.broadcast_to(total.sum(0).var((-2, -1)), total.shape[:2])
    variance = _mean_square(_response(reference - frame)) / 2
    clipped = _clipped(reference, levels) | _clipped(frame, levels)
    return _points(total.mean((-2, -1)) / 2, variance, texture, clipped)


def _points(
    signal: np.ndarray, variance: np.ndarray, texture: np.ndarray, clipped: np.ndarray
) -> list[np.ndarray]:
    """Group the blocks of each plane by signal; return a point of the flattest of each group.

    Args:
        signal, variance, texture: `(4, blocks)`.
        clipped: `(4, blocks)`, which blocks hold clipped samples.

    Returns:
        For each plane `(points, 3)`: signal, variance, relative error of the variance.
    """
    of_planes = []
    for x, v, t, c in zip(signal, variance, texture, clipped, strict=True):
        groups = [group[~c[group]] for group in _groups(x, c)]
        points = np.array([_flattest(x[g], v[g], t[g]) for g in groups]).reshape(-1, 3)
        of_planes.append(points[points[:, 1] > 0])
    return of_planes


def _groups(signal: np.ndarray, clipped: np.ndarray) -> list[np.ndarray]:
    """Return the indices of blocks of similar signal, without groups that clipping touches.

    If it touches all, those it touches least stay.
    """
    count = int(np.clip(len(signal) // _GROUP_BLOCKS, 1, _GROUPS))
    groups = np.array_split(np.argsort(signal), count) if len(signal) else []
    shares = [clipped[group].mean() for group in groups]
    most = max(_MOST_CLIPPED, min(shares, default=0))
    return [g for g, share in zip(groups, shares, strict=True) if share <= most and share < 1]


def _flattest(
    signal: np.ndarray, variance: np.ndarray, texture: np.ndarray
) -> tuple[float, float, float]:
    """Return signal, variance and relative error of the flattest blocks of a group.

    As many as agree: their number doubles until the variance has risen by more
    than two standard errors (in the manner of Lepski's choice of a bandwidth).
    """
    order = np.argsort(texture)
    signal, variance = signal[order], variance[order]
    kept = min(max(_FEWEST, int(_FLATTEST * len(order))), len(order))
    highest, count = np.inf, kept
    while True:
        level = np.median(variance[:count]) / _MEDIAN
        if level > highest:
            break
        # The median's standard error is sqrt(pi / 2) times the mean's.
        error = np.sqrt(np.pi / (_FREEDOM * count))
        kept, highest = count, min(highest, level * (1 + 2 * error))
        if count == len(order):
            break
        count = min(2 * count, len(order))
    level, error = np.median(variance[:kept]) / _MEDIAN, np.sqrt(np.pi / (_FREEDOM * kept))
    return float(signal[:kept].mean()), float(level), float(error)


# --- the fit --------------------------------------------------------------------------


def _fit(frames: list[list[np.ndarray]]) -> NoiseModel:
    """Fit S and O to the points of all frames: common ones, then each plane's about them.

    Where the signals' range can't tell S from O, the cameras' line between them
    does; where a plane can't tell its own, the common ones stand in.
    """
    planes = [np.concatenate(points) for points in zip(*frames, strict=True)]
    every = np.concatenate(planes)
    if not len(every):
        raise KpnError(f"noise can't be measured: the picture is blank or clipped; {_REMEDY}")

    def by_line(shot: np.ndarray, read: np.ndarray) -> np.ndarray:
        return ((read - typical_log_read(shot)) / _LINE_SCATTER) ** 2

    common = _search(every, by_line)

    def by_planes(shot: np.ndarray, read: np.ndarray) -> np.ndarray:
        return ((shot - common[0]) / _SHOT_SCATTER) ** 2 + ((read - common[1]) / _READ_SCATTER) ** 2

    fitted = np.array([_search(p, by_planes) if len(p) else common for p in planes])
    return NoiseModel(*(tuple(10**column) for column in fitted.T))


def _search(
    points: np.ndarray, prior: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Return log10 of S and O of least cost, by a grid that is refined about the best.

    The cost has many local minima, so it begins wide and blurred: a misfit counts
    in units of a grid step while that is coarse. The grid's axes are the variance
    at a middle signal and O / S, whose errors hardly depend on each other, as
    those of S and O do. Logarithms keep all positive.

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
    """Return the misfit of models (log10 of S and O, any shape) to the points.

    Points above the model have Cauchy's cost, which forgives; points below it are
    squared up to a limit: so the model follows the lowest that agree.
    """
    signal, variance, error = points.T
    model = 10 ** shot[..., None] * np.maximum(signal, 0) + 10 ** read[..., None]
    misfit = np.log(variance / model) / np.hypot(error, max(_MODEL_ERROR, blur))
    squared = np.square(misfit)
    return np.where(misfit > 0, np.log1p(squared), np.minimum(squared, _LOWEST)).sum(-1)
