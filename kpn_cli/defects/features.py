"""Suspect samples, and what tells defects from detail: features of a sample's neighbourhood.

A defect is one sample of the sensor that deviates from its neighbours at one place in every frame.
Detail spreads, as the lens blurs it: even the smallest star puts a quarter of its peak into the
samples beside it, which are of other colours. Where the camera moved, detail moves too.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..burst.frame import Frame
from ..image import bayer
from ..image.noise_model import NoiseModel
from ..system.threads import map_in_threads
from .mean_frame import averaged_frames
from .prediction import CHUNK, REACH, Prediction, at, window_index

#: A suspect deviates from its same-colour neighbours by more than this many sigmas of one frame;
#: in a single frame, and in the mean of many.
_SUSPECT_SIGMAS = {1: 4.5, 2: 4.0, 3: 3.5}
_SUSPECT_SIGMAS_MANY = 2.5
#: Largest share of the samples that are looked at closely, the most distinct ones; and a number
#: that always is.
_MOST_SUSPECTS, _FEWEST_SUSPECTS = 0.006, 500
#: Samples within this many sigmas of black seem more distinct by this factor.
_BLACK_SIGMAS, _BLACK_BONUS = 4.0, 4.0
#: Rows of cells that are searched at a time, and those around them that are looked at.
_BAND_ROWS, _HALO = 64, 4
#: Mean signals above this, over white, are clipped in some frames.
_SATURATED = 0.95
_SAME_8 = [(y, x) for y in (-2, 0, 2) for x in (-2, 0, 2) if y or x]
_SAME_24 = [(y, x) for y in (-4, -2, 0, 2, 4) for x in (-4, -2, 0, 2, 4) if y or x]
_BESIDE = [(-1, 0), (1, 0), (0, -1), (0, 1)]
_DIAGONAL = [(-1, -1), (-1, 1), (1, -1), (1, 1)]

#: Names of the features, in order; those of `_window_features`, then of `_frame_features`.
NAMES = (
    "log deviation / sigma",
    "log residual",
    "log scatter",
    "log 4th residual",
    "log 2nd residual",
    "highest neighbour",
    "2nd highest neighbour",
    "lowest neighbour",
    "log median neighbour",
    "log 3rd neighbour",
    "beside",
    "highest beside",
    "2nd highest beside",
    "diagonal",
    "highest diagonal",
    "around",
    "log window",
    "hot",
    "green",
    "log signal / sigma",
    "log value / read sigma",
    "lowest frame",
    "2nd lowest frame",
    "scatter of frames",
    "log scatter of frames / sigma",
    "log frames",
    "log suspects around",
)
#: Features of the picture, the same for all of its suspects: quantiles of features of all suspects,
#: after the logarithm of their share. On a tripod deviations are alike in all frames, hand-held
#: they are not; and spots of light show how far the lens spreads a point.
_CONTEXT_QUANTILES = {
    "lowest frame": (0.5,),
    "log scatter of frames / sigma": (0.5,),
    "hot": (0.5,),  # its mean
    "highest beside": (0.05, 0.2, 0.5),
    "log scatter": (0.1, 0.5),
}
_CONTEXT_LENGTH = 1 + sum(map(len, _CONTEXT_QUANTILES.values()))
#: Number of features, those of the picture included.
LENGTH = len(NAMES) + _CONTEXT_LENGTH
#: Suspects whose deviation is this many sigmas, as a logarithm, are alike in all frames of a burst
#: on a tripod: their lowest deviation is more than this share of their mean one.
_CLEAR, _STILL = float(np.log(6)), 0.4
#: Share of a suspect's deviation in the second highest sample beside it that makes it a spot.
_SPOT = 0.12
#: Up to this number of suspects, their surroundings are gathered from the planes, sample by sample;
#: of more, they are cut out of a mosaic, which must be made first.
_FEW_SITES = 4 * CHUNK
#: Side of the square in which suspects are counted, in cells.
_AROUND = 17


def find_suspects(mean: np.ndarray, noise: NoiseModel, count: int) -> np.ndarray:
    """Return the samples that deviate from their same-colour neighbours by more than noise.

    Args:
        mean: `(4, height, width)` float32, by `mean_frame`.
        noise: of one frame.
        count: number of frames.

    Returns:
        `(3, suspects)` int64: plane, row and column, in cells.
    """
    limit = _SUSPECT_SIGMAS.get(count, _SUSPECT_SIGMAS_MANY)
    _, height, width = mean.shape
    averaged = averaged_frames(count)

    def of_band(top: int, always: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the suspects of a band, and how distinct they are, which takes twice as long.

        None if there are so few that this probably decides nothing, unless `always`.
        """
        # Band by band, so that all of it stays in the processor's cache.
        start, stop = max(top - _HALO, 0), min(top + _BAND_ROWS + _HALO, height)
        rows = min(top + _BAND_ROWS, height) - top
        inner = slice(top - start, top - start + rows)
        band = mean[:, start:stop]
        deviation, sigma = _deviations(band, noise)
        clear = np.abs(deviation[:, inner]) > limit * sigma[:, inner]
        if band.max() > _SATURATED:
            clear &= ~_among_saturated(band)[:, inner]
        plane, row, column = np.nonzero(clear)
        sites = np.stack([plane, row + top, column])
        if not always and len(plane) <= _MOST_SUSPECTS * 4 * rows * width:
            return sites, None
        score = _distinctness(deviation, sigma * np.float32(averaged**-0.5))
        score = score[plane, row + inner.start, column]
        # Dead samples deviate little in dark detail.
        darkest = (_BLACK_SIGMAS * (np.array(noise.read) / averaged) ** 0.5).astype(np.float32)
        score[mean[tuple(sites)] < darkest[plane]] *= _BLACK_BONUS
        return sites, score

    tops = range(0, height, _BAND_ROWS)
    by_band = list(map_in_threads(of_band, tops))
    most = max(int(_MOST_SUSPECTS * mean.size), _FEWEST_SUSPECTS)
    if sum(sites.shape[1] for sites, _ in by_band) > most:
        missing = [n for n, (_, score) in enumerate(by_band) if score is None]
        scored = map_in_threads(lambda n: of_band(tops[n], True), missing)
        for n, result in zip(missing, scored, strict=True):
            by_band[n] = result
        score = np.concatenate([score for _, score in by_band if score is not None])
        found = np.concatenate([sites for sites, _ in by_band], axis=1)
        found = found[:, np.sort(np.argpartition(score, -most)[-most:])]
    else:
        found = np.concatenate([sites for sites, _ in by_band], axis=1)
    # In the order of planes, whatever the bands were.
    return found[:, np.lexsort(found[::-1])]


