"""Exif's orientation (tag 274): between the sensor's rows and columns and the upright picture."""

from __future__ import annotations

import numpy as np

#: Orientations whose rows are the sensor's columns; those in which the first row becomes the
#: last; and those in which the first column does.
TURNED, BACKWARDS, MIRRORED = {5, 6, 7, 8}, {3, 4, 7, 8}, {2, 3, 6, 7}


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a picture `(rows, columns, ...)` as its orientation, 1 to 8, says."""
    if orientation in TURNED:
        picture = picture.swapaxes(0, 1)
    if orientation in BACKWARDS:
        picture = picture[::-1]
    return np.ascontiguousarray(picture[:, ::-1] if orientation in MIRRORED else picture)


def upright_vectors(vectors: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a field of vectors `(rows, columns, 2)`, (row, column), and the vectors with it."""
    signs = [
        -1 if orientation in BACKWARDS else 1,
        -1 if orientation in MIRRORED else 1,
    ]
    turned = vectors[..., ::-1] if orientation in TURNED else vectors
    return upright(turned, orientation) * np.array(signs, vectors.dtype)


def sensor_place(x: int, y: int, size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return row and column on the sensor of a place of the upright picture.

    Args:
        x, y: to the right and down, from the upright picture's top left.
        size: rows and columns of the sensor's picture.
        orientation: Exif's.
    """
    rows, columns = size[::-1] if orientation in TURNED else size
    row = rows - 1 - y if orientation in BACKWARDS else y
    column = columns - 1 - x if orientation in MIRRORED else x
    return (column, row) if orientation in TURNED else (row, column)


def upright_place(
    row: int, column: int, size: tuple[int, int], orientation: int
) -> tuple[int, int]:
    """Return x and y in the upright picture of a place on the sensor; undoes `sensor_place`."""
    turned = orientation in TURNED
    rows, columns = size[::-1] if turned else size
    y, x = (column, row) if turned else (row, column)
    return (
        columns - 1 - x if orientation in MIRRORED else x,
        rows - 1 - y if orientation in BACKWARDS else y,
    )
