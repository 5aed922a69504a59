"""What the tags of a raw file mean: exposure, time, black levels, colour, noise.

Numbers and units are those of Exif 2.32 and the DNG 1.7 specification. Where a tag
is absent, what LibRaw found in the maker's own notes stands in.
"""

from __future__ import annotations

import math
import re
from datetime import datetime

import numpy as np

from ..image import bayer
from ..image.noise_model import NoiseModel
from .tags import Metadata, Tag

#: The short integer of the ISO tag can't say more; another tag has the real one then.
_ISO_OVERFLOW = 65535

#: LightSource values of D65 and its likes (Exif 2.32, 4.6.5): the best first.
_DAYLIGHT = (21, 20, 22, 1, 4)


def positive(value: float | None) -> float | None:
    """The value if it is a number above 0, else None."""
    usable = value is not None and math.isfinite(value) and value > 0
    return float(value) if usable else None


def measure(metadata: Metadata, tag: Tag, libraw: float) -> float | None:
    """A tag above 0, or LibRaw's finding where the tag is absent.

    Not where it is 0: LibRaw makes 1 s at f/1 of that.
    """
    return positive((metadata.numbers(tag) or (libraw,))[0])


def iso(metadata: Metadata, libraw: float) -> float | None:
    """The sensitivity: ISO (34855), or those with more room, or LibRaw's."""
    tags = (Tag.ISO, Tag.ISO_SPEED, Tag.RECOMMENDED_EXPOSURE_INDEX)
    said = [number for tag in tags for number in metadata.numbers(tag)[:1]]
    found = [float(number) for number in (*said, libraw) if positive(number)]
    # An overflow is better than nothing, and comes last.
    return min(found, key=lambda number: number == _ISO_OVERFLOW, default=None)


def captured(metadata: Metadata, libraw: datetime | None) -> datetime | None:
    """The local time of the exposure, with the file's fraction of a second; no zone."""
    for tag, fraction in (
        (Tag.DATE_TIME_ORIGINAL, Tag.SUB_SEC_TIME_ORIGINAL),
        (Tag.DATE_TIME_DIGITIZED, Tag.SUB_SEC_TIME_DIGITIZED),
        (Tag.DATE_TIME, Tag.SUB_SEC_TIME),
    ):
        # No number of a date is longer; int() refuses thousands of digits.
        parts = [int(part) for part in re.findall(r"\d{1,9}", metadata.text(tag))[:6]]
        digits = re.match(r"\d*", metadata.text(fraction)).group()
        microsecond = int(digits[:6].ljust(6, "0"))
        try:
            return datetime(*parts, microsecond=microsecond)
        except (TypeError, ValueError, OverflowError):  # absent, or 0000:00:00
            continue
    # LibRaw says 1970 for unknown.
    return libraw.replace(tzinfo=None) if libraw is not None and libraw.year > 1970 else None


def orientation(metadata: Metadata) -> int | None:
    """EXIF orientation 1-8, None when absent."""
    value = (metadata.numbers(Tag.ORIENTATION) or (0,))[0]
    return int(value) if value in range(1, 9) else None


def dng_black(metadata: Metadata, top: int, left: int) -> list[float] | None:
    """Return the black level of a DNG's 2x2 pixels at a place of the frame.

    BlackLevel (tag 50714) repeats from the ActiveArea's origin in BlackLevelRepeatDim
    (50713); BlackLevelDeltaH and V (50715, 50716) add to its columns and rows. Larger
    patterns than 2x2 and deltas are averaged over each plane.

    Returns:
        Four levels in DN, row by row; None without a usable BlackLevel.
    """
    levels = metadata.picture_numbers(Tag.BLACK_LEVEL)
    repeat = metadata.picture_integers(Tag.BLACK_LEVEL_REPEAT_DIM)
    rows, columns = repeat if len(repeat) == 2 else (1, 1)
    fits = min(rows, columns) > 0 and len(levels) == rows * columns
    if not fits or not np.isfinite(levels).all():
        return None
    # Twice over, so that every parity of an odd period gets its share.
    pattern = np.tile(np.reshape(levels, (rows, columns)), (2, 2))
    delta_rows = metadata.picture_numbers(Tag.BLACK_LEVEL_DELTA_V)
    delta_columns = metadata.picture_numbers(Tag.BLACK_LEVEL_DELTA_H)
    area = metadata.picture_integers(Tag.ACTIVE_AREA)
    area_top, area_left = area[:2] if len(area) == 4 else (0, 0)
    row, column = (top - area_top) % 2, (left - area_left) % 2
    return [
        float(pattern[y::2, x::2].mean()) + _mean(delta_rows[y::2]) + _mean(delta_columns[x::2])
        for y in (row, 1 - row)
        for x in (column, 1 - column)
    ]


def _mean(deltas: tuple[float, ...]) -> float:
    return sum(deltas) / len(deltas) if deltas and np.isfinite(deltas).all() else 0.0


def dng_color_matrix(metadata: Metadata) -> np.ndarray | None:
    """Return the DNG's ColorMatrix (tags 50721, 50722) of the illuminant nearest D65.

    Returns:
        3x3, XYZ -> camera; None when absent.
    """
    found = []
    for tag, illuminant in (
        (Tag.COLOR_MATRIX_2, Tag.CALIBRATION_ILLUMINANT_2),
        (Tag.COLOR_MATRIX_1, Tag.CALIBRATION_ILLUMINANT_1),
    ):
        values = metadata.numbers(tag)
        light = (metadata.numbers(illuminant) or (0,))[0]
        if len(values) == 9:
            rank = _DAYLIGHT.index(light) if light in _DAYLIGHT else len(_DAYLIGHT)
            found.append((rank, values))
    # ColorMatrix2 is the daylight one by custom, so it wins a draw.
    best = min(found, key=lambda item: item[0], default=None)
    return None if best is None else np.reshape(best[1], (3, 3))


def noise_profile(metadata: Metadata, phase: str) -> NoiseModel | None:
    """Return the DNG's NoiseProfile (tag 51041: pairs S, O), None when absent or void.

    One pair for all planes; three for the colours of CFAPlaneColor (tag 50710); four
    for the pixels of the CFA's 2x2 block, as Android's cameras count them. Fits with
    an offset a little below 0 happen; they mean none. Without any slope it's void.
    """
    values = metadata.picture_numbers(Tag.NOISE_PROFILE) or metadata.numbers(Tag.NOISE_PROFILE)
    pairs = [(s, max(o, 0.0)) for s, o in zip(values[::2], values[1::2], strict=False)]
    if len(pairs) not in (1, 3, 4) or not all(0 < s < 1 and o < 1 for s, o in pairs):
        return None
    if len(pairs) == 1:
        pairs *= 4
    elif len(pairs) == 3:
        colours = metadata.picture_integers(Tag.CFA_PLANE_COLOR)
        known = colours if sorted(colours) == [0, 1, 2] else (0, 1, 2)
        red, green, blue = (pairs[known.index(colour)] for colour in range(3))
        pairs = [red, green, green, blue]
    else:
        by_plane = dict(zip(bayer.plane_order(phase), pairs, strict=True))
        pairs = [by_plane[plane] for plane in range(4)]
    shot, read = zip(*pairs, strict=True)
    return NoiseModel(shot, read)
