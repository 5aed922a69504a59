"""A TIFF tree to bytes: nested directories, strips and tiles, and all offsets.

Own code, because tifffile writes no nested directories such as Exif's, and without one most
editors show no exposure data for a DNG. TIFF 6.0 (Adobe, 1992), sections 2 and 8. The same tree
always gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ..errors import KpnError
from .fields import Field, Ifd, Ifds, Segments, swapped

#: The number after the byte order that says: TIFF.
TIFF_MAGIC = 42

_HEADER_BYTES = 8
_MAX_OFFSET = (1 << 32) - 1

_TOO_LARGE = "the picture is larger than the 4 GB that a TIFF or DNG can hold"


def write_tiff(
    stream: BinaryIO, ifds: Sequence[Ifd], order: str = "<", magic: int = TIFF_MAGIC
) -> None:
    """Write a TIFF file: directories first, then their strips and tiles.

    Args:
        stream: at its beginning.
        ifds: the chain of main directories, at least one.
        order: "<" or ">": little- or big-endian.
        magic: the number after the byte order.

    Raises:
        KpnError: if the file would exceed the 4 GB that TIFF's offsets reach.
    """
    end = 0
    for offset, data in sorted(_blocks(ifds, order, magic), key=lambda block: block[0]):
        stream.write(bytes(offset - end))
        stream.write(data)
        end = offset + len(data)


def append_directories(stream: BinaryIO, ifds: Sequence[Ifd], order: str = "<") -> None:
    """Complete a TIFF file whose strips were written first, from byte 8 on.

    Args:
        stream: at its end; its content stays, but for the header in the first 8 bytes.
        ifds: the chain of main directories, whose StripOffsets are numbers already.
        order: "<" or ">": little- or big-endian.

    Raises:
        KpnError: as `write_tiff`.
    """
    layout = _Layout(order, {}, start=max(stream.tell(), _HEADER_BYTES))
    first = layout.place_chain(ifds)
    for offset, data in sorted(layout.blocks, key=lambda block: block[0]):
        stream.write(bytes(offset - stream.tell()))
        stream.write(data)
    stream.seek(0)
    stream.write(_header(order, TIFF_MAGIC, first))


def tiff_bytes(ifds: Sequence[Ifd], order: str = "<", magic: int = TIFF_MAGIC) -> bytes:
    """Return the bytes of a TIFF file; arguments and errors as `write_tiff`."""
    result = bytearray()
    for offset, data in sorted(_blocks(ifds, order, magic), key=lambda block: block[0]):
        result += bytes(offset - len(result)) + data
    return bytes(result)


# --- layout ---------------------------------------------------------------------------


def _blocks(ifds: Sequence[Ifd], order: str, magic: int) -> list[tuple[int, bytes | memoryview]]:
    """Return offset and bytes of everything in the file."""
    # Segments follow all directories, whose size does not depend on the segments' offsets: a
    # trial layout finds these offsets, the second layout writes them.
    trial = _Layout(order, _pinned(ifds))
    trial.place_chain(ifds)
    segments = [
        (trial.place(len(segment)), memoryview(segment).cast("B")) for segment in _segments_of(ifds)
    ]
    layout = _Layout(order, _pinned(ifds), iter([offset for offset, _ in segments]))
    first = layout.place_chain(ifds)
    if max(offset + len(data) for offset, data in (*layout.blocks, *segments)) > _MAX_OFFSET:
        raise KpnError(_TOO_LARGE)
    header = _header(order, magic, first)
    return [(0, header), *layout.blocks, *((at, data) for at, data in segments if len(data))]


def _header(order: str, magic: int, first: int) -> bytes:
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", magic, first)


class _Layout:
    """Allocates an offset for every block, in the first gap that is large enough."""

    def __init__(
        self,
        order: str,
        pinned: dict[int, int],
        segment_offsets: Iterator[int] | None = None,
        start: int = _HEADER_BYTES,
    ) -> None:
        """Lay out blocks from `start` on.

        Args:
            order: "<" or ">".
            pinned: offset -> size of the values that stay where they are.
            segment_offsets: those of strips and tiles in the order of writing; None for zeros.
            start: first free offset.
        """
        self.order = order
        self.blocks: list[tuple[int, bytes | memoryview]] = []
        self._segment_offsets = segment_offsets
        self._pinned = pinned
        starts = [_even(start), *(_even(at + size) for at, size in sorted(pinned.items()))]
        self._gaps = [list(gap) for gap in zip(starts, (*sorted(pinned), _MAX_OFFSET), strict=True)]

    def place(self, size: int) -> int:
        """Allocate `size` bytes and return their offset, which is even, as TIFF wants it."""
        for gap in self._gaps:
            if gap[0] + size <= gap[1]:
                offset = gap[0]
                gap[0] = _even(offset + size)
                return offset
        raise KpnError(_TOO_LARGE)

    def place_chain(self, ifds: Sequence[Ifd]) -> int:
        """Place directories, each with the offset of the next; return that of the first."""
        offsets = [self.place(_table_bytes(ifd)) for ifd in ifds]
        for ifd, offset, following in zip(ifds, offsets, (*offsets[1:], 0), strict=True):
            self._fill(ifd, offset, following)
        return offsets[0]

    def _fill(self, ifd: Ifd, offset: int, following: int) -> None:
        entries = [self._entry(field) for field in sorted(ifd, key=lambda field: field.code)]
        count = struct.pack(self.order + "H", len(ifd))
        table = count + b"".join(entries) + struct.pack(self.order + "L", following)
        self.blocks.append((offset, table))

    def _entry(self, field: Field) -> bytes:
        data = self._value(field)
        if len(data) > 4:
            if field.offset is not None and self._pinned.get(field.offset) == len(data):
                offset = field.offset
                del self._pinned[offset]  # a second field with the same offset goes elsewhere
            else:
                offset = self.place(len(data))
            self.blocks.append((offset, data))
            data = struct.pack(self.order + "L", offset)
        head = struct.pack(self.order + "HHL", field.code, field.kind, field.count)
        return head + data.ljust(4, b"\0")

    def _value(self, field: Field) -> bytes:
        if isinstance(field.data, bytes):
            return field.data if self.order == "<" else swapped(field.data, field.kind)
        if isinstance(field.data, Ifds):
            offsets = []
            for ifd in field.data.ifds:
                offsets.append(self.place(_table_bytes(ifd)))
                self._fill(ifd, offsets[-1], 0)
        else:
            known = self._segment_offsets
            offsets = [0 if known is None else next(known) for _ in field.data.segments]
        return struct.pack(f"{self.order}{len(offsets)}L", *offsets)


def _table_bytes(ifd: Ifd) -> int:
    return 2 + 12 * len(ifd) + 4


def _even(offset: int) -> int:
    return offset + offset % 2


def _walk(ifds: Sequence[Ifd]) -> Iterator[Field]:
    """All fields in the order of writing: sorted by tag, nested directories first."""
    for ifd in ifds:
        for field in sorted(ifd, key=lambda field: field.code):
            if isinstance(field.data, Ifds):
                yield from _walk(field.data.ifds)
            yield field


def _segments_of(ifds: Sequence[Ifd]) -> Iterator[bytes | memoryview]:
    for field in _walk(ifds):
        if isinstance(field.data, Segments):
            yield from field.data.segments


def _pinned(ifds: Sequence[Ifd]) -> dict[int, int]:
    """Return offset -> size of the values that can stay at the offset they ask for.

    Not beyond the end of everything else, which would leave a hole, and without overlaps.
    """
    segment_bytes = sum(len(segment) for segment in _segments_of(ifds))
    granted: dict[int, int] = {}
    end = _HEADER_BYTES
    wanted = {
        field.offset: len(field.data)
        for field in _walk(ifds)
        if field.offset is not None and isinstance(field.data, bytes) and len(field.data) > 4
    }
    for offset, size in sorted(wanted.items()):
        if end <= offset <= segment_bytes and offset + size < _MAX_OFFSET:
            granted[offset] = size
            end = _even(offset + size)
    return granted
