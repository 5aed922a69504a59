"""The tags of a raw file that kpn understands: TIFF's, Exif's and DNG's.

Numbers of tags: TIFF 6.0, Exif 2.32, DNG 1.7 specification.
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
    """The tags of raw files that kpn reads; all others are skipped unread."""

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

#: A directory: code of a tag -> the tag. Damaged ones are absent.
Directory = Mapping[int, fields.Field]

_BYTE_TYPES = {1, 7}  # BYTE, UNDEFINED


@dataclass(frozen=True)
class Metadata:
    """What the directories of a file say.

    Attributes:
        main: tags of the whole photo: Exif's first, then IFD 0's, then the rest.
        picture: tags of the directory that holds the raw mosaic or linear raw; empty
            where the file isn't TIFF or doesn't say.
        bytes: length of the file.
    """

    main: Directory
    picture: Directory
    bytes: int

    @property
    def is_dng(self) -> bool:
        """Whether the file says it is a DNG (tag 50706)."""
        return Tag.DNG_VERSION in self.main

    def text(self, tag: Tag) -> str:
        """A text tag of the photo without its padding, "" when absent."""
        return reader.text(self.main[tag]) if tag in self.main else ""

    def numbers(self, tag: Tag) -> tuple[float, ...]:
        """A tag of the photo; () when absent or not numeric."""
        return _numbers(self.main, tag)

    def blob(self, tag: Tag) -> bytes:
        """A tag of the photo that consists of bytes; b"" when absent or of another kind."""
        found = self.main.get(tag)
        return found.data if found is not None and found.kind in _BYTE_TYPES else b""

    def picture_numbers(self, tag: Tag) -> tuple[float, ...]:
        """A tag of the raw picture; () when absent or not numeric."""
        return _numbers(self.picture, tag)

    def picture_integers(self, tag: Tag) -> tuple[int, ...]:
        """A tag of the raw picture as integers; () when absent or with a number that is none."""
        values = self.picture_numbers(tag)
        return tuple(int(n) for n in values) if np.isfinite(values).all() else ()


def _numbers(directory: Directory, tag: Tag) -> tuple[float, ...]:
    return reader.numbers(directory[tag]) if tag in directory else ()


def read_metadata(path: Path) -> Metadata:
    """Return the tags of a file; without any where it is of no known kind.

    Raises:
        KpnError: if the file can't be read.
    """
    tree = reader.read_tree(path, read_segments=None, only=_WANTED)
    try:
        size = path.stat().st_size
    except OSError as error:  # gone in the meantime
        refuse_unreadable(path, error)
    ifds = reader.walk(tree.ifds) if tree is not None else ()
    directories = [{tag.code: tag for tag in ifd} for ifd in ifds]
    main: dict[int, fields.Field] = {}
    # The sort keeps file order otherwise, so previews come last and hide nothing.
    for directory in sorted(directories, key=_EXIF_ONLY.isdisjoint):
        main = directory | main
    return Metadata(main, _picture(directories), size)


_WANTED = frozenset(map(int, Tag))
_EXIF_ONLY = {Tag.DATE_TIME_ORIGINAL, Tag.EXPOSURE_TIME, Tag.F_NUMBER}


def _picture(directories: Sequence[Directory]) -> Directory:
    """The directory of the raw picture: full size rather than reduced, the largest of these."""
    mosaic, linear = (PHOTOMETRIC_CFA,), (PHOTOMETRIC_LINEAR_RAW,)
    photometric = [_numbers(directory, Tag.PHOTOMETRIC) for directory in directories]

    def rank(index: int) -> tuple[bool, bool, float]:
        directory = directories[index]
        width, height = (_numbers(directory, tag) or (0,) for tag in (Tag.WIDTH, Tag.HEIGHT))
        full_size = _numbers(directory, Tag.NEW_SUBFILE_TYPE) in ((), (0,))
        return full_size, photometric[index] == mosaic, width[0] * height[0]

    candidates = [i for i, said in enumerate(photometric) if said in (mosaic, linear)]
    return directories[max(candidates, key=rank)] if candidates else {}
