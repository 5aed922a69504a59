"""Finds and repairs defects: those that files mark, the camera's list, and what a burst shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..burst.frame import Frame
from ..image.bayer import RED_OFFSET
from ..image.noise_model import NoiseModel
from ..raw.info import RawInfo
from . import classifier, features
from .lines import Line, find_lines
from .mean_frame import averaged_frames, mean_frame
from .prediction import CHUNK, Prediction, window_index
from .repaired import Repaired

#: Where nothing moves, point lights may look like hot samples. If there are more of them than this
#: share of the samples, more than sensors have, they are spared.
_MAX_SHARE_WHERE_STILL = 6e-4
#: Side of the part in the middle of a picture that shows whether the scene moves, in cells.
_MIDDLE = 256
#: Searches of a picture: a defect hides its defective neighbour until it is repaired.
_SEARCHES = 3
#: Distance in cells within which one defect hides another.
_HIDES = 3


def plane_sites(info: RawInfo, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return where pixels of a mosaic are in its planes.

    Args:
        info: of the file.
        rows, columns: `(count,)`, in the visible mosaic; those outside are left out.

    Returns:
        `(3, sites)` int64: plane, row and column, in cells.
    """
    inside = (rows >= 0) & (rows < info.height) & (columns >= 0) & (columns < info.width)
    top, left = RED_OFFSET[info.phase]
    y, x = rows[inside] + top, columns[inside] + left
    return np.stack([y % 2 * 2 + x % 2, y // 2, x // 2]).astype(np.int64)


def repair_burst(
    frames: Sequence[Frame],
    noise: NoiseModel,
    *,
    marked: Sequence[np.ndarray] = (),
    listed: np.ndarray | None = None,
    find: bool = True,
) -> Repaired:
    """Replace the defective samples of a burst, in place.

    Args:
        frames: of one burst and exposure, in sensor coordinates, on the CPU.
        noise: of one frame; roughly is enough.
        marked: of each frame, `(3, sites)` that its file marks.
        listed: `(3, sites)` of the camera's list; None without one.
        find: whether to look for other defects.
    """
    noise = _with_rounding(noise, frames[0])
    none = np.empty((3, 0), np.int64)
    listed = none if listed is None else listed
    for frame, sites in zip(frames, marked or [none] * len(frames), strict=True):
        fill(frame, np.concatenate([sites, listed], axis=1), noise)
    # Copies of a frame are marked alike; the first one's marks are counted.
    counts = {"marked": max((s.shape[1] for s in marked), default=0), "listed": listed.shape[1]}
    if not find:
        return Repaired(**counts)
    mean = mean_frame(frames)
    still = _stands_still(frames, mean, noise)
    lines = find_lines(mean, noise, averaged_frames(len(frames)), still=still)
    _correct_lines(frames, mean, lines, noise)
    found = _find_sites(frames, mean, noise, still)
    for frame in frames:
        fill(frame, found, noise)
    columns = sum(line.vertical for line in lines)
    return Repaired(**counts, found=found.shape[1], columns=columns, rows=len(lines) - columns)


def _with_rounding(noise: NoiseModel, frame: Frame) -> NoiseModel:
    """Return a noise model with what rounding adds: some files state a read noise of 0."""
    r, g1, g2, b = (
        read + 1 / (12 * max(frame.white - black, 1.0) ** 2)
        if frame.white > 1
        else max(read, 1e-12)
        for read, black in zip(noise.read, frame.black, strict=True)
    )
    return NoiseModel(noise.shot, (r, g1, g2, b))


# --- finding ----------------------------------------------------------------


def _stands_still(frames: Sequence[Frame], mean: np.ndarray, noise: NoiseModel) -> bool:
    """Whether the scene stands still, by the detail in the middle of the picture."""
    middle = tuple(
        slice(max(side - _MIDDLE, 0) // 2, (side + min(_MIDDLE, side)) // 2)
        for side in frames[0].size
    )
    cut = [
        replace(frame, samples=frame.samples[:, middle[0], middle[1]].contiguous())
        for frame in frames
    ]
    part = np.ascontiguousarray(mean[:, middle[0], middle[1]])
    suspects = features.find_suspects(part, noise, len(frames))
    return features.is_still(features.suspect_features(suspects, suspects, part, cut, noise))


def _find_sites(
    frames: Sequence[Frame], mean: np.ndarray, noise: NoiseModel, still: bool
) -> np.ndarray:
    """Return the defective samples that a burst shows, `(3, sites)`; fills them in its mean."""
    judge = classifier.bundled()
    suspects = features.find_suspects(mean, noise, len(frames))
    values = features.suspect_features(suspects, suspects, mean, frames, noise)
    context = features.context_of(values, suspects.shape[1], mean.size)

    def log_ratio(values: np.ndarray) -> np.ndarray:
        ratio = judge.log_ratio(features.with_context(values, context))
        if still:  # stars stand still too
            ratio[features.is_spot(values)] = -np.inf
        return ratio

    ratio = log_ratio(values)
    mixture = classifier.Mixture.of(ratio, mean.size)
    spare_bright = still and mixture.defects > _MAX_SHARE_WHERE_STILL * mean.size
    found = [np.empty((3, 0), np.int64)]
    ahead = suspects
    for _ in range(_SEARCHES):
        taken = mixture.are_defects(ratio, still=still, frames=len(frames))
        if spare_bright:
            taken &= ~features.is_bright(values)
        if not taken.any():
            break
        found.append(ahead[:, taken])
        fill(Frame.of_planes(mean), found[-1], noise)
        ahead = _near(ahead[:, ~taken], found[-1], mean.shape)
        values = features.suspect_features(ahead, suspects, mean, frames, noise)
        ratio = log_ratio(values)
    return np.concatenate(found, axis=1)


def _near(sites: np.ndarray, others: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the sites that are within `_HIDES` cells of others."""
    near = np.zeros(shape[1:], bool)
    steps = np.arange(-_HIDES, _HIDES + 1)
    rows, columns = ((others[axis][:, None] + steps).clip(0, shape[axis] - 1) for axis in (1, 2))
    near[rows[:, :, None], columns[:, None, :]] = True
    return sites[:, near[sites[1], sites[2]]]


# --- repairing --------------------------------------------------------------


def fill(frame: Frame, sites: np.ndarray, noise: NoiseModel) -> None:
    """Replace samples of a frame by predictions from their neighbours, in place.

    Args:
        frame: on the CPU.
        sites: `(3, count)`: plane, row and column, in cells.
        noise: of the frame.
    """
    if not sites.shape[1]:
        return
    samples = frame.samples.numpy()
    bad = np.zeros(samples.shape, bool)
    bad[tuple(sites)] = True
    sites = np.stack(np.nonzero(bad))
    _fill_roughly(samples, sites, bad)
    black = np.array(frame.black, np.float32)
    scale = (np.float32(frame.white) - black) / np.float32(frame.gain)
    # From the samples as they are now: the order of the sites must not matter.
    predicted = np.empty(sites.shape[1], np.float32)
    for start in range(0, sites.shape[1], CHUNK):
        chunk = slice(start, start + CHUNK)
        index = window_index(sites[:, chunk], frame.size)
        windows = samples[index].astype(np.float32)
        windows -= black[index[0]]
        windows /= scale[index[0]]
        plane = sites[0, chunk]
        level = windows.mean((1, 2)).clip(0)
        shot, read = (np.array(v, np.float32)[plane] for v in (noise.shot, noise.read))
        variance = (shot * level + read) * np.float32(frame.gain)
        values = Prediction(windows, variance, usable=~bad[index]).values
        predicted[chunk] = values * scale[plane] + black[plane]
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        predicted = np.rint(predicted).clip(limits.min, limits.max)
    samples[tuple(sites)] = predicted.astype(samples.dtype)


def _fill_roughly(samples: np.ndarray, sites: np.ndarray, bad: np.ndarray) -> None:
    """Replace samples by the mean of the usable ones around them, from the edges of clusters in."""
    _, height, width = samples.shape
    unusable = bad.copy()
    plane, row, column = sites
    while len(plane):
        rows, columns = (
            np.clip(at[:, None] + np.array([-1, 0, 1]), 0, side - 1)
            for at, side in ((row, height), (column, width))
        )
        around = plane[:, None, None], rows[:, :, None], columns[:, None, :]
        weight = ~unusable[around]
        count = weight.sum((1, 2))
        ready = count > 0
        if not ready.any():  # nothing but defects
            return
        mean = (samples[around] * weight).sum((1, 2))[ready] / count[ready]
        if np.issubdtype(samples.dtype, np.integer):
            mean = np.rint(mean)
        done = plane[ready], row[ready], column[ready]
        samples[done] = mean.astype(samples.dtype)
        unusable[done] = False
        plane, row, column = plane[~ready], row[~ready], column[~ready]


def _correct_lines(
    frames: Sequence[Frame], mean: np.ndarray, lines: Sequence[Line], noise: NoiseModel
) -> None:
    """Subtract the offsets of lines in frames and their mean; replace the samples of dead ones."""
    if not lines:
        return
    dead = np.zeros(mean.shape, bool)
    for line in lines:
        for plane, offset in zip(line.planes, line.offsets, strict=True):
            part = line.part(plane)
            if line.dead:
                dead[part] = True
                continue
            mean[part] -= np.float32(offset)
            for frame in frames:
                _subtract(frame, plane, part, offset)
    sites = np.stack(np.nonzero(dead))
    for frame in (*frames, Frame.of_planes(mean)):
        fill(frame, sites, noise)


def _subtract(frame: Frame, plane: int, part: tuple[int | slice, ...], offset: float) -> None:
    """Subtract a linear offset from samples, except from saturated ones."""
    samples = frame.samples.numpy()
    values = samples[part].astype(np.float32)
    corrected = values - np.float32(offset * (frame.white - frame.black[plane]) / frame.gain)
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        corrected = np.rint(corrected).clip(limits.min, limits.max)
    samples[part] = np.where(values >= frame.white, values, corrected).astype(samples.dtype)
