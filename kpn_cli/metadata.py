"""The tags of a raw file: TIFF's, Exif's and DNG's, read within bounds.

Most raw files are TIFF trees (DNG, NEF, CR2, ARW, PEF, RW2, ORF); others carry an
Exif block (RAF inside its preview, CR3 in its CMT boxes). Hostile files exist whose
directories point at each other or claim gigabytes, so what is read is counted:
so many directories, so many entries, so many bytes a value, only tags we use.
Numbers of types and tags: TIFF 6.0 section 2, Exif 2.32, DNG 1.7 specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np


class Tag(IntEnum):
    """The tags that kpn reads; all others are skipped unread."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    COMPRESSION = 259
    PHOTOMETRIC = 262
    MAKE = 271
    MODEL = 272
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    SOFTWARE = 305
    DATE_TIME = 306
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    SUB_IFDS = 330
    SAMPLE_FORMAT = 339
    XMP = 700
    CFA_PATTERN = 33422
    EXPOSURE_TIME = 33434
    F_NUMBER = 33437
    EXIF_IFD = 34665
    ISO = 34855
    RECOMMENDED_EXPOSURE_INDEX = 34866
    ISO_SPEED = 34867
    DATE_TIME_ORIGINAL = 36867
    DATE_TIME_DIGITIZED = 36868
    FOCAL_LENGTH = 37386
    MAKER_NOTE = 37500
    SUB_SEC_TIME = 37520
    SUB_SEC_TIME_ORIGINAL = 37521
    SUB_SEC_TIME_DIGITIZED = 37522
    EXPOSURE_MODE = 41986
    IMAGE_UNIQUE_ID = 42016
    BODY_SERIAL_NUMBER = 42033
    DNG_VERSION = 50706
    UNIQUE_CAMERA_MODEL = 50708
    CFA_PLANE_COLOR = 50710
    BLACK_LEVEL_REPEAT_DIM = 50713
    BLACK_LEVEL = 50714
    BLACK_LEVEL_DELTA_H = 50715
    BLACK_LEVEL_DELTA_V = 50716
    COLOR_MATRIX_1 = 50721
    COLOR_MATRIX_2 = 50722
    CAMERA_SERIAL_NUMBER = 50735
    CALIBRATION_ILLUMINANT_1 = 50778
    CALIBRATION_ILLUMINANT_2 = 50779
    RAW_DATA_UNIQUE_ID = 50781
    ACTIVE_AREA = 50829
    NOISE_PROFILE = 51041
    IMAGE_SEQUENCE_INFO = 52548


PHOTOMETRIC_CFA = 32803
PHOTOMETRIC_LINEAR_RAW = 34892

#: A directory: tag -> text, or a tuple of numbers. Damaged entries are absent.
Ifd = dict[int, "str | tuple[float, ...]"]

#: TIFF, Panasonic RW2, Olympus ORF (two of them): the number after the byte order.
MAGIC = {42, 0x55, 0x4F52, 0x5352}

_MAX_IFDS = 32
_MAX_ENTRIES = 1024
_MAX_VALUE_BYTES = 1 << 18
#: How far into a file of another kind its Exif block may begin.
_MAX_SEARCH_BYTES = 1 << 20

_ASCII, _UTF_8 = 2, 129
_RATIONALS = {5: "u4", 10: "i4"}
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 11: "f4", 12: "f8",
            13: "u4"}  # fmt: skip
_TYPE_BYTES = {kind: int(code[1]) for kind, code in _NUMBERS.items()} | {
    _ASCII: 1, _UTF_8: 1, 5: 8, 10: 8}  # fmt: skip


@dataclass(frozen=True)
class Metadata:
    """What the directories of a file say.

    Attributes:
        main: tags of the whole photo: Exif's first, then IFD 0's, then the rest.
        picture: tags of the directory that holds the raw mosaic or linear raw; empty
            where the file isn't TIFF or doesn't say.
        bytes: length of the file.
    """

    main: Ifd
    picture: Ifd
    bytes: int

    @property
    def is_dng(self) -> bool:
        """Whether the file says it is a DNG (tag 50706)."""
        return Tag.DNG_VERSION in self.main

    def text(self, tag: Tag) -> str:
        """A text tag of the photo without its padding, "" when absent."""
        value = self.main.get(tag, "")
        return value if isinstance(value, str) else ""

    def numbers(self, tag: Tag) -> tuple[float, ...]:
        """A tag of the photo; () when absent or not numeric."""
        return _numbers(self.main, tag)

    def blob(self, tag: Tag) -> bytes:
        """A tag of the photo whose numbers are bytes; b"" when absent or of another kind."""
        values = self.numbers(tag)
        return bytes(map(int, values)) if all(value in range(256) for value in values) else b""

    def picture_numbers(self, tag: Tag) -> tuple[float, ...]:
        """A tag of the raw picture; () when absent or not numeric."""
        return _numbers(self.picture, tag)

    def picture_integers(self, tag: Tag) -> tuple[int, ...]:
        """A tag of the raw picture as integers; () when absent or with a number that is none."""
        values = self.picture_numbers(tag)
        return tuple(int(n) for n in values) if np.isfinite(values).all() else ()


