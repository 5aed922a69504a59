"""Which of the raw images in one file are frames of a burst.

Most files hold one. Several are in a DNG with several mosaics of full size, in the pixel-shift
and HDR files of Pentax (PEF), in Canon's rolls of CR3 frames; but also in Canon's dual-pixel
files, whose second image shows half of the light, and in those of Fujifilm's Super CCD SR, whose
second image is of low sensitivity. LibRaw calls the images shots and numbers them from 0.

A DNG tells by its tags which images have the same size and exposure (DNG 1.7.1, chapter 4:
NewSubFileType 0 for each). In makers' formats only the maker and the number tell what they are;
where these do not, the first one is used. What the pictures show is checked after decoding
(`pipeline/loading.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import exposure
from .tags import PHOTOMETRIC_CFA, Directory, Metadata, Tag, numbers_of

#: More images than this in a file are not counted.
_MAX_IMAGES = 1024
#: Tags of a mosaic that are the same in all frames of a burst.
_LAYOUT = (Tag.WIDTH, Tag.HEIGHT, Tag.SAMPLES_PER_PIXEL, Tag.CFA_PATTERN, Tag.ACTIVE_AREA)
#: In a mosaic with two samples a pixel, the second is of low sensitivity (Fujifilm SR).
_TWO_SENSITIVITIES = (2,)


@dataclass(frozen=True)
class Images:
    """The raw images of a file.

    Attributes:
        shots: LibRaw's numbers of those that may be frames of a burst, at least one.
        note: a line for the user where there are several; else "".
    """

    shots: tuple[int, ...] = (0,)
    note: str = ""


def dng_images(metadata: Metadata) -> Images:
    """Return the images of a DNG, by its tags."""
    shots: dict[int, int] = {}  # index in `raws` -> number of LibRaw
    count = 0
    for index, directory in enumerate(metadata.raws):
        shots[index] = count
        count += 1 + (numbers_of(directory, Tag.SAMPLES_PER_PIXEL) == _TWO_SENSITIVITIES)
    if count < 2:
        return Images()
    frames = frames_like(metadata.raw, metadata.raws)
    used = tuple(shots[index] for index in frames)
    return Images(used, _note(count, len(used), "they differ in size, exposure or sensitivity"))


def frame_directory(metadata: Metadata, image: int) -> Directory:
    """Return the directory of a frame of a DNG by its number among them."""
    return metadata.raws[frames_like(metadata.raw, metadata.raws)[image]]


def frames_like(chosen: Directory, raws: Sequence[Directory]) -> list[int]:
    """Return the indices of the mosaics with the size and exposure of the chosen one, itself too.

    Only that of the chosen one if it is no mosaic, or holds two sensitivities.
    """
    own = next((index for index, directory in enumerate(raws) if directory is chosen), 0)
    alone = (
        numbers_of(chosen, Tag.PHOTOMETRIC) != (PHOTOMETRIC_CFA,)
        or numbers_of(chosen, Tag.SAMPLES_PER_PIXEL) == _TWO_SENSITIVITIES
    )
    if alone:
        return [own]
    return [index for index, other in enumerate(raws) if index == own or _alike(chosen, other)]


def _alike(one: Directory, other: Directory) -> bool:
    if numbers_of(other, Tag.PHOTOMETRIC) != (PHOTOMETRIC_CFA,):
        return False
    if any(numbers_of(one, tag) != numbers_of(other, tag) for tag in _LAYOUT):
        return False
    return exposure.match(_exposure(one), _exposure(other)) is exposure.Match.SAME


@dataclass(frozen=True)
class _Exposure:
    """The settings in the directory of an image; None where it states none that can be used."""

    iso: float | None
    exposure_time: float | None
    f_number: float | None


def _exposure(directory: Directory) -> _Exposure:
    def first(tag: Tag) -> float | None:
        value = next(iter(numbers_of(directory, tag)), 0)
        return float(value) if 0 < value < math.inf else None

    return _Exposure(first(Tag.ISO), first(Tag.EXPOSURE_TIME), first(Tag.F_NUMBER))


def maker_images(metadata: Metadata, has_image: Callable[[int], bool]) -> Images:
    """Return the images of a file in a maker's format.

    Args:
        metadata: of the file.
        has_image: whether LibRaw knows an image of this number.
    """
    if not has_image(1):
        return Images()
    count = _count(has_image)
    make = metadata.text(Tag.MAKE).upper()
    # Two images of Canon's are the two halves of its dual pixels, or a short roll.
    are_frames = make.startswith(("PENTAX", "RICOH")) or (make.startswith("CANON") and count > 2)
    used = count if are_frames else 1
    unknown = "whether they are frames of one exposure is not known"
    return Images(tuple(range(used)), _note(count, used, unknown))


def _count(has_image: Callable[[int], bool]) -> int:
    """Return the number of images, at least 2, by doubling and halving."""
    known = 1
    while known < _MAX_IMAGES and has_image(2 * known):
        known *= 2
    missing = 2 * known
    while missing - known > 1:
        middle = (known + missing) // 2
        if has_image(middle):
            known = middle
        else:
            missing = middle
    return known + 1


def _note(count: int, used: int, otherwise: str) -> str:
    if used > 1:
        which = "they" if used == count else f"{used} of them"
        return f"the file holds {count} raw images; {which} are taken for a burst"
    return f"the file holds {count} raw images; {otherwise}, so only one is used"