def _deviations(mean: np.ndarray, noise: NoiseModel) -> tuple[np.ndarray, np.ndarray]:
    """Return how far the samples of a band deviate from their neighbours, and a frame's sigma."""
    deviation = np.empty(mean.shape, np.float32)
    sigma = np.empty(mean.shape, np.float32)
    for plane, (shot, read) in enumerate(zip(noise.shot, noise.read, strict=True)):
        usual = cv2.medianBlur(np.ascontiguousarray(mean[plane]), 3)
        np.subtract(mean[plane], usual, out=deviation[plane])
        np.maximum(usual, 0, out=usual)
        np.multiply(usual, np.float32(shot), out=usual)
        np.add(usual, np.float32(read), out=usual)
        np.sqrt(usual, out=sigma[plane])
    return deviation, sigma


def _distinctness(deviation: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return how far samples deviate beyond those around them, `(4, height, width)` float32.

    Args:
        deviation: from the same-colour neighbours, `(4, height, width)`.
        sigma: of its noise, likewise.
    """
    _, height, width = deviation.shape
    size = np.abs(deviation)
    around = np.stack([_box(plane, 5) for plane in size])
    mosaics = [bayer.unpack(planes, "RGGB", 2 * height, 2 * width) for planes in (size, deviation)]
    near = bayer.pack(_box(mosaics[0], 3), "RGGB")
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
    beside = cv2.filter2D(mosaics[1], -1, cross, borderType=cv2.BORDER_REFLECT_101)
    shared = bayer.pack(beside, "RGGB") * np.sign(deviation)
    alone = size - np.float32(1.5) * np.maximum(shared, 0)
    around += sigma / 2
    near += sigma / 2
    distinct: np.ndarray = alone / np.sqrt(around * near)
    return distinct


def _box(samples: np.ndarray, side: int) -> np.ndarray:
    """Return the mean of the samples in a square around each, itself left out."""
    total = cv2.boxFilter(
        samples, -1, (side, side), normalize=False, borderType=cv2.BORDER_REFLECT_101
    )
    mean: np.ndarray = (total - samples) / np.float32(side * side - 1)
    return mean


def _among_saturated(mean: np.ndarray) -> np.ndarray:
    """Return the samples beside which several are saturated: what they deviate from is unknown."""
    _, height, width = mean.shape
    saturated = bayer.unpack((mean > _SATURATED).astype(np.uint8), "RGGB", 2 * height, 2 * width)
    number = cv2.boxFilter(
        saturated, -1, (5, 5), normalize=False, borderType=cv2.BORDER_REFLECT_101
    )
    return bayer.pack(number - saturated, "RGGB") > 1


def suspect_features(
    sites: np.ndarray,
    all_sites: np.ndarray,
    mean: np.ndarray,
    frames: Sequence[Frame],
    noise: NoiseModel,
) -> np.ndarray:
    """Return the features of suspects, but for those of the picture (`with_context`).

    Args:
        sites: `(3, suspects)`, of those whose features are wanted.
        all_sites: `(3, all_suspects)`, by `find_suspects`.
        mean: `(4, height, width)` float32, by `mean_frame`.
        frames: of the burst, on the CPU.
        noise: of one frame.

    Returns:
        `(suspects, len(NAMES))` float32. Lengths are in units of the suspect's deviation from
        its same-colour neighbours, upwards.
    """
    height, width = frames[0].size
    around = _suspects_around(all_sites, height, width)
    windows = None
    if sites.shape[1] > _FEW_SITES:
        mosaic = bayer.unpack(mean, "RGGB", 2 * height, 2 * width)
        # Mirrored about the border pixel, each sample keeps its colour.
        padded = np.pad(mosaic, REACH, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH + 1,) * 2)

    def of_chunk(chunk: np.ndarray) -> np.ndarray:
        if windows is None:
            of_sites = mean[window_index(chunk, (height, width))]
        else:
            plane, row, column = chunk
            of_sites = windows[2 * row + plane // 2, 2 * column + plane % 2]
        return _chunk_features(chunk, of_sites, frames, noise, around)

    chunks = [sites[:, start : start + CHUNK] for start in range(0, sites.shape[1], CHUNK)]
    parts = [np.empty((0, len(NAMES)), np.float32), *map_in_threads(of_chunk, chunks)]
    return np.concatenate(parts)


def _chunk_features(
    sites: np.ndarray,
    window: np.ndarray,
    frames: Sequence[Frame],
    noise: NoiseModel,
    around: np.ndarray,
) -> np.ndarray:
    """Return the features of some suspects, `(suspects, len(NAMES))` float32.

    Args:
        sites: `(3, suspects)`.
        window: around each suspect, in the mosaic of the mean: `(suspects, 17, 17)`.
        frames, noise: of the burst.
        around: `(height, width)`, number of suspects around each cell.
    """
    plane, row, column = sites
    usual = np.median([at(window, step) for step in _SAME_8], axis=0)
    deviation = at(window, (0, 0)) - usual
    # A deviation of 0 has no sign: such a sample is no suspect whatever its features are.
    size = np.maximum(np.abs(deviation), 1e-9)
    upwards = np.where(deviation < 0, -1, 1) / size
    read = np.array(noise.read, np.float32)[plane]
    sigma = np.sqrt(np.array(noise.shot, np.float32)[plane] * usual.clip(0) + read)
    shape = ((window - usual[:, None, None]) * upwards[:, None, None]).astype(np.float32)
    relative = ((sigma / size) ** 2 / averaged_frames(len(frames))).astype(np.float32)
    green = (plane == 1) | (plane == 2)
    features = [
        _log(size / sigma),
        *_window_features(shape, relative),
        np.where(deviation > 0, 1, 0),
        np.where(green, 1, 0),
        _log(usual / sigma),
        _log(np.abs(at(window, (0, 0))) / np.sqrt(read)),
        *_frame_features(plane, row, column, frames, upwards, sigma / size),
        np.log(around[row, column]),
    ]
    columns = [np.broadcast_to(feature, plane.shape) for feature in features]
    return np.stack(columns, axis=1).astype(np.float32, copy=False)


def context_of(features: np.ndarray, suspects: int, samples: int) -> np.ndarray:
    """Return the features of a picture, float32.

    Args:
        features: `(any, len(NAMES))` of all of its suspects, or of many at random.
        suspects, samples: their numbers in the picture.
    """
    if not len(features):
        return np.zeros(_CONTEXT_LENGTH, np.float32)
    context = [np.log(suspects / samples)]
    for name, shares in _CONTEXT_QUANTILES.items():
        values = features[:, NAMES.index(name)]
        context += [values.mean()] if name == "hot" else np.quantile(values, shares).tolist()
    return np.array(context, np.float32)


def with_context(features: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Return `(any, LENGTH)` float32: features `(any, len(NAMES))`, and those of the picture."""
    added = np.broadcast_to(context, (len(features), _CONTEXT_LENGTH))
    return np.concatenate([features, added], axis=1)


def is_spot(features: np.ndarray) -> np.ndarray:
    """Return which suspects spread as a point of light does, `(suspects,)` bool.

    Of the four samples beside a star's brightest one, at least two have a quarter of its light if
    the lens blurs it with a standard deviation of 0.6 pixels, wherever it falls.
    """
    spreads = features[:, NAMES.index("2nd highest beside")] > _SPOT
    spots: np.ndarray = is_bright(features) & spreads
    return spots


def is_bright(features: np.ndarray) -> np.ndarray:
    """Return which suspects are brighter than their neighbours, `(suspects,)` bool."""
    bright: np.ndarray = features[:, NAMES.index("hot")] > 0.5
    return bright


def is_still(features: np.ndarray) -> bool:
    """Whether nothing moves between the frames, or there is one only: detail stands as defects do.

    Args:
        features: `(suspects, len(NAMES))`, of all suspects of a picture.
    """
    clear = features[features[:, NAMES.index("log deviation / sigma")] > _CLEAR]
    lowest = clear[:, NAMES.index("lowest frame")]
    return not len(lowest) or float(np.median(lowest)) > _STILL


def _suspects_around(sites: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the number of suspects around each cell, of all planes, `(height, width)` float32."""
    number = np.zeros((height, width), np.float32)
    np.add.at(number, (sites[1], sites[2]), 1)
    around = cv2.boxFilter(number, -1, (_AROUND, _AROUND), normalize=False)
    return np.maximum(around, 1)


def _log(values: np.ndarray) -> np.ndarray:
    logs: np.ndarray = np.log(np.maximum(values, 1e-3))
    return logs


def _window_features(shape: np.ndarray, variance: np.ndarray) -> list[np.ndarray]:
    """Return what a suspect's surroundings in the mean frame show.

    Args:
        shape: `(suspects, 17, 17)`, the suspect in the middle: 0 is the median of its same-colour
            neighbours, 1 the suspect.
        variance: of the noise of the mean frame, in these units squared.
    """
    near = np.sort([at(shape, step) for step in _SAME_8], axis=0)
    far = np.stack([at(shape, step) for step in _SAME_24])
    spread = np.sort(np.abs(far - np.median(far, axis=0)), axis=0)
    prediction = Prediction(shape, variance)
    residuals = np.sort(prediction.residuals, axis=0)
    beside, diagonal = (
        np.stack([_excess(shape, step) for step in steps]) for steps in (_BESIDE, _DIAGONAL)
    )
    highest = np.sort(beside, axis=0)
    return [
        _log(1 - prediction.values),
        _log(prediction.scatter),
        _log(residuals[-4]),
        _log(residuals[-2]),
        near[-1],
        near[-2],
        -near[0],
        _log(spread[12]),
        _log(spread[-3]),
        beside.mean(0),
        highest[-1],
        highest[-2],
        diagonal.mean(0),
        diagonal.max(0),
        (np.abs(beside).mean(0) + np.abs(diagonal).mean(0)) / 2,
        _log(np.abs(shape[:, 3:-3, 3:-3]).mean((1, 2))),
    ]


def _excess(shape: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    """Return how far a sample beside the suspect is above its own same-colour neighbours."""
    around = [at(shape, (step[0] + y, step[1] + x)) for y, x in _SAME_8]
    excess: np.ndarray = at(shape, step) - np.median(around, axis=0)
    return excess


def _frame_features(
    plane: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    frames: Sequence[Frame],
    upwards: np.ndarray,
    sigma: np.ndarray,
) -> list[np.ndarray]:
    """Return how alike the suspect's deviation is in the frames; `sigma` of one, relative to it."""
    height, width = frames[0].size
    rows, columns = (
        np.clip(at[:, None] + np.array([-1, 0, 1]), 0, side - 1)
        for at, side in ((row, height), (column, width))
    )
    block = plane[:, None, None], rows[:, :, None], columns[:, None, :]
    deviations = []
    for frame in frames:
        samples = frame.samples.numpy()[block].astype(np.float32).reshape(-1, 9)
        black = np.array(frame.black, np.float32)[plane]
        scale = frame.gain / (frame.white - black)
        others = np.median(np.delete(samples, 4, axis=1), axis=1)
        deviations.append((samples[:, 4] - others) * scale * upwards)
    ordered = np.sort(deviations, axis=0)
    scatter = ordered.std(0)
    return [
        ordered[0],
        ordered[min(1, len(ordered) - 1)],
        scatter,
        _log(scatter / sigma),
        np.full(len(plane), np.log(len(frames))),
    ]
