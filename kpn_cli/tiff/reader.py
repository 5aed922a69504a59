"""The directories of a TIFF file, whole or only some of their fields, within bounds.

Most raw files are TIFF trees (DNG, NEF, CR2, ARW, PEF, RW2, ORF); others contain an Exif
block (RAF inside its preview, CR3 in its CMT boxes). A tree that was read whole can be written
again: values as bytes, nested directories, strips and tiles as objects, so that offsets may
change. A caller that needs only a few fields names their tags; the others are not read.

Hostile trees point to themselves, to each other and outside the file. Therefore each directory
is read once, there are at most `_MAX_IFDS` of them, and all entries and values together take no
more bytes than the file has, camera profiles included. Only the Exif blocks inside other files
have a budget of their own: an RW2's is part of one of its values. A damaged entry is left out;
the rest is read. Types: TIFF 6.0, section 2.

Own code, because no library has these bounds. exifread, for example, reads byte by byte as many
values as an entry claims: a file of 786 kB with one directory of 65535 entries keeps it busy for
over 20 s. It returns values of a thousand bytes or more, such as XMP, as empty. So kpn reads with
it only what the makers' notes add (`raw/full_exif.py`), never what decides about pixels.
"""

from __future__ import annotations

import dataclasses
import io
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import refuse_unreadable
from .fields import TYPE_LAYOUT, Field, Ifd, Ifds, Segments, swapped
from .writer import TIFF_MAGIC, tiff_bytes

#: The number after the byte order: TIFF, Panasonic RW2, Olympus ORF (two of them).
_MAGIC = {TIFF_MAGIC, 0x55, 0x4F52, 0x5352}

#: Marker before a TIFF tree inside another file -> bytes from the marker to the tree: boxes of
#: a CR3 (IFD 0, Exif, GPS), Exif of a JPEG preview, the block of an MRW.
_MARKERS = {b"CMT1": 4, b"CMT2": 4, b"CMT4": 4, b"Exif\0\0": 6, b"\0TTW": 8}

#: Tags that point to directories: SubIFDs, Exif, GPS, Interoperability.
_POINTERS = {330, 34665, 34853, 40965}

#: Tags with the offsets of strips, tiles or a JPEG -> the tags with their byte counts.
_SEGMENTS = {273: 279, 324: 325, 513: 514}

#: ExtraCameraProfiles (DNG 1.2): offsets of small TIFF trees, without lengths. The offsets
#: inside such a tree count from its own beginning.
_PROFILES = 50933
_PROFILE_MAGIC = 0x4352

_LONG, _RATIONAL, _IFD_TYPE = 4, 5, 13
_TEXTS = {2, 129}  # ASCII, UTF-8
_UNSIGNED, _SIGNED, _FLOATS = {1, 3, 4, 13}, {6, 8, 9, 10}, {11, 12}

_MAX_IFDS = 64
_MAX_DEPTH = 6
_MAX_ENTRIES = 1024
_MAX_SEGMENTS = 1 << 18
#: How far into a file of another format its Exif block may begin.
_MAX_SEARCH_BYTES = 1 << 20
#: Largest value where only some tags are asked for: their values become Python numbers, which
#: take many times the bytes. A tree read whole has opcodes and MakerNotes of any length.
_MAX_VALUE_BYTES = 1 << 18
#: OpcodeList1, which stays bytes, may be longer: it may list thousands of bad pixels.
_ALWAYS_BYTES = {51008}


@dataclass(frozen=True)
class Tree:
    """The directories of a TIFF.

    Attributes:
        order: "<" or ">", the file's byte order; `Field.data` is little-endian regardless.
        ifds: the chain of main directories, with nested ones inside their fields.
            `Field.offset` of a value counts from the beginning of the tree.
    """

    order: str
    ifds: tuple[Ifd, ...]


