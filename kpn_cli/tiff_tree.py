"""A whole TIFF tree from a file, every tag as it is, within bounds.

`metadata.py` reads the few tags that kpn understands; this reads all, to be written
again: values as their bytes, directories and pieces of pictures as what they are, so
that they may move. Hostile trees point at themselves, at each other and outside the
file. So each directory is read once and there are no more than `_MAX_IFDS` of them, and
all entries and values together are no more bytes than the file has, camera profiles
included. Only the Exif blocks inside of other files are counted anew: an RW2's lies within
one of its values. A damaged entry is left out; the rest is read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .metadata import MAGIC, exif_blocks
from .raw_checks import refuse
from .tiff import NUMBERS, Ifd, Ifds, Pieces, Tag, encode, swapped

#: Tags that point to directories: SubIFDs, Exif, GPS, Interoperability.
_POINTERS = {330, 34665, 34853, 40965}
_LONG, _IFD_TYPE = 4, 13
_UNSIGNED = {1, 3, 4, 13}
_RATIONAL = 5

#: Tags that point to pieces of a picture -> those that say how long they are.
_PIECES = {273: 279, 324: 325, 513: 514}

#: ExtraCameraProfiles (DNG 1.2): offsets of trees with offsets of their own, no lengths.
_PROFILES = 50933
_PROFILE_MAGIC = 0x4352

_MAX_IFDS = 64
_MAX_DEPTH = 6
_MAX_ENTRIES = 2048
_MAX_PIECES = 1 << 18


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


def read_tree(path: Path, wanted: Callable[[Ifd], bool] = lambda ifd: False) -> Tree | None:
    """Return the tree of a file, or that of its Exif block where it is no TIFF; None without.

    Args:
        path: the file.
        wanted: says of a directory whether its strips and tiles are read too; the tags that
            point to those of the others are left out.

    Raises:
        KpnError: if the file can't be read.
    """
    try:
        return _read_tree(path, wanted)
    except OSError as error:
        refuse(path, f"cannot be read ({error.strerror})", "check the file and its permissions")


def _read_tree(path: Path, wanted: Callable[[Ifd], bool]) -> Tree | None:
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        tree = _Reader(file, 0, size, _Bounds(size), wanted).tree(MAGIC)
        if tree is not None and not _is_panasonic(file):
            return tree
        bounds = _Bounds(size)
        readers = [_Reader(file, base, size, bounds, wanted) for base in exif_blocks(file)]
        found = [tree, *(reader.tree(MAGIC) for reader in readers)]
    trees = [tree for tree in found if tree is not None]
    if not trees:
        return None
    # A CR3 has IFD 0 and Exif in two trees.
    return Tree(trees[0].order, tuple(ifd for tree in trees for ifd in tree.ifds))


def _is_panasonic(file: BinaryIO) -> bool:
    """Whether it is an RW2, whose preview has the Exif that its own directories haven't."""
    file.seek(0)
    return file.read(4) == b"IIU\0"


def numbers(tag: Tag) -> tuple[int, ...]:
    """Return the values of a tag of unsigned integers; () for others."""
    if not isinstance(tag.data, bytes) or tag.kind not in _UNSIGNED:
        return ()
    return tuple(np.frombuffer(tag.data, f"<u{NUMBERS[tag.kind][0]}").tolist())


def integers(ifd: Ifd, code: int) -> tuple[int, ...]:
    """Return the unsigned integers of a directory's tag; () where absent."""
    return next((numbers(tag) for tag in ifd if tag.code == code), ())


def fractions(ifd: Ifd, code: int) -> tuple[float, ...]:
    """Return the numbers >= 0 of a directory's tag; () where absent or one is none."""
    for tag in ifd:
        if tag.code == code and tag.kind == _RATIONAL and isinstance(tag.data, bytes):
            parts = np.frombuffer(tag.data, "<u4").astype(float)
            return tuple((parts[::2] / parts[1::2]).tolist()) if parts[1::2].all() else ()
    return tuple(float(value) for value in integers(ifd, code))


@dataclass
class _Bounds:
    """What may be read yet of a file: bytes of entries and values, places of directories."""

    bytes: int
    seen: set[int] = field(default_factory=set)


