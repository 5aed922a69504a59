"""A developed picture at a smaller size, in sRGB of 8 bits, from bands of it.

Each pixel is the mean light of the area that it covers, so fine patterns become even tones, neither
darker than they are nor moiré. Columns are reduced band by band, rows at the end; so the memory is
that of a picture with fewer columns.
"""

from __future__ import annotations

import cv2
import numpy as np

from .develop import to_srgb8


class Reduced:
    """Collects the bands of a picture and reduces them."""

    def __init__(self, size: tuple[int, int], reduced: tuple[int, int]) -> None:
        """Begin a picture.

        Args:
            size: rows and columns of the developed picture.
            reduced: those of the result; equal to `size` for the picture as it is.
        """
        self._whole = size == reduced
        self._rows, self._columns = reduced
        self._bands: list[np.ndarray] = []

    def add(self, rgb: np.ndarray) -> None:
        """Add the next rows, `(rows, columns, 3)` uint16, linear light."""
        if self._whole:
            self._bands.append(to_srgb8(rgb))
        else:
            self._bands.append(_resized(rgb, len(rgb), self._columns))

    def picture(self) -> np.ndarray:
        """Return the result, `(rows, columns, 3)` uint8, sRGB."""
        picture = np.concatenate(self._bands)
        return picture if self._whole else to_srgb8(_resized(picture, self._rows, self._columns))


def _resized(rgb: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return a picture of fewer rows or columns by the mean of the areas."""
    return cv2.resize(np.ascontiguousarray(rgb), (columns, rows), interpolation=cv2.INTER_AREA)
