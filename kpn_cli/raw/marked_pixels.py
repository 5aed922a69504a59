"""Pixels that a file marks as defective, for readers to replace them.

DNG specification 1.7.1, chapter 7: in OpcodeList1 (tag 51008), FixBadPixelsConstant (opcode 4)
marks pixels by a value, and FixBadPixelsList (opcode 5) by their places, pixels and rectangles,
counted from the first pixel of the stored image. Panasonic's RW2 marks them by 0, as dcraw and
LibRaw know (`zero_is_bad`); in makers' formats whose black level is too high for noise to reach 0,
this is no measurement either.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .tags import Metadata, Tag

_BAD_PIXELS_CONSTANT, _BAD_PIXELS_LIST = 4, 5
#: Makers whose files mark defects by 0.
_ZERO_IS_MARK = ("panasonic", "leica", "yuneec")
#: Black level in DN from which on no sensor's noise reaches 0.
_HIGH_BLACK = 128.0
#: Largest share of the pixels that marks can be believed for, and most values that mark them.
_MAX_SHARE, _MAX_CONSTANTS = 0.01, 8

#: Rows and columns of pixels in the visible area, `(2, count)` int64.
Places = np.ndarray


@dataclass(frozen=True)
class Marks:
    """The pixels that a file marks as defective.

    Attributes:
        places: `(2, count)`: their rows and columns in the mosaic, each once.
        notes: a line for each mark that was ignored.
        ignored: which opcodes of OpcodeList1, from 0, are valid FixBadPixelsLists that were
            ignored: other programs may follow them.
    """

    places: Places
    notes: tuple[str, ...]
    ignored: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Opcodes:
    """What OpcodeList1 marks: values, and rectangles (top, left, bottom, right) by opcode."""

    values: tuple[int, ...]
    areas: dict[int, np.ndarray]


def marked_pixels(
    metadata: Metadata, mosaic: np.ndarray, origin: tuple[int, int], black: float
) -> Marks:
    """Return the pixels that a file marks as defective; each opcode is judged on its own.

    Args:
        metadata: of the file.
        mosaic: `(height, width)`, visible, as recorded, DN.
        origin: row and column of its first pixel in the stored image.
        black: lowest black level, DN.
    """
    notes: list[str] = []
    ignored: list[int] = []
    marked = np.zeros(mosaic.shape, bool)
    if metadata.is_dng:
        opcodes = _opcodes(metadata.raw_blob(Tag.OPCODE_LIST_1), notes)
        for constant in opcodes.values:
            value = _decoded(metadata, constant)
            if value is None:
                notes.append(
                    f"FixBadPixelsConstant marks pixels by {constant}, which LinearizationTable "
                    "maps to the value of others: ignored"
                )
                continue
            _mark(marked, mosaic == value, f"FixBadPixelsConstant ({constant})", notes)
        areas = {n: area - np.tile(origin, 2) for n, area in opcodes.areas.items()}
        ignored = _mark_areas(marked, areas, notes)
    elif black >= _HIGH_BLACK or (
        black > 0 and metadata.text(Tag.MAKE).lower().startswith(_ZERO_IS_MARK)
    ):
        _mark(marked, mosaic == 0, "the value 0", notes)
    # The search takes a third of the time of reading a file, and most mark nothing.
    places = np.stack(np.nonzero(marked)) if marked.any() else np.empty((2, 0), np.int64)
    return Marks(places, tuple(dict.fromkeys(notes)), tuple(ignored))


def _mark(marked: np.ndarray, found: np.ndarray, by: str, notes: list[str]) -> None:
    """Add pixels to the marked ones, unless there are too many to be defects."""
    if np.count_nonzero(found) > _MAX_SHARE * found.size:
        notes.append(_too_many(by))
    else:
        marked |= found


def _mark_areas(marked: np.ndarray, areas: dict[int, np.ndarray], notes: list[str]) -> list[int]:
    """Add rectangles to the marked pixels, by the origin of the mosaic; return ignored opcodes.

    Args:
        marked: the marked pixels.
        areas: opcode -> `(rectangles, 4)`.
        notes: for lines about what is ignored.
    """
    ignored = []
    left_over = _MAX_SHARE * marked.size
    for opcode, rectangles in areas.items():
        inside = rectangles.clip(0, np.tile(marked.shape, 2))
        sizes = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
        # Before they are drawn: a small file may hold thousands as large as the picture.
        if sizes.sum() > left_over:
            notes.append(_too_many("FixBadPixelsList"))
            ignored.append(opcode)
            continue
        left_over -= sizes.sum()
        for top, left, bottom, right in inside[sizes > 0]:
            marked[top:bottom, left:right] = True
    return ignored


def _too_many(by: str) -> str:
    return f"{by} marks more than {100 * _MAX_SHARE:g} % of the pixels as defective: ignored"


def _opcodes(data: bytes, notes: list[str]) -> _Opcodes:
    """Return the marks of an opcode list, and notes on what is damaged.

    Nothing in a list whose opcodes have no clear ends is believed.
    """
    try:
        opcodes = list(_each_opcode(data))
    except struct.error:
        notes.append("OpcodeList1 is damaged: the pixels it marks are not repaired")
        return _Opcodes((), {})
    values: set[int] = set()
    areas = {}
    for place, (number, parameters) in enumerate(opcodes):
        try:
            if number == _BAD_PIXELS_CONSTANT:
                values.add(struct.unpack(">LL", parameters)[0])
            elif number == _BAD_PIXELS_LIST:
                areas[place] = _rectangles(parameters)
        except (struct.error, ValueError):
            name = "Constant" if number == _BAD_PIXELS_CONSTANT else "List"
            notes.append(f"FixBadPixels{name} is damaged: the pixels it marks are not repaired")
    if len(values) > _MAX_CONSTANTS:
        notes.append(f"FixBadPixelsConstant marks pixels by {len(values)} values: ignored")
        values.clear()
    return _Opcodes(tuple(sorted(values)), areas)


def _rectangles(parameters: bytes) -> np.ndarray:
    """Return the points and rectangles of a FixBadPixelsList, `(count, 4)` int64.

    Raises:
        struct.error, ValueError: if it is damaged.
    """
    _, points, rectangles = struct.unpack(">LLL", parameters[:12])
    if len(parameters) != 12 + 8 * points + 16 * rectangles:
        raise ValueError
    numbers = np.frombuffer(parameters[12:], ">u4").astype(np.int64)
    pairs = numbers[: 2 * points].reshape(-1, 2)
    corners = numbers[2 * points :].reshape(-1, 4)
    if (corners[:, :2] > corners[:, 2:]).any():
        raise ValueError
    return np.concatenate([np.hstack([pairs, pairs + 1]), corners])


def _each_opcode(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and parameters of each opcode.

    Raises:
        struct.error: if the list ends too early.
    """
    if not data:
        return
    (count,) = struct.unpack(">L", data[:4])
    at = 4
    for _ in range(count):
        number, length = struct.unpack(">L8xL", data[at : at + 16])
        parameters = data[at + 16 : at + 16 + length]
        if len(parameters) != length:
            raise struct.error
        yield number, parameters
        at += 16 + length


def _decoded(metadata: Metadata, stored: int) -> int | None:
    """Return what a stored value is after LinearizationTable (tag 50712); None if others are too.

    LibRaw's samples are those after the table; a value beyond its end is like its last one.
    """
    table = metadata.raw_integers(Tag.LINEARIZATION_TABLE)
    if not table:
        return stored
    if stored >= len(table):  # it has the value of the last one
        return None
    return table[stored] if table.count(table[stored]) == 1 else None
