"""A camera's list of defective pixels: found in flat frames, stored in its calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import KpnError
from ..raw.info import RawInfo

#: Largest share of a sensor's pixels that can be defective.
MAX_SHARE = 0.01
#: More rows or columns than any sensor has.
_MAX_SIDE = 1 << 20


@dataclass(frozen=True)
class DefectList:
    """Defective pixels of a sensor.

    Attributes:
        height, width: of the visible mosaic that they were found in, sensor pixels.
        rows, columns: of each pixel, from the origin of the whole frame, masked borders included.

    Raises:
        KpnError: if `rows` and `columns` differ in number, a pixel is beyond every sensor, or
            there are more than `MAX_SHARE` of the sensor's.
    """

    height: int
    width: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the pixels."""
        places = (*self.rows, *self.columns)
        if len(self.rows) != len(self.columns) or not all(0 <= at < _MAX_SIDE for at in places):
            raise KpnError("a list of defects needs a row and a column, 0 or more, for each")
        if len(self.rows) > MAX_SHARE * self.height * self.width:
            raise KpnError(f"it lists more than {100 * MAX_SHARE:g} % of the pixels as defective")

    def fits(self, info: RawInfo) -> bool:
        """Whether a file has the size of the mosaic that the defects were found in."""
        return (info.height, info.width) == (self.height, self.width)

    def in_file(self, info: RawInfo) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns in a file's visible mosaic; some may be outside of it.

        There are none where the file has another size than the calibration's: in other modes a
        camera bins or crops its sensor, and the pixels are others.
        """
        if not self.fits(info):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows, columns = np.array(self.rows, np.int64), np.array(self.columns, np.int64)
        return rows - info.origin[0], columns - info.origin[1]
