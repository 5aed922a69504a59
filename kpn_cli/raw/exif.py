"""The meaning of a raw file's tags: exposure, time, colour, noise.

Tags and units as in Exif 2.32 and the DNG 1.7 specification. Where a tag is absent,
LibRaw's value from the MakerNote takes its place.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from itertools import takewhile

import numpy as np

from ..image import bayer
from ..image.noise_model import NoiseModel
from .tags import Metadata, Tag

#: Largest value of the ISO tag, a 16-bit integer; the true value is then in another tag.
_ISO_OVERFLOW = 65535

#: LightSource values of D65 and similar illuminants (Exif 2.32, 4.6.5), the closest first.
_DAYLIGHT = (21, 20, 22, 1, 4)


def positive(value: float | None) -> float | None:
    """Return the value if it is a finite number above 0, else None."""
    if value is None or not math.isfinite(value) or value <= 0:
        return None
    return float(value)


def tag_or_libraw(metadata: Metadata, tag: Tag, libraw: float) -> float | None:
    """Return a tag's number, or LibRaw's where the tag is absent; None unless above 0.

    LibRaw's value is not used where the tag is 0: LibRaw turns zeros into 1 s at f/1.
    """
    return positive((metadata.numbers(tag) or (libraw,))[0])


def iso(metadata: Metadata, libraw: float) -> float | None:
    """Return the ISO sensitivity: tag ISO (34855), or a wider tag, or LibRaw's; None if unknown."""
    tags = (Tag.ISO, Tag.ISO_SPEED, Tag.RECOMMENDED_EXPOSURE_INDEX)
    recorded = [number for tag in tags for number in metadata.numbers(tag)[:1]]
    usable = [float(number) for number in (*recorded, libraw) if positive(number)]
    # An overflowed value is better than none, and comes last.
    return min(usable, key=lambda number: number == _ISO_OVERFLOW, default=None)


def captured(metadata: Metadata, libraw: datetime | None) -> datetime | None:
    """Return the local time of the exposure with its fraction of a second, without a zone."""
    for tag, fraction in (
        (Tag.DATE_TIME_ORIGINAL, Tag.SUB_SEC_TIME_ORIGINAL),
        (Tag.DATE_TIME_DIGITIZED, Tag.SUB_SEC_TIME_DIGITIZED),
        (Tag.DATE_TIME, Tag.SUB_SEC_TIME),
    ):
        # Nine digits at most: int() refuses thousands of them.
        parts = [int(part) for part in re.findall(r"\d{1,9}", metadata.text(tag))[:6]]
        digits = "".join(takewhile(str.isdecimal, metadata.text(fraction)))
        microsecond = int(digits[:6].ljust(6, "0"))
        if len(parts) < 3:
            continue
        year, month, day, *clock = parts
        hour, minute, second = (*clock, 0, 0, 0)[:3]
        try:
            return datetime(year, month, day, hour, minute, second, microsecond)
        except (ValueError, OverflowError):  # 0000:00:00
            continue
    # LibRaw gives 1970 where the time is unknown.
    return libraw.replace(tzinfo=None) if libraw is not None and libraw.year > 1970 else None


def orientation(metadata: Metadata) -> int | None:
    """Return the Exif orientation, 1 to 8; None when absent."""
    value = (metadata.numbers(Tag.ORIENTATION) or (0,))[0]
    return int(value) if value in range(1, 9) else None


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
    # By convention ColorMatrix2 is the daylight one, so it comes first among equals.
    best = min(found, key=lambda item: item[0], default=None)
    return None if best is None else np.reshape(best[1], (3, 3))


def noise_profile(metadata: Metadata, phase: str) -> NoiseModel | None:
    """Return the DNG's NoiseProfile (tag 51041: pairs S, O); None when absent or invalid.

    One pair for all planes; three for the colours of CFAPlaneColor (tag 50710); four
    for the pixels of the CFA's 2x2 block, in the order of Android's cameras. A slightly
    negative O, which fits produce, is taken as 0. S must be above 0.

    Args:
        metadata: of the file.
        phase: CFA phase of the mosaic, one of `bayer.PHASES`.
    """
    values = metadata.raw_numbers(Tag.NOISE_PROFILE) or metadata.numbers(Tag.NOISE_PROFILE)
    pairs = [(s, max(o, 0.0)) for s, o in zip(values[::2], values[1::2], strict=False)]
    if len(pairs) not in (1, 3, 4) or not all(0 < s < 1 and o < 1 for s, o in pairs):
        return None
    if len(pairs) == 1:
        pairs *= 4
    elif len(pairs) == 3:
        colours = metadata.raw_integers(Tag.CFA_PLANE_COLOR)
        known = colours if sorted(colours) == [0, 1, 2] else (0, 1, 2)
        red, green, blue = (pairs[known.index(colour)] for colour in range(3))
        pairs = [red, green, green, blue]
    else:
        by_plane = dict(zip(bayer.plane_order(phase), pairs, strict=True))
        pairs = [by_plane[plane] for plane in range(4)]
    (s0, o0), (s1, o1), (s2, o2), (s3, o3) = pairs
    return NoiseModel((s0, s1, s2, s3), (o0, o1, o2, o3))
