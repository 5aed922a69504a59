"""The tags of a raw file that kpn reads: those of TIFF 6.0, Exif 2.32 and DNG 1.7.

These tags plan the bursts and decide about pixels, so they come from kpn's own bounded reader
(`tiff/reader.py`). exifread, which also knows the makers' notes, has no bounds: a file of 786 kB
keeps it busy for over 20 s, and it returns an XMP of a thousand bytes or more as empty. What it
adds is read apart, in the decoder's process (`full_exif.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from ..errors import refuse_unreadable
from ..tiff import fields, reader


class Tag(IntEnum):
    """Codes of the tags that kpn reads from raw files; all others are skipped."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    DOCUMENT_NAME = 269
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
    SENSITIVITY_TYPE = 34864
    STANDARD_OUTPUT_SENSITIVITY = 34865
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
    LINEARIZATION_TABLE = 50712
    BLACK_LEVEL_REPEAT_DIM = 50713
    BLACK_LEVEL = 50714
    BLACK_LEVEL_DELTA_H = 50715
    BLACK_LEVEL_DELTA_V = 50716
    COLOR_MATRIX_1 = 50721
    COLOR_MATRIX_2 = 50722
    AS_SHOT_WHITE_XY = 50729
    CAMERA_SERIAL_NUMBER = 50735
    DNG_PRIVATE_DATA = 50740
    CALIBRATION_ILLUMINANT_1 = 50778
    CALIBRATION_ILLUMINANT_2 = 50779
    RAW_DATA_UNIQUE_ID = 50781
    ACTIVE_AREA = 50829
    OPCODE_LIST_1 = 51008
    NOISE_PROFILE = 51041
    IMAGE_SEQUENCE_INFO = 52548


PHOTOMETRIC_CFA = 32803
PHOTOMETRIC_LINEAR_RAW = 34892

#: A directory: tag -> field. Damaged fields are absent.
Directory = Mapping[int, fields.Field]

_BYTE_TYPES = {1, 7}  # BYTE, UNDEFINED


@dataclass(frozen=True)
class Metadata:
    """The fields of a file's directories.

    Attributes:
        main: fields of the whole photo: Exif's first, then IFD 0's, then the rest.
        raw: fields of the directory with the raw image, a mosaic or linear raw; empty
            where the file is not TIFF or has no such directory.
        file_bytes: length of the file.
        raws: the directories of all full-size raw images, in the order of the file; `raw` is one
            of them, unless there is none.
    """

    main: Directory
    raw: Directory
    file_bytes: int
    raws: tuple[Directory, ...] = ()

    @property
    def is_dng(self) -> bool:
        """Whether the file says it is a DNG (tag 50706)."""
        return Tag.DNG_VERSION in self.main

    def text(self, tag: Tag) -> str:
        """Return a text of the photo without its padding; "" when absent."""
        return reader.text(self.main[tag]) if tag in self.main else ""

    def numbers(self, tag: Tag) -> tuple[float, ...]:
        """Return the numbers of a tag of the photo; () when absent or not numeric."""
        return numbers_of(self.main, tag)

    def blob(self, tag: Tag) -> bytes:
        """Return the bytes of a tag of the photo; b"" when absent or of another type."""
        return _blob(self.main, tag)

    def raw_blob(self, tag: Tag) -> bytes:
        """Return the bytes of a tag of the raw image; b"" when absent or of another type."""
        return _blob(self.raw, tag)

    def raw_numbers(self, tag: Tag) -> tuple[float, ...]:
        """Return the numbers of a tag of the raw image; () when absent or not numeric."""
        return numbers_of(self.raw, tag)

    def raw_integers(self, tag: Tag) -> tuple[int, ...]:
        """Return a tag of the raw image as integers; () when absent or not all finite."""
        values = self.raw_numbers(tag)
        return tuple(int(n) for n in values) if np.isfinite(values).all() else ()


def _blob(directory: Directory, tag: Tag) -> bytes:
    field = directory.get(tag)
    if field is None or field.kind not in _BYTE_TYPES or not isinstance(field.data, bytes):
        return b""
    return field.data


def numbers_of(directory: Directory, tag: Tag) -> tuple[float, ...]:
    """Return the numbers of a tag; () when absent or not numeric."""
    return reader.numbers(directory[tag]) if tag in directory else ()


def read_metadata(path: Path) -> Metadata:
    """Return the tags of a file; none where its format is unknown.

    Raises:
        KpnError: if the file cannot be read.
    """
    tree = reader.read_tree(path, read_segments=None, only=_WANTED)
    try:
        size = path.stat().st_size
    except OSError as error:  # removed in the meantime
        refuse_unreadable(path, error)
    ifds = reader.walk(tree.ifds) if tree is not None else ()
    directories = [{field.code: field for field in ifd} for ifd in ifds]
    main: dict[int, fields.Field] = {}
    # Directories with Exif tags first, the others in file order: so previews, which come last,
    # override nothing.
    for directory in sorted(directories, key=_EXIF_ONLY.isdisjoint):
        main = directory | main
    return Metadata(main, raw_directory(directories), size, raw_directories(directories))


_WANTED = frozenset(map(int, Tag))
_EXIF_ONLY = {Tag.DATE_TIME_ORIGINAL, Tag.EXPOSURE_TIME, Tag.F_NUMBER}


def raw_directory(directories: Sequence[Directory]) -> Directory:
    """Return the directory of the raw image: full size before reduced, mosaic before linear.

    Of equal ones the first; an empty one if there is none.
    """

    def rank(directory: Directory) -> tuple[bool, bool, float]:
        width, height = (numbers_of(directory, tag) or (0,) for tag in (Tag.WIDTH, Tag.HEIGHT))
        is_mosaic = numbers_of(directory, Tag.PHOTOMETRIC) == (PHOTOMETRIC_CFA,)
        return _is_full_size(directory), is_mosaic, width[0] * height[0]

    return max(filter(_is_raw, directories), key=rank, default={})


def raw_directories(directories: Sequence[Directory]) -> tuple[Directory, ...]:
    """Return the directories of all full-size raw images, mosaics and linear ones, in order."""
    return tuple(d for d in directories if _is_raw(d) and _is_full_size(d) and _has_size(d))


def _is_raw(directory: Directory) -> bool:
    photometric = numbers_of(directory, Tag.PHOTOMETRIC)
    return photometric in ((PHOTOMETRIC_CFA,), (PHOTOMETRIC_LINEAR_RAW,))


def _has_size(directory: Directory) -> bool:
    sides = [numbers_of(directory, tag)[:1] for tag in (Tag.WIDTH, Tag.HEIGHT)]
    return all(side and 0 < side[0] < 1 << 16 for side in sides)  # as LibRaw counts images


def _is_full_size(directory: Directory) -> bool:
    return numbers_of(directory, Tag.NEW_SUBFILE_TYPE) in ((), (0,))
