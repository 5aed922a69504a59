"""TIFF tags and directories as values: their types, and a function to make each kind.

Numbers of types and tags: TIFF 6.0 (Adobe, 1992), sections 2 and 8.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _SRATIONAL, _DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12

#: The numbers that a value of each type consists of: bytes of one, how many. What bytes mean
#: that a tag calls UNDEFINED is not known, so they are never turned. 129 is Exif 3.0's UTF-8.
NUMBERS = {1: (1, 1), 2: (1, 1), 3: (2, 1), 4: (4, 1), 5: (4, 2), 6: (1, 1), 7: (1, 1), 8: (2, 1),
           9: (4, 1), 10: (4, 2), 11: (4, 1), 12: (8, 1), 13: (4, 1), 129: (1, 1)}  # fmt: skip
#: Largest denominator of a rational: keeps 1/60 s as 1/60, and six digits of anything.
_DENOMINATOR = 1_000_000


@dataclass(frozen=True)
class Tag:
    """One entry of an IFD.

    Attributes:
        code: its number.
        kind: TIFF type of its values.
        count: how many of them there are.
        data: their bytes, little-endian; `Ifds` or `Pieces` where the entry points to these.
        at: where in the file the value should lie if it can; None for anywhere.
    """

    code: int
    kind: int
    count: int
    data: bytes | Ifds | Pieces
    at: int | None = None


Ifd = tuple[Tag, ...]


@dataclass(frozen=True)
class Ifds:
    """Directories that a tag points to."""

    ifds: tuple[Ifd, ...]

    def __len__(self) -> int:
        return len(self.ifds)


@dataclass(frozen=True)
class Pieces:
    """Bytes that a tag points to: strips and tiles of a picture."""

    pieces: tuple[bytes | memoryview, ...]

    def __len__(self) -> int:
        return len(self.pieces)


def swapped(data: bytes, kind: int) -> bytes:
    """Return values of a type in the other byte order."""
    size, _ = NUMBERS[kind]
    if size == 1:
        return data
    if len(data) == size:  # the usual case, and no array is faster
        return data[::-1]
    return np.frombuffer(data, f"<u{size}").byteswap().tobytes()


def ascii_tag(code: int, text: str) -> Tag:
    """Text; TIFF knows 7 bits only, so other characters become question marks."""
    data = text.encode("ascii", "replace") + b"\0"
    return Tag(code, _ASCII, len(data), data)


def byte_tag(code: int, data: bytes) -> Tag:
    """Unsigned bytes."""
    return Tag(code, _BYTE, len(data), data)


def undefined_tag(code: int, data: bytes) -> Tag:
    """Bytes whose meaning the tag defines."""
    return Tag(code, _UNDEFINED, len(data), data)


def integer_tag(code: int, *values: int) -> Tag:
    """Unsigned integers: SHORT where all of them fit, else LONG."""
    kind, letter = (_SHORT, "H") if max(values) < 1 << 16 else (_LONG, "L")
    return Tag(code, kind, len(values), struct.pack(f"<{len(values)}{letter}", *values))


def long_tag(code: int, *values: int) -> Tag:
    """Unsigned 32-bit integers."""
    return Tag(code, _LONG, len(values), struct.pack(f"<{len(values)}L", *values))


def rational_tag(code: int, *values: float) -> Tag:
    """Fractions >= 0, to six digits or so."""
    return Tag(code, _RATIONAL, len(values), _fractions(values, "<LL", (1 << 32) - 1))


def signed_rational_tag(code: int, *values: float) -> Tag:
    """Signed fractions, to six digits or so."""
    return Tag(code, _SRATIONAL, len(values), _fractions(values, "<ll", (1 << 31) - 1))


def double_tag(code: int, *values: float) -> Tag:
    """64-bit floats."""
    return Tag(code, _DOUBLE, len(values), struct.pack(f"<{len(values)}d", *values))


def ifd_tag(code: int, *ifds: Sequence[Tag]) -> Tag:
    """A pointer to nested IFDs of these tags."""
    return Tag(code, _LONG, len(ifds), Ifds(tuple(tuple(ifd) for ifd in ifds)))


def pieces_tag(code: int, pieces: Sequence[bytes | memoryview]) -> Tag:
    """Where strips or tiles lie."""
    # As bytes: the length of an array's memoryview is its rows.
    data = tuple(memoryview(piece).cast("B") for piece in pieces)
    return Tag(code, _LONG, len(pieces), Pieces(data))


def merge(*groups: Sequence[Tag]) -> Ifd:
    """Return one directory of all groups' tags; of the same tag the last group's counts."""
    return tuple({tag.code: tag for group in groups for tag in group}.values())


def _fractions(values: Sequence[float], layout: str, largest: int) -> bytes:
    return b"".join(struct.pack(layout, *_fraction(value, largest)) for value in values)


def _fraction(value: float, largest: int) -> tuple[int, int]:
    # A value near the largest numerator has no room for a denominator.
    room = int(largest / max(abs(value), 1.0))
    fraction = Fraction(value).limit_denominator(max(1, min(_DENOMINATOR, room)))
    return fraction.numerator, fraction.denominator
