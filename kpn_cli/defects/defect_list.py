"""A camera's list of defective pixels: found in flat frames, stored in its calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import KpnError
from ..raw.info import RawInfo


@dataclass(frozen=True)
class DefectList:
    """Defective pixels of a sensor.

    Attributes:
        height, width: of the visible mosaic that they were found in, sensor pixels.
        rows, columns: of each pixel, from the origin of the whole frame, masked borders included.

    Raises:
        KpnError: if `rows` and `columns` differ in number or are negative.
    """

    height: int
    width: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the pixels."""
        if len(self.rows) != len(self.columns) or min((*self.rows, *self.columns), default=0) < 0:
            raise KpnError("a list of defects needs a row and a column of 0 or more for each")

    def in_file(self, info: RawInfo) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns in a file's visible mosaic; some may be outside of it.

        There are none where the file has another size than the calibration's: in other modes a
        camera bins or crops its sensor, and the pixels are others.
        """
        if (info.height, info.width) != (self.height, self.width):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows, columns = np.array(self.rows, np.int64), np.array(self.columns, np.int64)
        return rows - info.origin[0], columns - info.origin[1]
