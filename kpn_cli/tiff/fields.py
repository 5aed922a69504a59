"""TIFF fields and directories as values, and a function to make a field of each type.

TIFF 6.0 (Adobe, 1992), sections 2 and 8: an image file directory (IFD) is a list of fields; a
field has a tag (its number), a type, a count and values.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _SRATIONAL, _DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12

#: Type -> (bytes of a number, numbers of a value). UNDEFINED (7) has bytes of unknown meaning,
#: which are never swapped. 129 is Exif 3.0's UTF-8.
TYPE_LAYOUT = {1: (1, 1), 2: (1, 1), 3: (2, 1), 4: (4, 1), 5: (4, 2), 6: (1, 1), 7: (1, 1),
               8: (2, 1), 9: (4, 1), 10: (4, 2), 11: (4, 1), 12: (8, 1), 13: (4, 1),
               129: (1, 1)}  # fmt: skip
#: Largest denominator of a rational: keeps 1/60 s as 1/60, and six digits of anything.
_MAX_DENOMINATOR = 1_000_000


@dataclass(frozen=True)
class Field:
    """One entry of a directory.

    Attributes:
        code: its tag, a number.
        kind: TIFF type of its values, a key of `TYPE_LAYOUT`.
        count: number of values.
        data: the values as little-endian bytes; `Ifds` or `Segments` where the field points
            to these.
        offset: where the values should be in the file, if possible; None for anywhere.
    """

    code: int
    kind: int
    count: int
    data: bytes | Ifds | Segments
    offset: int | None = None


Ifd = tuple[Field, ...]


@dataclass(frozen=True)
class Ifds:
    """The directories that a field points to."""

    ifds: tuple[Ifd, ...]

    def __len__(self) -> int:
        return len(self.ifds)


@dataclass(frozen=True)
class Segments:
    """The strips or tiles of an image that a field points to, as bytes."""

    segments: tuple[bytes | memoryview, ...]

    def __len__(self) -> int:
        return len(self.segments)


def swapped(data: bytes, kind: int) -> bytes:
    """Return values of a TIFF type in the other byte order."""
    size, _ = TYPE_LAYOUT[kind]
    if size == 1:
        return data
    if len(data) == size:  # the usual case, and faster than an array
        return data[::-1]
    values: np.ndarray = np.frombuffer(data, f"<u{size}").byteswap()
    return values.tobytes()


def ascii_field(code: int, text: str) -> Field:
    """Return a field of text; non-ASCII characters become question marks (TIFF has 7 bits)."""
    data = text.encode("ascii", "replace") + b"\0"
    return Field(code, _ASCII, len(data), data)


def byte_field(code: int, data: bytes) -> Field:
    """Return a field of unsigned bytes."""
    return Field(code, _BYTE, len(data), data)


def undefined_field(code: int, data: bytes) -> Field:
    """Return a field of bytes whose meaning the tag defines."""
    return Field(code, _UNDEFINED, len(data), data)


def integer_field(code: int, *values: int) -> Field:
    """Return a field of unsigned integers: SHORT where all of them fit, else LONG."""
    kind, letter = (_SHORT, "H") if max(values) < 1 << 16 else (_LONG, "L")
    return Field(code, kind, len(values), struct.pack(f"<{len(values)}{letter}", *values))


def long_field(code: int, *values: int) -> Field:
    """Return a field of unsigned 32-bit integers."""
    return Field(code, _LONG, len(values), struct.pack(f"<{len(values)}L", *values))


def rational_field(code: int, *values: float) -> Field:
    """Return a field of fractions >= 0, to about six digits."""
    return Field(code, _RATIONAL, len(values), _fractions(values, "<LL", (1 << 32) - 1))


def signed_rational_field(code: int, *values: float) -> Field:
    """Return a field of signed fractions, to about six digits."""
    return Field(code, _SRATIONAL, len(values), _fractions(values, "<ll", (1 << 31) - 1))


def double_field(code: int, *values: float) -> Field:
    """Return a field of 64-bit floats."""
    return Field(code, _DOUBLE, len(values), struct.pack(f"<{len(values)}d", *values))


def ifd_field(code: int, *ifds: Sequence[Field]) -> Field:
    """Return a field that points to nested directories."""
    return Field(code, _LONG, len(ifds), Ifds(tuple(tuple(ifd) for ifd in ifds)))


def segments_field(code: int, segments: Sequence[bytes | memoryview]) -> Field:
    """Return a field that points to strips or tiles."""
    # As bytes: the length of an array's memoryview is its rows.
    data = tuple(memoryview(segment).cast("B") for segment in segments)
    return Field(code, _LONG, len(segments), Segments(data))


def merge(*groups: Sequence[Field]) -> Ifd:
    """Return one directory of all groups' fields; the last one wins where tags repeat."""
    return tuple({field.code: field for group in groups for field in group}.values())


def _fractions(values: Sequence[float], layout: str, largest: int) -> bytes:
    return b"".join(struct.pack(layout, *_fraction(value, largest)) for value in values)


def _fraction(value: float, largest: int) -> tuple[int, int]:
    # A value near the largest numerator has no room for a denominator.
    room = int(largest / max(abs(value), 1.0))
    fraction = Fraction(value).limit_denominator(max(1, min(_MAX_DENOMINATOR, room)))
    return fraction.numerator, fraction.denominator
