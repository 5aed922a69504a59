"""The directories of a TIFF file, whole or only some of their tags, within bounds.

Most raw files are TIFF trees (DNG, NEF, CR2, ARW, PEF, RW2, ORF); others carry an Exif
block (RAF inside its preview, CR3 in its CMT boxes). A tree read whole can be written
again: values as their bytes, directories and pieces of pictures as what they are, so
that they may move. Whoever needs to know a few tags names them; the others are skipped unread.

Hostile trees point at themselves, at each other and outside the file. So each directory is
read once and there are no more than `_MAX_IFDS` of them, and all entries and values together
are no more bytes than the file has, camera profiles included. Only the Exif blocks inside of
other files are counted anew: an RW2's lies within one of its values. A damaged entry is left
out; the rest is read. Numbers of types: TIFF 6.0 section 2.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import refuse_unreadable
from .fields import NUMBERS, Ifd, Ifds, Pieces, Tag, swapped
from .writer import TIFF, encode

#: The number after the byte order: TIFF, Panasonic RW2, Olympus ORF (two of them).
_MAGIC = {TIFF, 0x55, 0x4F52, 0x5352}

#: What comes before a TIFF tree, and how far it then is: Exif of a preview, the boxes of a CR3
#: (IFD 0, Exif, GPS), the block of an MRW.
_BLOCKS = {b"CMT1": 4, b"CMT2": 4, b"CMT4": 4, b"Exif\0\0": 6, b"\0TTW": 8}

#: Tags that point to directories: SubIFDs, Exif, GPS, Interoperability.
_POINTERS = {330, 34665, 34853, 40965}

#: Tags that point to pieces of a picture -> those that say how long they are.
_PIECES = {273: 279, 324: 325, 513: 514}

#: ExtraCameraProfiles (DNG 1.2): offsets of trees with offsets of their own, no lengths.
_PROFILES = 50933
_PROFILE_MAGIC = 0x4352

_LONG, _RATIONAL, _IFD_TYPE = 4, 5, 13
_TEXTS = {2, 129}  # ASCII, UTF-8
_UNSIGNED, _SIGNED, _FLOATS = {1, 3, 4, 13}, {6, 8, 9, 10}, {11, 12}

_MAX_IFDS = 64
_MAX_DEPTH = 6
_MAX_ENTRIES = 1024
_MAX_PIECES = 1 << 18
#: How far into a file of another kind its Exif block may begin.
_MAX_SEARCH_BYTES = 1 << 20
#: Of one value, where only some tags are asked for: these become numbers in Python, which take
#: many times their bytes. A tree read whole has opcodes and makers' notes of any length.
_MAX_VALUE_BYTES = 1 << 18


@dataclass(frozen=True)
class Tree:
    """The directories of a TIFF.

    Attributes:
        order: "<" or ">", the file's byte order; `Tag.data` is little-endian all the same.
        ifds: the chain of main directories, nested ones inside of their tags. `Tag.at` of a
            value is its offset from the tree's beginning.
    """

    order: str
    ifds: tuple[Ifd, ...]


def read_tree(
    path: Path,
    pictures: Callable[[Ifd], bool] | None = lambda ifd: False,
    only: frozenset[int] | None = None,
) -> Tree | None:
    """Return the tree of a file, or that of its Exif block where it is no TIFF; None without.

    Args:
        path: the file.
        pictures: says of a directory whether its strips and tiles are read too; the tags that
            point to those of the others are left out. None leaves them all as numbers.
        only: codes of the tags to read, pointers to directories included; None for all.

    Raises:
        KpnError: if the file can't be read.
    """
    try:
        with open(path, "rb") as file:
            trees = _trees(file, pictures, only)
    except OSError as error:
        refuse_unreadable(path, error)
    if not trees:
        return None
    # A CR3 has IFD 0 and Exif in two trees.
    return Tree(trees[0].order, tuple(ifd for tree in trees for ifd in tree.ifds))


def read_directory(data: bytes, at: int, order: str, only: frozenset[int] | None = None) -> Ifd:
    """Return a directory that lies within a value, as in makers' notes; () where none does.

    Args:
        data: the value, from whose beginning offsets count.
        at: where the directory begins.
        order: "<" or ">", its byte order.
        only: as in `read_tree`.
    """
    bounds = _Bounds.of(len(data), only)
    found = _Reader(io.BytesIO(data), 0, len(data), bounds, None, only, order).directory(at)
    return found[0] if found is not None else ()


def flat(ifds: tuple[Ifd, ...]) -> Iterator[Ifd]:
    """All directories of a chain, each before those that it points to."""
    for ifd in ifds:
        yield ifd
        for tag in ifd:
            if isinstance(tag.data, Ifds):
                yield from flat(tag.data.ifds)


def _trees(
    file: BinaryIO, pictures: Callable[[Ifd], bool] | None, only: frozenset[int] | None
) -> list[Tree]:
    """The tree that a file is, or those within it."""
    size = file.seek(0, 2)
    reader = _Reader(file, 0, size, _Bounds.of(size, only), pictures, only)
    tree = reader.tree(_MAGIC)
    # An RW2's preview has the Exif that its own directories haven't.
    if tree is not None and (only is not None or not _is_panasonic(file)):
        return [tree]
    bounds = _Bounds.of(size, only)
    blocks = [replace(reader, base=base, bounds=bounds) for base in _exif_blocks(file)]
    return list(filter(None, [tree, *(block.tree(_MAGIC) for block in blocks)]))


def _is_panasonic(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) == b"IIU\0"


def _exif_blocks(file: BinaryIO) -> list[int]:
    """Offsets of the TIFF trees in a file that isn't one."""
    file.seek(0)
    head = file.read(_MAX_SEARCH_BYTES)
    found = ((head.find(marker), length) for marker, length in _BLOCKS.items())
    return [at + length for at, length in found if at >= 0]


