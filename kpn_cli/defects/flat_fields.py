"""Finds defective pixels in flat and dark frames, for a camera's list.

An even surface shows a defect more clearly than any scene: it deviates from its neighbours, in
every frame of an exposure, by more than noise and the pixels' usual differences together.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..image.bayer import RED_OFFSET
from ..raw.info import RawInfo
from .defect_list import DefectList

#: Sigmas, of the scatter of pixels around their neighbours, by which a defect deviates in each
#: frame; with two frames, no noise does.
_SIGMAS = 5.0
#: Smallest deviation of a hot pixel over white, and of a dead one over the signal around it.
_HOT, _DEAD = 0.002, 0.2
#: Signals below this, over white, are dark: nothing is dead there.
_DARK = 0.01
#: If more than this share of the pixels deviates, the surface is not even: sensors have fewer
#: defects.
_EVEN_SHARE = 0.003
_MAD_TO_SIGMA = 1.4826


class FlatDefects:
    """Collects the defects of one exposure after another."""

    def __init__(self) -> None:
        """Begin without any."""
        self._found: np.ndarray | None = None
        self._info: RawInfo | None = None
        self._lowest: np.ndarray | None = None
        self._highest: np.ndarray | None = None
        self._frames = 0

    def add(self, info: RawInfo, planes: np.ndarray) -> None:
        """Add a frame of the present exposure.

        Args:
            info: of its file.
            planes: `(4, height, width)` float32, linear.
        """
        if self._info is None:
            self._info = info
        if _sensor(info) != _sensor(self._info):
            return
        deviation = np.stack([_deviation(plane) for plane in planes])
        if self._lowest is None or self._highest is None:
            self._lowest, self._highest = deviation, deviation.copy()
        else:
            np.minimum(self._lowest, deviation, out=self._lowest)
            np.maximum(self._highest, deviation, out=self._highest)
        self._frames += 1

    def end_exposure(self) -> None:
        """Decide about the frames since the last exposure ended."""
        if self._lowest is not None and self._highest is not None and self._frames > 1:
            found = (self._lowest > 1) | (self._highest < -1)
            self._found = found if self._found is None else self._found | found
        self._lowest = self._highest = None
        self._frames = 0

    def result(self) -> DefectList | None:
        """Return the defects of all exposures; None if the frames were too few or not even."""
        if self._found is None or self._info is None:
            return None
        info = self._info
        plane, row, column = np.nonzero(self._found)
        top, left = RED_OFFSET[info.phase]
        rows, columns = 2 * row + plane // 2 - top, 2 * column + plane % 2 - left
        # The planes' borders mirror pixels that are in them already.
        inside = (rows >= 0) & (rows < info.height) & (columns >= 0) & (columns < info.width)
        rows, columns = rows[inside] + info.origin[0], columns[inside] + info.origin[1]
        if len(rows) > _EVEN_SHARE * info.height * info.width:
            return None
        order = np.lexsort((columns, rows))
        return DefectList(
            info.height, info.width, tuple(rows[order].tolist()), tuple(columns[order].tolist())
        )


def _sensor(info: RawInfo) -> tuple[object, ...]:
    return info.height, info.width, info.phase, info.origin


def _deviation(plane: np.ndarray) -> np.ndarray:
    """Return how far samples are from their neighbours: beyond -1 and 1 they are defects."""
    usual = cv2.medianBlur(np.ascontiguousarray(plane, np.float32), 5)
    deviation: np.ndarray = plane - usual
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(deviation[::3, ::3])))
    hot = np.float32(max(_SIGMAS * sigma, _HOT))
    dead = np.where(usual > _DARK, np.maximum(_SIGMAS * sigma, _DEAD * usual), np.float32(np.inf))
    relative: np.ndarray = deviation / np.where(deviation > 0, hot, dead).astype(np.float32)
    return relative
