"""Exif's orientation (tag 274): from rows and columns of the sensor to the upright picture."""

from __future__ import annotations

import numpy as np

#: Orientations that exchange rows and columns; that then reverse the order of the rows; that
#: reverse the order of the columns.
TRANSPOSED, FLIPPED, MIRRORED = {5, 6, 7, 8}, {3, 4, 7, 8}, {2, 3, 6, 7}


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Return a sensor picture `(rows, columns, ...)` upright, given its orientation, 1 to 8."""
    if orientation in TRANSPOSED:
        picture = picture.swapaxes(0, 1)
    if orientation in FLIPPED:
        picture = picture[::-1]
    return np.ascontiguousarray(picture[:, ::-1] if orientation in MIRRORED else picture)


def upright_vectors(vectors: np.ndarray, orientation: int) -> np.ndarray:
    """Return a vector field upright: its samples change places and its vectors direction.

    Args:
        vectors: `(rows, columns, 2)`, each a (row, column) displacement on the sensor.
        orientation: 1 to 8.
    """
    signs = [
        -1 if orientation in FLIPPED else 1,
        -1 if orientation in MIRRORED else 1,
    ]
    turned = vectors[..., ::-1] if orientation in TRANSPOSED else vectors
    result: np.ndarray = upright(turned, orientation) * np.array(signs, vectors.dtype)
    return result


def sensor_position(x: int, y: int, size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return row and column on the sensor of a pixel of the upright picture.

    Args:
        x, y: column and row in the upright picture, from its top left.
        size: rows and columns of the sensor's picture.
        orientation: 1 to 8.
    """
    rows, columns = size[::-1] if orientation in TRANSPOSED else size
    row = rows - 1 - y if orientation in FLIPPED else y
    column = columns - 1 - x if orientation in MIRRORED else x
    return (column, row) if orientation in TRANSPOSED else (row, column)


def upright_position(
    row: int, column: int, size: tuple[int, int], orientation: int
) -> tuple[int, int]:
    """Return x and y in the upright picture of a pixel on the sensor.

    The inverse of `sensor_position`.
    """
    turned = orientation in TRANSPOSED
    rows, columns = size[::-1] if turned else size
    y, x = (column, row) if turned else (row, column)
    return (
        columns - 1 - x if orientation in MIRRORED else x,
        rows - 1 - y if orientation in FLIPPED else y,
    )