# --- values ---------------------------------------------------------------------------


def text(tag: Tag) -> str:
    """Return the text of a tag without its padding; "" for others."""
    if not isinstance(tag.data, bytes) or tag.kind not in _TEXTS:
        return ""
    said = tag.data.split(b"\0")[0].decode("utf-8", "replace")
    return "".join(c for c in said if c.isprintable()).strip()


def numbers(tag: Tag) -> tuple[float, ...]:
    """Return the numbers of a tag, fractions divided: inf and nan occur; () for others."""
    if not isinstance(tag.data, bytes) or tag.kind in _TEXTS:
        return ()
    size, each = NUMBERS[tag.kind]
    letter = "i" if tag.kind in _SIGNED else "f" if tag.kind in _FLOATS else "u"
    parts = np.frombuffer(tag.data, f"<{letter}{size}")
    if each == 2:
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = parts[::2] / parts[1::2]
    return tuple(parts.tolist())


def integers(ifd: Ifd, code: int) -> tuple[int, ...]:
    """Return the unsigned integers of a directory's tag; () where absent."""
    return next((_unsigned(tag) for tag in ifd if tag.code == code), ())


def fractions(ifd: Ifd, code: int) -> tuple[float, ...]:
    """Return the numbers >= 0 of a directory's tag; () where absent or one is none."""
    for tag in ifd:
        if tag.code == code and tag.kind == _RATIONAL:
            found = numbers(tag)
            return found if all(map(math.isfinite, found)) else ()
    return tuple(float(value) for value in integers(ifd, code))


def _unsigned(tag: Tag) -> tuple[int, ...]:
    return numbers(tag) if tag.kind in _UNSIGNED else ()


# --- reading --------------------------------------------------------------------------


@dataclass
class _Bounds:
    """What may be read yet of a file.

    Attributes:
        bytes: of entries and values together.
        value_bytes: of one value.
        seen: places of directories.
    """

    bytes: int
    value_bytes: int
    seen: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, size: int, only: frozenset[int] | None) -> _Bounds:
        """Those of a file or value of `size` bytes."""
        return cls(size, size if only is None else _MAX_VALUE_BYTES)


