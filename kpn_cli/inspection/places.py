"""Where to look at a burst: places that the user names, and telling ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..errors import KpnError
from ..image.bayer import RED_OFFSET
from ..image.orientation import sensor_position
from ..output.develop import developed_size
from ..raw.info import RawInfo
from .weight_maps import Maps

#: Side of the blocks among which telling places are picked, in samples of a map.
_BLOCK = 12
#: A frame that has this much more than its equal share is leaned on: of what it might have more.
_LEANED_ON = 0.25
#: Signals between which a plain surface is one, rather than black or clipped.
_DARK, _BRIGHT = 0.02, 0.8


@dataclass(frozen=True)
class Place:
    """A place in the picture.

    Attributes:
        x, y: pixel of the upright picture, from its top left.
        cell: row and column, as the sensor lies.
        why: it was picked: "plain", "detail" or "motion"; "" if the user named it.
    """

    x: int
    y: int
    cell: tuple[int, int]
    why: str = ""


def given(info: RawInfo, x: int, y: int) -> Place:
    """Return the place at a pixel of the upright picture.

    Raises:
        KpnError: if it is outside of the picture.
    """
    height, width = developed_size(info)
    if not (0 <= x < width and 0 <= y < height):
        raise KpnError(
            f"--at {x},{y}: outside of the picture, which has {width} x {height} pixels; give "
            f"0,0 to {width - 1},{height - 1}"
        )
    row, column = sensor_position(x, y, (info.height, info.width), info.orientation)
    top, left = RED_OFFSET[info.phase]
    return Place(x, y, ((row + top) // 2, (column + left) // 2))


def _of_map(info: RawInfo, maps: Maps, row: int, column: int) -> Place:
    """Return the place at a sample of the maps."""
    height, width = developed_size(info)
    pixels = 2 * maps.cells
    x, y = (
        min(int((index + 0.5) * pixels), side - 1)
        for index, side in ((column, width), (row, height))
    )
    return given(info, x, y)


def telling(info: RawInfo, maps: Maps) -> list[Place]:
    """Pick places: a plain one, one rich in detail and, if there is one, where something moves.

    That is where the picture varies least and most, against its noise, among the places where
    the network treats frames alike; and where it leans most on the reference. Away from the
    border, over which other frames don't reach.
    """
    grey = maps.clean.mean(0)
    ratio = np.hypot(_slope(grey, 1), _slope(grey, 0)) / np.maximum(maps.sigma, 1e-6)
    lean = _mean(maps.weights[0])
    equal = 1 / len(maps.weights)
    moves = lean > equal + _LEANED_ON * (1 - equal)
    detail = _mean(ratio)
    signal = _mean(grey)
    even = (signal > _DARK * grey.max()) & (signal < _BRIGHT)
    scores = {
        "plain": np.where(even & ~moves, -detail, -np.inf),
        "detail": np.where(moves, -np.inf, detail),
        "motion": np.where(moves & (len(maps.weights) > 1), lean, -np.inf),
    }
    found = []
    for why, score in scores.items():
        at = _highest(score)
        if at is not None:
            found.append(replace(_of_map(info, maps, *at), why=why))
    if not found:  # all of it black, say
        found.append(_of_map(info, maps, *(side // 2 for side in grey.shape)))
    return found


def _slope(grey: np.ndarray, axis: int) -> np.ndarray:
    return np.gradient(grey, axis=axis) if grey.shape[axis] > 1 else np.zeros_like(grey)


def _mean(values: np.ndarray) -> np.ndarray:
    return cv2.blur(np.ascontiguousarray(values, np.float32), (_BLOCK, _BLOCK))


def _highest(score: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the highest finite score away from the border."""
    score = score.copy()
    margins = [min(2 * _BLOCK, (side - 1) // 3) for side in score.shape]
    for axis, margin in enumerate(margins):
        turned = score.swapaxes(0, axis)
        turned[:margin] = turned[len(turned) - margin :] = -np.inf
    at = np.unravel_index(score.argmax(), score.shape)
    return (int(at[0]), int(at[1])) if np.isfinite(score[at]) else None