def read_tree(
    path: Path,
    read_segments: Callable[[Ifd], bool] | None = lambda ifd: False,
    only: frozenset[int] | None = None,
) -> Tree | None:
    """Return the tree of a TIFF file, or of the Exif block in a file of another format.

    Args:
        path: the file.
        read_segments: decides for each directory whether its strips and tiles are read; if
            not, the fields that point to them are left out. None keeps all offsets as numbers.
        only: the tags to read, pointers to directories included; None for all.

    Returns:
        The tree; None where the file has none.

    Raises:
        KpnError: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            trees = _trees(file, read_segments, only)
    except OSError as error:
        refuse_unreadable(path, error)
    if not trees:
        return None
    # A CR3 has IFD 0 and Exif in two trees.
    return Tree(trees[0].order, tuple(ifd for tree in trees for ifd in tree.ifds))


def read_directory(data: bytes, start: int, order: str, only: frozenset[int] | None = None) -> Ifd:
    """Return a directory inside a value, such as a MakerNote; () where there is none.

    Args:
        data: the value; offsets count from its beginning.
        start: where in the value the directory begins, in bytes.
        order: "<" or ">", its byte order.
        only: as in `read_tree`.
    """
    budget = _Budget.of(len(data), only)
    found = _Reader(io.BytesIO(data), 0, len(data), budget, None, only, order).directory(start)
    return found[0] if found is not None else ()


def tree_offsets(file: BinaryIO) -> list[int]:
    """Return where the TIFF trees of a file begin: 0, or the Exif blocks of another format.

    An RW2 has both.
    """
    file.seek(0)
    header = file.read(4)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    whole = order is not None and len(header) == 4
    is_tiff = whole and struct.unpack(f"{order}H", header[2:])[0] in _MAGIC
    blocks = [] if is_tiff and not _is_panasonic(file) else _exif_blocks(file)
    return [0, *blocks] if is_tiff else blocks


def walk(ifds: tuple[Ifd, ...]) -> Iterator[Ifd]:
    """Yield all directories of a chain, each before the directories nested in it."""
    for ifd in ifds:
        yield ifd
        for field in ifd:
            if isinstance(field.data, Ifds):
                yield from walk(field.data.ifds)


def _trees(
    file: BinaryIO, read_segments: Callable[[Ifd], bool] | None, only: frozenset[int] | None
) -> list[Tree]:
    """Return the tree of a TIFF, or the trees inside another file."""
    size = file.seek(0, 2)
    reader = _Reader(file, 0, size, _Budget.of(size, only), read_segments, only)
    tree = reader.tree(_MAGIC)
    # An RW2 has its Exif in the preview, not in its own directories.
    if tree is not None and (only is not None or not _is_panasonic(file)):
        return [tree]
    budget = _Budget.of(size, only)
    blocks = [dataclasses.replace(reader, base=base, budget=budget) for base in _exif_blocks(file)]
    return list(filter(None, [tree, *(block.tree(_MAGIC) for block in blocks)]))


def _is_panasonic(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) == b"IIU\0"


def _exif_blocks(file: BinaryIO) -> list[int]:
    """Return the offsets of the TIFF trees inside a file of another format."""
    file.seek(0)
    head = file.read(_MAX_SEARCH_BYTES)
    found = ((head.find(marker), length) for marker, length in _MARKERS.items())
    return [offset + length for offset, length in found if offset >= 0]


# --- values ---------------------------------------------------------------------------


def text(field: Field) -> str:
    """Return the text of a field without its padding; "" for other types."""
    if not isinstance(field.data, bytes) or field.kind not in _TEXTS:
        return ""
    decoded = field.data.split(b"\0")[0].decode("utf-8", "replace")
    return "".join(c for c in decoded if c.isprintable()).strip()


def numbers(field: Field) -> tuple[float, ...]:
    """Return the numbers of a field; () for other types.

    Integers as int, fractions divided: inf and nan occur.
    """
    if not isinstance(field.data, bytes) or field.kind in _TEXTS:
        return ()
    size, each = TYPE_LAYOUT[field.kind]
    letter = "i" if field.kind in _SIGNED else "f" if field.kind in _FLOATS else "u"
    values = np.frombuffer(field.data, f"<{letter}{size}")
    if each == 2:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = values[::2] / values[1::2]
    return tuple(values.tolist())


def integers(ifd: Ifd, code: int) -> tuple[int, ...]:
    """Return the unsigned integers of a directory's field; () where absent."""
    return next((_unsigned(field) for field in ifd if field.code == code), ())


def fractions(ifd: Ifd, code: int) -> tuple[float, ...]:
    """Return the numbers >= 0 of a directory's field; () where absent or not all finite."""
    for field in ifd:
        if field.code == code and field.kind == _RATIONAL:
            found = numbers(field)
            return found if all(map(math.isfinite, found)) else ()
    return tuple(float(value) for value in integers(ifd, code))


def _unsigned(field: Field) -> tuple[int, ...]:
    return tuple(map(int, numbers(field))) if field.kind in _UNSIGNED else ()


# --- reading --------------------------------------------------------------------------


@dataclass
class _Budget:
    """What may still be read of a file.

    Attributes:
        total_bytes: of entries and values together.
        value_bytes: of one value.
        visited: offsets of the directories read.
    """

    total_bytes: int
    value_bytes: int
    visited: set[int] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, size: int, only: frozenset[int] | None) -> _Budget:
        """Return the budget of a file or value of `size` bytes."""
        return cls(size, size if only is None else _MAX_VALUE_BYTES)