@dataclass
class _Reader:
    """Reads one tree, which begins at `base` of a file of `size` bytes."""

    file: BinaryIO
    base: int
    size: int
    bounds: _Bounds
    pictures: Callable[[Ifd], bool] | None
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
        """Return a directory and the offset of the next; None if it is none, or one too many."""
        seen, place = self.bounds.seen, self.base + offset
        if place in seen or len(seen) >= _MAX_IFDS or depth > _MAX_DEPTH:
            return None
        seen.add(place)
        head = self._bytes(offset, 2)
        count = struct.unpack(self.order + "H", head)[0] if head else 0
        if not 0 < count <= _MAX_ENTRIES or not (table := self._counted(offset + 2, 12 * count)):
            return None
        # A directory at the file's end may lack the offset of the next one.
        following = self._bytes(offset + 2 + 12 * count, 4) or bytes(4)
        ifd = self._resolved(self._tags(table), depth)
        return ifd, struct.unpack(self.order + "L", following)[0]

    def _bytes(self, at: int, count: int) -> bytes:
        """So many bytes; none where the file doesn't have them all."""
        if not 0 <= at <= self.size - self.base - count:
            return b""
        self.file.seek(self.base + at)
        data = self.file.read(count)
        return data if len(data) == count else b""

    def _counted(self, at: int, count: int) -> bytes:
        """So many bytes, if the bounds have them."""
        data = self._bytes(at, count) if 0 < count <= self.bounds.bytes else b""
        self.bounds.bytes -= len(data)
        return data

    def _tags(self, table: bytes) -> tuple[Tag, ...]:
        """The wanted entries of a directory; of the same code the first that isn't damaged."""
        tags: dict[int, Tag] = {}
        for code, kind, count, value in struct.iter_unpack(self.order + "HHL4s", table):
            if self.only is not None and code not in self.only:
                continue
            tag = self._tag(code, kind, count, value) if code not in tags else None
            if tag is not None:
                tags[code] = tag
        return tuple(tags.values())

    def _tag(self, code: int, kind: int, count: int, value: bytes) -> Tag | None:
        """Return an entry with its bytes, None if damaged."""
        size, each = NUMBERS.get(kind, (0, 0))
        length, at = count * size * each, None
        if length > 4:
            at = struct.unpack(self.order + "L", value)[0]
            data = self._counted(at, length) if length <= self.bounds.value_bytes else b""
        else:
            data = value[:length]
        if not data:
            return None
        data = data if self.order == "<" else swapped(data, kind)
        # A profile is packed anew, and nobody counts from its beginning.
        return Tag(code, kind, count, data, None if self.is_profile else at)

    def _resolved(self, ifd: Ifd, depth: int) -> Ifd:
        """Put what tags point to in the place of offsets; leave out those that point to nothing."""
        pieces = self._pieces(ifd)
        result = []
        for tag in ifd:
            data = tag.data
            if tag.code in _POINTERS or tag.kind == _IFD_TYPE:
                offsets = _unsigned(tag)[:_MAX_IFDS]
                found = [self.directory(offset, depth + 1) for offset in offsets]
                data = Ifds(tuple(nested for nested, _ in filter(None, found)))
            elif tag.code in _PIECES and self.pictures is not None:
                data = Pieces(pieces.get(tag.code, ()))
            elif tag.code == _PROFILES:
                data = Pieces(tuple(self._profiles(tag)))
            if data is tag.data:
                result.append(tag)
            elif data:
                # Their offsets will have 32 bits, however many these had.
                kind = tag.kind if tag.kind == _IFD_TYPE else _LONG
                result.append(Tag(tag.code, kind, len(data), data))
        return tuple(result)

    def _pieces(self, ifd: Ifd) -> dict[int, tuple[bytes, ...]]:
        """Read strips and tiles if wanted; those that aren't all there are left out together."""
        if self.pictures is None or not self.pictures(ifd):
            return {}
        found = {}
        for at_code, length_code in _PIECES.items():
            starts, lengths = integers(ifd, at_code), integers(ifd, length_code)
            if not 0 < len(starts) == len(lengths) <= _MAX_PIECES:
                continue
            pieces = tuple(map(self._counted, starts, lengths))
            if all(pieces):
                found[at_code] = pieces
        return found

    def _profiles(self, tag: Tag) -> Iterator[bytes]:
        """Camera profiles, each as the bytes of a small file; they have none of their own."""
        for offset in () if self.is_profile else _unsigned(tag)[:_MAX_IFDS]:
            base = self.base + offset
            reader = replace(self, base=base, only=None, is_profile=True)
            # None the second time: its directory was seen.
            tree = reader.tree({_PROFILE_MAGIC})
            if tree is not None:
                yield encode(tree.ifds, tree.order, _PROFILE_MAGIC)
