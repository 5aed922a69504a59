"""Points of interest of a burst: the pixels that the user names, or ones picked from the maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..errors import KpnError
from ..image.bayer import RED_OFFSET
from ..image.orientation import sensor_position
from ..output.develop import developed_size
from ..raw.info import RawInfo
from .weight_maps import PictureMaps

#: Side of the blocks that points are picked from, in samples of a map.
_BLOCK = 12
#: Something moves where the reference's weight is above an equal share by more than this part
#: of what is possible.
_MOTION_ONSET = 0.25
#: A plain surface is brighter than this, relative to the brightest sample, and darker than this:
#: neither black nor clipped.
_DARK, _BRIGHT = 0.02, 0.8


@dataclass(frozen=True)
class Point:
    """A point of interest.

    Attributes:
        x, y: pixel of the upright picture, from its top left.
        cell: row and column of its cell on the sensor.
        why: reason to pick it: "plain", "detail" or "motion"; "" if the user named it.
    """

    x: int
    y: int
    cell: tuple[int, int]
    why: str = ""


def point_at_pixel(info: RawInfo, x: int, y: int) -> Point:
    """Return the point at a pixel of the upright picture.

    Raises:
        KpnError: if the pixel is outside the picture.
    """
    height, width = developed_size(info)
    if not (0 <= x < width and 0 <= y < height):
        raise KpnError(
            f"--at {x},{y}: outside the picture, which has {width} x {height} pixels; give "
            f"0,0 to {width - 1},{height - 1}"
        )
    row, column = sensor_position(x, y, (info.height, info.width), info.orientation)
    top, left = RED_OFFSET[info.phase]
    return Point(x, y, ((row + top) // 2, (column + left) // 2))


def _point_at_sample(info: RawInfo, maps: PictureMaps, row: int, column: int) -> Point:
    """Return the point at the middle of a sample of the maps."""
    height, width = developed_size(info)
    pixels = 2 * maps.cells
    x, y = (
        min(int((index + 0.5) * pixels), side - 1)
        for index, side in ((column, width), (row, height))
    )
    return point_at_pixel(info, x, y)


def points_of_interest(info: RawInfo, maps: PictureMaps) -> list[Point]:
    """Pick a plain surface, a spot rich in detail and, if there is one, a spot with motion.

    Plain surface and detail: lowest and highest gradient over noise, where the network gives the
    frames similar weights. Motion: highest weight of the reference. All away from the border,
    which other frames may not cover.

    Returns:
        One to three points; the middle of the picture if none qualifies.
    """
    grey = maps.clean.mean(0)
    gradient_to_noise = np.hypot(_slope(grey, 1), _slope(grey, 0)) / np.maximum(maps.sigma, 1e-6)
    reference_weight = _block_mean(maps.weights[0])
    equal_share = 1 / len(maps.weights)
    moves = reference_weight > equal_share + _MOTION_ONSET * (1 - equal_share)
    detail = _block_mean(gradient_to_noise)
    signal = _block_mean(grey)
    mid_tone = (signal > _DARK * grey.max()) & (signal < _BRIGHT)
    scores = {
        "plain": np.where(mid_tone & ~moves, -detail, -np.inf),
        "detail": np.where(moves, -np.inf, detail),
        "motion": np.where(moves & (len(maps.weights) > 1), reference_weight, -np.inf),
    }
    picked = []
    for why, score in scores.items():
        sample = _highest(score)
        if sample is not None:
            picked.append(replace(_point_at_sample(info, maps, *sample), why=why))
    if not picked:  # an all-black picture, for example
        rows, columns = grey.shape
        picked.append(_point_at_sample(info, maps, rows // 2, columns // 2))
    return picked


def _slope(grey: np.ndarray, axis: int) -> np.ndarray:
    return np.gradient(grey, axis=axis) if grey.shape[axis] > 1 else np.zeros_like(grey)


def _block_mean(values: np.ndarray) -> np.ndarray:
    return cv2.blur(np.ascontiguousarray(values, np.float32), (_BLOCK, _BLOCK))


def _highest(score: np.ndarray) -> tuple[int, int] | None:
    """Return row and column of the highest finite score away from the border."""
    score = score.copy()
    margins = [min(2 * _BLOCK, (side - 1) // 3) for side in score.shape]
    for axis, margin in enumerate(margins):
        lines = score.swapaxes(0, axis)
        lines[:margin] = lines[len(lines) - margin :] = -np.inf
    row, column = (int(index) for index in np.unravel_index(score.argmax(), score.shape))
    return (row, column) if np.isfinite(score[row, column]) else None