@dataclass
class _Reader:
    """Reads one tree, which begins at `base` of a file of `size` bytes."""

    file: BinaryIO
    base: int
    size: int
    bounds: _Bounds
    wanted: Callable[[Ifd], bool]
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
        while first and (found := self._ifd(first, 0)) is not None:
            ifd, first = found
            ifds.append(ifd)
        return Tree(order, tuple(ifds)) if ifds else None

    def _bytes(self, at: int, count: int) -> bytes:
        """So many bytes; none where the file doesn't have them all."""
        if not 0 <= at <= self.size - self.base - count:
            return b""
        self.file.seek(self.base + at)
        data = self.file.read(count)
        return data if len(data) == count else b""

    def _value(self, at: int, count: int) -> bytes:
        """So many bytes, if the bounds have them."""
        data = self._bytes(at, count) if 0 < count <= self.bounds.bytes else b""
        self.bounds.bytes -= len(data)
        return data

    def _ifd(self, offset: int, depth: int) -> tuple[Ifd, int] | None:
        """Return a directory and the offset of the next; None if it is none, or one too many."""
        seen, place = self.bounds.seen, self.base + offset
        if place in seen or len(seen) >= _MAX_IFDS or depth > _MAX_DEPTH:
            return None
        seen.add(place)
        head = self._bytes(offset, 2)
        count = struct.unpack(self.order + "H", head)[0] if head else 0
        if not 0 < count <= _MAX_ENTRIES or not (table := self._value(offset + 2, 12 * count)):
            return None
        tags: dict[int, Tag] = {}
        for at in range(0, 12 * count, 12):
            tag = self._entry(table[at : at + 12])
            if tag is not None:
                tags.setdefault(tag.code, tag)
        # A directory at the file's end may lack the offset of the next one.
        following = self._bytes(offset + 2 + 12 * count, 4) or bytes(4)
        ifd = self._resolved(tuple(tags.values()), depth)
        return ifd, struct.unpack(self.order + "L", following)[0]

    def _entry(self, entry: bytes) -> Tag | None:
        """Return an entry with its bytes, None if damaged."""
        code, kind, count = struct.unpack(self.order + "HHL", entry[:8])
        size, each = NUMBERS.get(kind, (0, 0))
        length, at = count * size * each, None
        if length > 4:
            at = struct.unpack(self.order + "L", entry[8:])[0]
            data = self._value(at, length)
        else:
            data = entry[8 : 8 + length]
        if not data:
            return None
        data = data if self.order == "<" else swapped(data, kind)
        # A profile is packed anew, and nobody counts from its beginning.
        return Tag(code, kind, count, data, None if self.is_profile else at)

    def _resolved(self, ifd: Ifd, depth: int) -> Ifd:
        """Put what tags point to in the place of offsets; leave out those that point to nothing."""
        pieces = self._pieces(ifd) if self.wanted(ifd) else {}
        result = []
        for tag in ifd:
            data = tag.data
            if tag.code in _POINTERS or tag.kind == _IFD_TYPE:
                found = [self._ifd(offset, depth + 1) for offset in numbers(tag)[:_MAX_IFDS]]
                data = Ifds(tuple(nested for nested, _ in filter(None, found)))
            elif tag.code in _PIECES:
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
        """Read strips and tiles; those that aren't all there are left out together."""
        found = {}
        for at_code, length_code in _PIECES.items():
            starts, lengths = integers(ifd, at_code), integers(ifd, length_code)
            if not 0 < len(starts) == len(lengths) <= _MAX_PIECES:
                continue
            pieces = tuple(map(self._value, starts, lengths))
            if all(pieces):
                found[at_code] = pieces
        return found

    def _profiles(self, tag: Tag) -> Iterator[bytes]:
        """Camera profiles, each as the bytes of a small file; they have none of their own."""
        for offset in () if self.is_profile else numbers(tag)[:_MAX_IFDS]:
            base = self.base + offset
            reader = _Reader(self.file, base, self.size, self.bounds, self.wanted, is_profile=True)
            # None the second time: its directory was seen.
            tree = reader.tree({_PROFILE_MAGIC})
            if tree is not None:
                yield encode(tree.ifds, tree.order, _PROFILE_MAGIC)
