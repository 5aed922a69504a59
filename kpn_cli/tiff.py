"""A TIFF tree to bytes: tags, nested IFDs, pieces of pictures.

tifffile writes no nested IFD such as Exif's, and a DNG without one loses its
exposure data in most editors. Numbers of types and tags: TIFF 6.0 (Adobe, 1992),
sections 2 and 8. The same tags give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from .errors import KpnError

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _SRATIONAL, _DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12

#: The numbers that a value of each type consists of: bytes of one, how many. What bytes mean
#: that a tag calls UNDEFINED is not known, so they are never turned. 129 is Exif 3.0's UTF-8.
NUMBERS = {1: (1, 1), 2: (1, 1), 3: (2, 1), 4: (4, 1), 5: (4, 2), 6: (1, 1), 7: (1, 1), 8: (2, 1),
           9: (4, 1), 10: (4, 2), 11: (4, 1), 12: (8, 1), 13: (4, 1), 129: (1, 1)}  # fmt: skip

#: The number after the byte order.
TIFF = 42

#: Largest denominator of a rational: keeps 1/60 s as 1/60, and six digits of anything.
_DENOMINATOR = 1_000_000

_HEADER_BYTES = 8
_LARGEST = (1 << 32) - 1


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


def write(stream: BinaryIO, ifds: Sequence[Ifd], order: str = "<", magic: int = TIFF) -> None:
    """Write a TIFF file: directories first, then their pieces.

    Args:
        stream: where to, from its beginning.
        ifds: the chain of main directories, at least one.
        order: "<" or ">": little- or big-endian.
        magic: the number after the byte order.

    Raises:
        KpnError: if the file would be longer than the 4 GB that TIFF's offsets reach.
    """
    end = 0
    for at, data in sorted(_blocks(ifds, order, magic), key=lambda block: block[0]):
        stream.write(bytes(at - end))
        stream.write(data)
        end = at + len(data)


def write_behind(stream: BinaryIO, ifds: Sequence[Ifd], order: str = "<") -> None:
    """Make a TIFF file of a stream to which strips have been written already, from byte 8 on.

    Args:
        stream: at its end; what is in it stays.
        ifds: the chain of main directories, whose tags say where the strips are.
        order: "<" or ">": little- or big-endian.

    Raises:
        KpnError: as `write`.
    """
    layout = _Layout(order, {}, start=max(stream.tell(), _HEADER_BYTES))
    first = layout.place_chain(ifds)
    for at, data in sorted(layout.blocks, key=lambda block: block[0]):
        stream.write(bytes(at - stream.tell()))
        stream.write(data)
    stream.seek(0)
    stream.write(_header(order, TIFF, first))


def encode(ifds: Sequence[Ifd], order: str = "<", magic: int = TIFF) -> bytes:
    """Return the bytes of a TIFF file; see `write`."""
    result = bytearray()
    for at, data in sorted(_blocks(ifds, order, magic), key=lambda block: block[0]):
        result += bytes(at - len(result)) + data
    return bytes(result)


def swapped(data: bytes, kind: int) -> bytes:
    """Return values of a type in the other byte order."""
    size, _ = NUMBERS[kind]
    if size == 1:
        return data
    if len(data) == size:  # the usual case, and no array is faster
        return data[::-1]
    return np.frombuffer(data, f"<u{size}").byteswap().tobytes()


# --- layout ---------------------------------------------------------------------------


def _blocks(ifds: Sequence[Ifd], order: str, magic: int) -> list[tuple[int, bytes | memoryview]]:
    """Return offset and bytes of everything in the file."""
    # Where pieces lie is known only behind all directories, whose size doesn't depend on it.
    trial = _Layout(order, _pinned(ifds))
    trial.place_chain(ifds)
    pieces = [(trial.place(len(piece)), memoryview(piece).cast("B")) for piece in _pieces_of(ifds)]
    layout = _Layout(order, _pinned(ifds), iter([at for at, _ in pieces]))
    first = layout.place_chain(ifds)
    if max(at + len(data) for at, data in (*layout.blocks, *pieces)) > _LARGEST:
        raise KpnError("the picture is larger than the 4 GB that a TIFF or DNG can hold")
    header = _header(order, magic, first)
    return [(0, header), *layout.blocks, *((at, piece) for at, piece in pieces if len(piece))]


def _header(order: str, magic: int, first: int) -> bytes:
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", magic, first)


class _Layout:
    """Gives everything its place, the first gap that is large enough."""

    def __init__(
        self,
        order: str,
        pinned: dict[int, int],
        pieces: Iterator[int] | None = None,
        start: int = _HEADER_BYTES,
    ) -> None:
        """`pinned`: offset -> size of the values whose place is given; nothing before `start`."""
        self.order = order
        self.blocks: list[tuple[int, bytes | memoryview]] = []
        self._pieces = pieces
        self._pinned = pinned
        starts = [_even(start), *(_even(at + size) for at, size in sorted(pinned.items()))]
        self._gaps = [list(gap) for gap in zip(starts, (*sorted(pinned), _LARGEST), strict=True)]

    def place(self, size: int) -> int:
        """Return where so many bytes go; TIFF wants even offsets."""
        for gap in self._gaps:
            if gap[0] + size <= gap[1]:
                at = gap[0]
                gap[0] = _even(at + size)
                return at
        raise KpnError("the picture is larger than the 4 GB that a TIFF or DNG can hold")

    def place_chain(self, ifds: Sequence[Ifd]) -> int:
        """Place directories, each of which says where the next is; return where the first is."""
        places = [self.place(_table_bytes(ifd)) for ifd in ifds]
        for ifd, at, following in zip(ifds, places, (*places[1:], 0), strict=True):
            self._fill(ifd, at, following)
        return places[0]

    def _fill(self, ifd: Ifd, at: int, following: int) -> None:
        fields = [self._field(tag) for tag in sorted(ifd, key=lambda tag: tag.code)]
        count = struct.pack(self.order + "H", len(ifd))
        table = count + b"".join(fields) + struct.pack(self.order + "L", following)
        self.blocks.append((at, table))

    def _field(self, tag: Tag) -> bytes:
        data = self._value(tag)
        if len(data) > 4:
            if tag.at is not None and self._pinned.get(tag.at) == len(data):
                at = tag.at
                del self._pinned[at]  # a second one of that place goes elsewhere
            else:
                at = self.place(len(data))
            self.blocks.append((at, data))
            data = struct.pack(self.order + "L", at)
        head = struct.pack(self.order + "HHL", tag.code, tag.kind, tag.count)
        return head + data.ljust(4, b"\0")

    def _value(self, tag: Tag) -> bytes:
        if isinstance(tag.data, bytes):
            return tag.data if self.order == "<" else swapped(tag.data, tag.kind)
        if isinstance(tag.data, Ifds):
            offsets = []
            for ifd in tag.data.ifds:
                offsets.append(self.place(_table_bytes(ifd)))
                self._fill(ifd, offsets[-1], 0)
        else:
            offsets = [0 if self._pieces is None else next(self._pieces) for _ in tag.data.pieces]
        return struct.pack(f"{self.order}{len(offsets)}L", *offsets)


def _table_bytes(ifd: Ifd) -> int:
    return 2 + 12 * len(ifd) + 4


def _even(offset: int) -> int:
    return offset + offset % 2


def _walk(ifds: Sequence[Ifd]) -> Iterator[Tag]:
    """All tags in the order of writing: a directory's are sorted, nested ones come inside."""
    for ifd in ifds:
        for tag in sorted(ifd, key=lambda tag: tag.code):
            if isinstance(tag.data, Ifds):
                yield from _walk(tag.data.ifds)
            yield tag


def _pieces_of(ifds: Sequence[Ifd]) -> Iterator[bytes | memoryview]:
    for tag in _walk(ifds):
        if isinstance(tag.data, Pieces):
            yield from tag.data.pieces


def _pinned(ifds: Sequence[Ifd]) -> dict[int, int]:
    """Return offset -> size of the values whose wish for a place can be granted.

    Not behind everything else, which would leave a hole, nor over one another.
    """
    everything = sum(len(piece) for piece in _pieces_of(ifds))
    granted: dict[int, int] = {}
    end = _HEADER_BYTES
    wishes = {
        tag.at: len(tag.data)
        for tag in _walk(ifds)
        if tag.at is not None and isinstance(tag.data, bytes) and len(tag.data) > 4
    }
    for at, size in sorted(wishes.items()):
        if end <= at <= everything and at + size < _LARGEST:
            granted[at] = size
            end = _even(at + size)
    return granted


# --- tags -----------------------------------------------------------------------------


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
