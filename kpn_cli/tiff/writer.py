"""A TIFF tree to bytes: nested IFDs, pieces of pictures, every offset.

tifffile writes no nested IFD such as Exif's, and a DNG without one loses its
exposure data in most editors. Numbers of types and tags: TIFF 6.0 (Adobe, 1992),
sections 2 and 8. The same tags give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ..errors import KpnError
from .fields import Ifd, Ifds, Pieces, Tag, swapped

#: The number after the byte order.
TIFF = 42

_HEADER_BYTES = 8
_LARGEST = (1 << 32) - 1


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
