"""Bayer mosaic <-> four half-size colour planes.

The planes are always in the order R, G1, G2, B, where G1 is the green of the red
rows and G2 the green of the blue rows, whatever the CFA phase of the sensor.
One sample of a plane is one *cell*: a 2x2 block of the mosaic whose top left
pixel is red.
"""

from __future__ import annotations

import numpy as np

from ..errors import KpnError

#: Row and column of the red pixel for each CFA phase, named by the 2x2 block at
#: the mosaic's origin, read row by row.
RED_OFFSET: dict[str, tuple[int, int]] = {
    "RGGB": (0, 0),
    "GRBG": (0, 1),
    "GBRG": (1, 0),
    "BGGR": (1, 1),
}

PHASES = tuple(RED_OFFSET)

#: Row and column of R, G1, G2, B inside a cell.
_CELL = ((0, 0), (0, 1), (1, 0), (1, 1))


def _red_offset(phase: str) -> tuple[int, int]:
    try:
        return RED_OFFSET[phase]
    except KeyError:
        raise KpnError(
            f"unknown CFA phase {phase!r}: expected one of {', '.join(PHASES)}"
        ) from None


def pack(mosaic: np.ndarray, phase: str) -> np.ndarray:
    """Return the planes of a mosaic.

    Where the mosaic does not begin with a red pixel or does not end with a whole
    cell, it is extended by a pixel, mirrored about the border pixel; so every
    sample keeps the colour of its filter.

    Args:
        mosaic: `(height, width)`, any dtype, both at least 2.
        phase: one of `PHASES`.

    Returns:
        `(4, cell_rows, cell_columns)`, same dtype, a copy.

    Raises:
        KpnError: for an unknown phase or a mosaic smaller than a cell.
    """
    top, left = _red_offset(phase)
    height, width = mosaic.shape
    if height < 2 or width < 2:
        raise KpnError(f"a mosaic of {width}x{height} pixels is too small: at least 2x2 is needed")
    padding = ((top, (top + height) % 2), (left, (left + width) % 2))
    padded = np.pad(mosaic, padding, mode="reflect") if np.any(padding) else mosaic
    return np.stack([padded[row::2, column::2] for row, column in _CELL])


def unpack(planes: np.ndarray, phase: str, height: int, width: int) -> np.ndarray:
    """Return the mosaic whose `pack(mosaic, phase)` is `planes`.

    Args:
        planes: `(4, cell_rows, cell_columns)` in the order R, G1, G2, B.
        phase: CFA phase of the mosaic, one of `PHASES`.
        height, width: size of the mosaic in pixels.

    Returns:
        `(height, width)`, same dtype.
    """
    top, left = _red_offset(phase)
    _, rows, columns = planes.shape
    padded = np.empty((2 * rows, 2 * columns), planes.dtype)
    for plane, (row, column) in zip(planes, _CELL, strict=True):
        padded[row::2, column::2] = plane
    return padded[top : top + height, left : left + width]


def plane_order(phase: str) -> tuple[int, int, int, int]:
    """Return the plane (0-3 for R, G1, G2, B) of each pixel of the mosaic's first 2x2 block.

    Row by row from the mosaic's origin: `plane_order("BGGR") == (3, 2, 1, 0)`.

    Raises:
        KpnError: for an unknown phase.
    """
    top, left = _red_offset(phase)
    a, b, c, d = (2 * ((row + top) % 2) + (column + left) % 2 for row, column in _CELL)
    return a, b, c, d
