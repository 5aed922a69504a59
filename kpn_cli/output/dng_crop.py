"""Which part of the mosaic a DNG shows, and at what scale: the crop of new DNGs, and previews.

DNG 1.7.1, chapter 4: DefaultScale (tag 50718) makes pixels square, DefaultCropOrigin (50719) and
DefaultCropSize (50720) are the final image in unscaled pixels from the corner of ActiveArea
(50829), DefaultUserCrop (51125) is the part of this image that the user chose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ..raw.info import RawInfo
from ..raw.levels import MAX_ASPECT
from ..tiff import fields
from ..tiff.fields import Ifd
from ..tiff.reader import fractions, integers

_SCALE, _CROP_ORIGIN, _CROP_SIZE, _ACTIVE_AREA, _USER_CROP = 50718, 50719, 50720, 50829, 51125
_NAMES = {
    _SCALE: "DefaultScale",
    _CROP_ORIGIN: "DefaultCropOrigin",
    _CROP_SIZE: "DefaultCropSize",
    _USER_CROP: "DefaultUserCrop",
}

#: Pixels around the crop of a new DNG. Demosaicing reads neighbours of each pixel, and Adobe's
#: validator warns of fewer than two. More would cost what the sensor recorded.
MARGIN = 2
#: A mosaic smaller than this, in pixels, has no margin to spare.
_MIN_SIDE = 16


def crop_tags(info: RawInfo) -> Ifd:
    """Return scale and crop of a new DNG, whose mosaic is the visible area of a frame.

    The crop is the camera's, as LibRaw has it, and at least `MARGIN` pixels from each edge; without
    one, all but this margin. Nothing is lost: the mosaic is whole.
    """
    result = []
    if info.pixel_aspect != 1:
        scale = max(1.0, info.pixel_aspect), max(1.0, 1 / info.pixel_aspect)
        result.append(fields.rational_field(_SCALE, *scale))
    if min(info.height, info.width) < _MIN_SIDE:
        return tuple(result)
    top, left, height, width = info.crop or (0, 0, info.height, info.width)
    bottom = min(top + height, info.height - MARGIN)
    right = min(left + width, info.width - MARGIN)
    top, left = max(top, MARGIN), max(left, MARGIN)
    return (
        *result,
        fields.integer_field(_CROP_ORIGIN, left, top),
        fields.integer_field(_CROP_SIZE, right - left, bottom - top),
    )


def picture_size(mosaic: Ifd, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the picture that a mosaic's tags describe, before rotation.

    Args:
        mosaic: tags of its directory.
        height, width: of the mosaic, for where these tags are missing.
    """
    columns, rows = fractions(mosaic, _CROP_SIZE) or (width, height)
    across, down = fractions(mosaic, _SCALE) or (1.0, 1.0)
    return round(rows * down), round(columns * across)


@dataclass(frozen=True)
class Area:
    """A rectangle in pixels; fractions occur.

    Attributes:
        top, left, height, width: its place and size.
    """

    top: float
    left: float
    height: float
    width: float


def visible_area_of(mosaic: Ifd, info: RawInfo) -> Area:
    """Return where the visible area of a frame lies, in pixels from the corner of ActiveArea."""
    area = integers(mosaic, _ACTIVE_AREA)
    top, left = area[:2] if len(area) == 4 else (0, 0)
    return Area(info.origin[0] - top, info.origin[1] - left, info.height, info.width)


def crop_preview(
    preview: np.ndarray, mosaic: Ifd, visible: Area
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a preview as the tags of the mosaic want it: cropped, with square pixels.

    A crop that is damaged, empty or outside the visible area is ignored, and so is a scale that is
    not a plausible shape of a pixel.

    Args:
        preview: `(rows, columns, 3)` uint8, of the visible area.
        mosaic: tags of the directory of the mosaic.
        visible: place of the visible area, from the corner of ActiveArea.

    Returns:
        The picture, `(rows, columns, 3)` uint8; a line for each tag that was ignored.
    """
    notes: list[str] = []
    area = _default_crop(mosaic, visible, notes)
    area = _user_crop(mosaic, area, notes)
    rows, columns, _ = preview.shape
    across = _span(area.left - visible.left, area.width, columns / visible.width)
    down = _span(area.top - visible.top, area.height, rows / visible.height)
    return _with_square_pixels(preview[down, across], mosaic, notes), tuple(notes)


def _span(start: float, length: float, scale: float) -> slice:
    """Return the pixels of a preview for a span of the mosaic, at least one."""
    first = round(start * scale)
    return slice(first, max(first + 1, round((start + length) * scale)))


def _default_crop(mosaic: Ifd, visible: Area, notes: list[str]) -> Area:
    origin, size = (_numbers(mosaic, code, 2, notes) for code in (_CROP_ORIGIN, _CROP_SIZE))
    if size is None:
        return visible
    left, top = origin or (0.0, 0.0)
    width, height = size
    inside = (
        visible.left <= left < left + width <= visible.left + visible.width
        and visible.top <= top < top + height <= visible.top + visible.height
    )
    if inside:
        return Area(top, left, height, width)
    # LibRaw's visible area can lack a line of ActiveArea, so a whole crop may reach beyond it.
    clipped = _intersection(Area(top, left, height, width), visible)
    beyond = width - clipped.width > 2 or height - clipped.height > 2
    if min(clipped.height, clipped.width) < 1 or beyond:
        notes.append(
            f"its default crop of {width:g}x{height:g} pixels at column {left:g}, row {top:g} does "
            f"not fit its {visible.width:g}x{visible.height:g} pixels; the preview shows "
            + ("all of them" if min(clipped.height, clipped.width) < 1 else "what does")
        )
    return visible if min(clipped.height, clipped.width) < 1 else clipped


def _intersection(a: Area, b: Area) -> Area:
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.height, b.top + b.height)
    right = min(a.left + a.width, b.left + b.width)
    return Area(top, left, bottom - top, right - left)


def _user_crop(mosaic: Ifd, area: Area, notes: list[str]) -> Area:
    found = _numbers(mosaic, _USER_CROP, 4, notes)
    if found is None:
        return area
    top, left, bottom, right = found
    if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
        notes.append(
            f"its DefaultUserCrop ({', '.join(f'{value:g}' for value in found)}) is no part of the "
            "picture; the preview ignores it"
        )
        return area
    return Area(
        area.top + top * area.height,
        area.left + left * area.width,
        (bottom - top) * area.height,
        (right - left) * area.width,
    )


def _with_square_pixels(picture: np.ndarray, mosaic: Ifd, notes: list[str]) -> np.ndarray:
    """Enlarge the shorter side of the pixels, so that no detail is lost."""
    scale = _numbers(mosaic, _SCALE, 2, notes)
    if scale is None:
        return picture
    across, down = scale
    if not (min(scale) > 0 and 1 / MAX_ASPECT <= across / down <= MAX_ASPECT):
        notes.append(
            f"its DefaultScale ({across:g}, {down:g}) is not the shape of a pixel; the preview "
            "ignores it"
        )
        return picture
    rows, columns, _ = picture.shape
    size = round(columns * max(1.0, across / down)), round(rows * max(1.0, down / across))
    if size == (columns, rows):
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)


def _numbers(mosaic: Ifd, code: int, count: int, notes: list[str]) -> tuple[float, ...] | None:
    """Return the numbers of a tag; None where it is absent or, with a note, damaged."""
    found = fractions(mosaic, code)
    if len(found) == count and all(map(math.isfinite, found)):
        return found
    if any(field.code == code for field in mosaic):
        notes.append(f"its {_NAMES[code]} is damaged; the preview ignores it")
    return None
