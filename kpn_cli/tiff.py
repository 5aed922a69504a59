"""A TIFF tree to bytes: tags, nested IFDs, one strip of pixels.

tifffile writes no nested IFD such as Exif's, and a DNG without one loses its
exposure data in most editors. Numbers of types and tags: TIFF 6.0 (Adobe, 1992),
sections 2 and 8. Little endian. The same tags give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _SRATIONAL, _DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12

#: Bytes before the first IFD: byte order, 42, offset of the IFD.
HEADER = struct.pack("<2sHL", b"II", 42, 8)

#: Largest denominator of a rational: keeps 1/60 s as 1/60, and six digits of anything.
_DENOMINATOR = 1_000_000


@dataclass(frozen=True)
class Tag:
    """One entry of an IFD: its number, TIFF type, count of values, and their bytes.

    `data` is a tuple of tags where the entry points to a nested IFD.
    """

    code: int
    kind: int
    count: int
    data: bytes | tuple[Tag, ...]


def encode_ifd(tags: Sequence[Tag], start: int = len(HEADER)) -> bytes:
    """Return the bytes of an IFD, its values and its nested IFDs, to stand at offset `start`.

    The length depends on the tags' sizes only, not on `start` or on their values.
    """
    values_start = start + 2 + 12 * len(tags) + 4
    entries, values = bytearray(), bytearray()
    for tag in sorted(tags, key=lambda tag: tag.code):
        offset = values_start + len(values)
        if isinstance(tag.data, tuple):
            values += encode_ifd(tag.data, offset)
            field = struct.pack("<L", offset)
        elif len(tag.data) > 4:
            values += tag.data + bytes(len(tag.data) % 2)  # offsets are even
            field = struct.pack("<L", offset)
        else:
            field = tag.data.ljust(4, b"\0")
        entries += struct.pack("<HHL4s", tag.code, tag.kind, tag.count, field)
    return struct.pack("<H", len(tags)) + bytes(entries) + bytes(4) + bytes(values)


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
    """Unsigned 32-bit integers: the same size for every value, as offsets need."""
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


def ifd_tag(code: int, tags: Sequence[Tag]) -> Tag:
    """A pointer to a nested IFD of these tags."""
    return Tag(code, _LONG, 1, tuple(tags))


def _fractions(values: Sequence[float], layout: str, largest: int) -> bytes:
    return b"".join(struct.pack(layout, *_fraction(value, largest)) for value in values)


def _fraction(value: float, largest: int) -> tuple[int, int]:
    # A value near the largest numerator has no room for a denominator.
    room = int(largest / max(abs(value), 1.0))
    fraction = Fraction(value).limit_denominator(max(1, min(_DENOMINATOR, room)))
    return fraction.numerator, fraction.denominator