@dataclass
class _Reader:
    """Reads one tree, which begins at `base` of a file of `size` bytes."""

    file: BinaryIO
    base: int
    size: int
    budget: _Budget
    read_segments: Callable[[Ifd], bool] | None
    only: frozenset[int] | None
    order: str = "<"
    is_profile: bool = False

    def tree(self, magics: set[int]) -> Tree | None:
        """Return the tree, None if there is none."""
        header = self._bytes(0, 8)
        order = {b"II": "<", b"MM": ">"}.get(header[:2])
        if order is None:
            return None
        self.order = order
        magic, first = struct.unpack(order + "HL", header[2:])
        if magic not in magics:
            return None
        ifds = []
        while first and (found := self.directory(first)) is not None:
            ifd, first = found
            ifds.append(ifd)
        return Tree(order, tuple(ifds)) if ifds else None

    def directory(self, offset: int, depth: int = 0) -> tuple[Ifd, int] | None:
        """Return a directory and the offset of the next; None if it is invalid or one too many."""
        visited, absolute = self.budget.visited, self.base + offset
        if absolute in visited or len(visited) >= _MAX_IFDS or depth > _MAX_DEPTH:
            return None
        visited.add(absolute)
        head = self._bytes(offset, 2)
        count = struct.unpack(self.order + "H", head)[0] if head else 0
        if not 0 < count <= _MAX_ENTRIES or not (table := self._budgeted(offset + 2, 12 * count)):
            return None
        # A directory at the file's end may lack the offset of the next one.
        following = self._bytes(offset + 2 + 12 * count, 4) or bytes(4)
        ifd = self._resolved(self._fields(table), depth)
        return ifd, struct.unpack(self.order + "L", following)[0]

    def _bytes(self, offset: int, count: int) -> bytes:
        """Return `count` bytes; b"" where the file does not have them all."""
        if not 0 <= offset <= self.size - self.base - count:
            return b""
        self.file.seek(self.base + offset)
        data = self.file.read(count)
        return data if len(data) == count else b""

    def _budgeted(self, offset: int, count: int) -> bytes:
        """Return `count` bytes and subtract them from the budget; b"" beyond it."""
        data = self._bytes(offset, count) if 0 < count <= self.budget.total_bytes else b""
        self.budget.total_bytes -= len(data)
        return data

    def _fields(self, table: bytes) -> tuple[Field, ...]:
        """Return the wanted entries of a directory; where a tag repeats, the first valid one."""
        fields: dict[int, Field] = {}
        for code, kind, count, value in struct.iter_unpack(self.order + "HHL4s", table):
            if self.only is not None and code not in self.only:
                continue
            field = self._field(code, kind, count, value) if code not in fields else None
            if field is not None:
                fields[code] = field
        return tuple(fields.values())

    def _field(self, code: int, kind: int, count: int, value: bytes) -> Field | None:
        """Return an entry with its bytes, None if damaged."""
        size, each = TYPE_LAYOUT.get(kind, (0, 0))
        length, offset = count * size * each, None
        if length > 4:
            offset = struct.unpack(self.order + "L", value)[0]
            short = length <= self.budget.value_bytes or code in _ALWAYS_BYTES
            data = self._budgeted(offset, length) if short else b""
        else:
            data = value[:length]
        if not data:
            return None
        data = data if self.order == "<" else swapped(data, kind)
        # A profile is packed anew, and nothing refers to offsets inside it.
        return Field(code, kind, count, data, None if self.is_profile else offset)

    def _resolved(self, ifd: Ifd, depth: int) -> Ifd:
        """Replace offsets by what they point to; leave out fields that point to nothing."""
        segments = self._segments(ifd)
        result = []
        for field in ifd:
            data = field.data
            if field.code in _POINTERS or field.kind == _IFD_TYPE:
                offsets = _unsigned(field)[:_MAX_IFDS]
                found = [self.directory(offset, depth + 1) for offset in offsets]
                data = Ifds(tuple(nested for nested, _ in filter(None, found)))
            elif field.code in _SEGMENTS and self.read_segments is not None:
                data = Segments(segments.get(field.code, ()))
            elif field.code == _PROFILES:
                data = Segments(tuple(self._profiles(field)))
            if data is field.data:
                result.append(field)
            elif data:
                # Offsets are written with 32 bits, whatever type they had.
                kind = field.kind if field.kind == _IFD_TYPE else _LONG
                result.append(Field(field.code, kind, len(data), data))
        return tuple(result)

    def _segments(self, ifd: Ifd) -> dict[int, tuple[bytes, ...]]:
        """Read strips and tiles if wanted: tag -> segments, without incomplete sets."""
        if self.read_segments is None or not self.read_segments(ifd):
            return {}
        found = {}
        for offset_code, length_code in _SEGMENTS.items():
            offsets, lengths = integers(ifd, offset_code), integers(ifd, length_code)
            if not 0 < len(offsets) == len(lengths) <= _MAX_SEGMENTS:
                continue
            segments = tuple(map(self._budgeted, offsets, lengths))
            if all(segments):
                found[offset_code] = segments
        return found

    def _profiles(self, field: Field) -> Iterator[bytes]:
        """Yield camera profiles, each as the bytes of a small file; profiles do not nest."""
        for offset in () if self.is_profile else _unsigned(field)[:_MAX_IFDS]:
            base = self.base + offset
            reader = dataclasses.replace(self, base=base, only=None, is_profile=True)
            # None the second time: its directory was visited.
            tree = reader.tree({_PROFILE_MAGIC})
            if tree is not None:
                yield tiff_bytes(tree.ifds, tree.order, _PROFILE_MAGIC)
