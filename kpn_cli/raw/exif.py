"""The meaning of a raw file's tags: exposure, time, colour, noise.

Tags and units as in Exif 2.32 and the DNG 1.7 specification. Where a tag is absent,
LibRaw's value from the MakerNote takes its place.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from ..image import bayer
from ..image.noise_model import NoiseModel
from .tags import Metadata, Tag

#: Largest value of the ISO tag, a 16-bit integer; the true value is then in another tag.
ISO_OVERFLOW = 65535
#: The highest ISO of a camera so far is 4.56 million; above this a tag is damaged.
_MAX_ISO = 1e7
#: Names of the ISO tags in Exif 2.32; the source of a value that LibRaw reads from maker's notes.
_ISO_NAMES = {
    Tag.ISO: "PhotographicSensitivity",
    Tag.ISO_SPEED: "ISOSpeed",
    Tag.RECOMMENDED_EXPOSURE_INDEX: "RecommendedExposureIndex",
    Tag.STANDARD_OUTPUT_SENSITIVITY: "StandardOutputSensitivity",
}
ISO_NAME = _ISO_NAMES[Tag.ISO]
LIBRAW = "LibRaw"
_WIDER_TAGS = tuple(_ISO_NAMES)[1:]
_SOS, _REI = Tag.STANDARD_OUTPUT_SENSITIVITY, Tag.RECOMMENDED_EXPOSURE_INDEX
#: SensitivityType (34864) -> the tags that PhotographicSensitivity repeats (Exif 2.32, 4.6.5).
_SENSITIVITY_TYPES: dict[float, tuple[Tag, ...]] = {
    1: (_SOS,),
    2: (_REI,),
    3: (Tag.ISO_SPEED,),
    4: (_SOS, _REI),
    5: (_SOS, Tag.ISO_SPEED),
    6: (_REI, Tag.ISO_SPEED),
    7: (_SOS, _REI, Tag.ISO_SPEED),
}

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


class Sensitivity(NamedTuple):
    """The ISO sensitivity of a photo.

    Attributes:
        iso: ISO 12232 sensitivity; None when unknown.
        source: the tag that it is from, or `LIBRAW`; "" when unknown.
        problems: what was ignored, a line for the user each.
    """

    iso: float | None
    source: str
    problems: tuple[str, ...] = ()


def plausible_iso(value: float) -> bool:
    """Whether a number can be an ISO sensitivity."""
    return math.isfinite(value) and 1 <= value <= _MAX_ISO


def sensitivity(metadata: Metadata, libraw: float) -> Sensitivity:
    """Return the ISO sensitivity, and which tag states it.

    PhotographicSensitivity (34855) has 16 bits; 65535 means that or more. Then, or where the tag
    is absent, the wider tags (34865 to 34867) are used in the order of SensitivityType (34864),
    then LibRaw's value from the maker's notes (Exif 2.32, 4.6.5).

    Args:
        metadata: of the file.
        libraw: ISO by LibRaw; 0 when unknown.
    """
    problems: list[str] = []
    found: list[tuple[float, str]] = []
    for tag in (Tag.ISO, *_wider_tags(metadata)):
        values = metadata.numbers(tag)
        if tag in metadata.main and not values:
            problems.append(f"the tag {_ISO_NAMES[tag]} holds no number and is ignored")
        elif values and plausible_iso(values[0]):
            found.append((float(values[0]), _ISO_NAMES[tag]))
        elif values and values[0] != 0:  # 0 means unknown
            problems.append(f"{_ISO_NAMES[tag]} {values[0]:g} is no ISO and is ignored")
    damaged = any(ISO_NAME in problem for problem in problems)
    # LibRaw reads the same tag, and takes a text for a number.
    if plausible_iso(libraw) and not damaged:
        found.append((float(libraw), LIBRAW))
    if found[:1] == [(ISO_OVERFLOW, ISO_NAME)]:
        problems += [
            f"{name} {iso:g} is ignored: {ISO_NAME} says {ISO_OVERFLOW} or more"
            for iso, name in found
            if name != LIBRAW and iso < ISO_OVERFLOW
        ]
        # The overflowed value is better than none, and comes last.
        found = [*(one for one in found[1:] if one[0] >= ISO_OVERFLOW), found[0]]
        found.sort(key=lambda one: one == (ISO_OVERFLOW, LIBRAW))
    if not found:
        return Sensitivity(None, "", tuple(problems))
    return Sensitivity(*found[0], problems=tuple(problems))


def _wider_tags(metadata: Metadata) -> list[Tag]:
    """Return the tags of 32 bits, first those that SensitivityType names."""
    named = _SENSITIVITY_TYPES.get((metadata.numbers(Tag.SENSITIVITY_TYPE) or (0,))[0], ())
    return [*named, *(tag for tag in _WIDER_TAGS if tag not in named)]


def iso(metadata: Metadata, libraw: float) -> float | None:
    """Return the ISO sensitivity as `sensitivity` does; None when unknown."""
    return sensitivity(metadata, libraw).iso


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