def _numbers(ifd: Ifd, tag: Tag) -> tuple[float, ...]:
    value = ifd.get(tag, ())
    return () if isinstance(value, str) else value


def read_metadata(path: Path) -> Metadata:
    """Return the tags of a file; without any where it is of no known kind.

    Raises:
        OSError: if the file can't be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        ifds = _read_tree(file, 0, size) or [
            ifd for base in exif_blocks(file) for ifd in _read_tree(file, base, size)
        ]
    main: Ifd = {}
    # The sort keeps file order otherwise, so previews come last and hide nothing.
    for ifd in sorted(ifds, key=_EXIF_ONLY.isdisjoint):
        main = ifd | main
    return Metadata(main, _picture(ifds), size)


_EXIF_ONLY = {Tag.DATE_TIME_ORIGINAL, Tag.EXPOSURE_TIME, Tag.F_NUMBER}


def _picture(ifds: list[Ifd]) -> Ifd:
    """The directory of the raw picture: full size rather than reduced, the largest of these."""
    raw = (PHOTOMETRIC_CFA,), (PHOTOMETRIC_LINEAR_RAW,)
    candidates = [ifd for ifd in ifds if ifd.get(Tag.PHOTOMETRIC) in raw]

    def rank(ifd: Ifd) -> tuple[bool, bool, float]:
        width, height = (_numbers(ifd, tag) or (0,) for tag in (Tag.WIDTH, Tag.HEIGHT))
        area = width[0] * height[0]
        full_size = ifd.get(Tag.NEW_SUBFILE_TYPE, (0,)) == (0,)
        return full_size, ifd[Tag.PHOTOMETRIC] == raw[0], area

    return max(candidates, key=rank, default={})


#: What comes before a TIFF tree, and how far it then is: Exif of a preview, the boxes of a CR3
#: (IFD 0, Exif, GPS), the block of an MRW.
_BLOCKS = {b"CMT1": 4, b"CMT2": 4, b"CMT4": 4, b"Exif\0\0": 6, b"\0TTW": 8}


def exif_blocks(file: BinaryIO) -> list[int]:
    """Offsets of the TIFF trees in a file that isn't one."""
    file.seek(0)
    head = file.read(_MAX_SEARCH_BYTES)
    found = ((head.find(marker), length) for marker, length in _BLOCKS.items())
    return [at + length for at, length in found if at >= 0]


def _read_tree(file: BinaryIO, base: int, size: int) -> list[Ifd]:
    """Return the directories of the TIFF that begins at `base`, in file order; [] if none does."""
    file.seek(base)
    header = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None or len(header) < 8:
        return []
    magic, first = struct.unpack(order + "HI", header[2:])
    if magic not in MAGIC:
        return []
    ifds: list[Ifd] = []
    pending, seen = [first], {0}
    while pending and len(ifds) < _MAX_IFDS:
        offset = pending.pop(0)
        if offset in seen:
            continue
        seen.add(offset)
        ifd, following = _read_ifd(file, base, offset, size, order)
        ifds.append(ifd)
        for tag in (Tag.SUB_IFDS, Tag.EXIF_IFD):
            pending += [int(n) for n in _numbers(ifd, tag)[:_MAX_IFDS] if 0 <= n < size]
        pending.append(following)
    return ifds


def _read_ifd(file: BinaryIO, base: int, offset: int, size: int, order: str) -> tuple[Ifd, int]:
    """Return the wanted tags of one directory and the offset of the next, 0 for none."""
    file.seek(base + offset)
    head = file.read(2)
    if len(head) < 2:
        return {}, 0
    count = min(struct.unpack(order + "H", head)[0], _MAX_ENTRIES)
    entries = file.read(12 * count + 4)
    ifd: Ifd = {}
    for at in range(0, min(12 * count, len(entries) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", entries, at)
        if tag not in _WANTED or tag in ifd or kind not in _TYPE_BYTES:
            continue
        length = number * _TYPE_BYTES[kind]
        if not 0 < length <= _MAX_VALUE_BYTES:
            continue
        data = entries[at + 8 : at + 8 + length]
        if length > 4:
            where = base + struct.unpack_from(order + "I", entries, at + 8)[0]
            if where + length > size:
                continue
            file.seek(where)
            data = file.read(length)
        ifd[tag] = _value(data, kind, order)
    ended = len(entries) == 12 * count + 4
    return ifd, struct.unpack_from(order + "I", entries, 12 * count)[0] if ended else 0


_WANTED = frozenset(Tag)


def _value(data: bytes, kind: int, order: str) -> str | tuple[float, ...]:
    if kind in (_ASCII, _UTF_8):
        text = data.split(b"\0")[0].decode("utf-8", "replace")
        return "".join(c for c in text if c.isprintable()).strip()
    if kind in _RATIONALS:
        parts = np.frombuffer(data, order + _RATIONALS[kind]).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return tuple((parts[::2] / parts[1::2]).tolist())
    return tuple(np.frombuffer(data, order + _NUMBERS[kind]).tolist())
