"""The pictures of a burst's report: an overview, and parts of it before and after, at 100 %."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from ..burst.frame import Frame
from ..image.noise_model import NoiseModel
from ..output.develop import Box, develop, develop_bands, developed_box, developed_size, to_srgb8
from ..raw.info import RawInfo
from . import report_crops

#: Height and width of a part, as it is shown, in pixels: as much as fits on most screens.
_PART = (512, 768)
#: What is developed beyond a part, in sensor pixels: as far as demosaicing looks.
_MARGIN = 16
#: Long side of the overview in pixels; it is shown at half of that on fine screens.
_OVERVIEW = 880
_QUALITY, _OVERVIEW_QUALITY = 88, 80
#: A burst whose brightest parts are darker than this is shown brighter, by so many stops at most.
_BRIGHT, _LEAST_STOPS, _MOST_STOPS = 0.8, 1.0, 4.0
#: The share of pixels that may clip then.
_BRIGHTEST = 0.005


@dataclass(frozen=True)
class Part:
    """A part of the picture at 100 %.

    Attributes:
        name: what it shows.
        box: top, left, height, width in the upright picture.
        before, after: of the reference and of the result, JPEG.
    """

    name: str
    box: Box
    before: bytes
    after: bytes


@dataclass(frozen=True)
class Pictures:
    """What a report shows of a burst; all of it upright.

    Attributes:
        size: rows and columns of the whole picture.
        overview: all of the result, JPEG.
        overview_size: its rows and columns.
        parts: before and after, the most telling first.
        stops: by which all of it is shown brighter than the outputs; 0 for most bursts.
    """

    size: tuple[int, int]
    overview: bytes
    overview_size: tuple[int, int]
    parts: list[Part]
    stops: float


def make(
    info: RawInfo, reference: Frame, clean: np.ndarray, noise: NoiseModel | None, budget: int
) -> Pictures:
    """Make the pictures of a burst; only what they show is developed.

    Args:
        info: the reference.
        reference: its noisy frame.
        clean: what became of it, `(4, cell_rows, cell_columns)` float32.
        noise: of the reference, to find what is left to it; None if it isn't known.
        budget: bytes they may have; further parts are left out then, but never the first.

    Raises:
        KpnError: if LibRaw cannot develop them.
    """
    small = _overview(info, clean)
    stops = _brightening(small)
    overview = _jpeg(_brighter(small, stops), _OVERVIEW_QUALITY)
    turned = developed_size(info) != (info.height, info.width)
    size = _PART[::-1] if turned else _PART
    parts: list[Part] = []
    used = len(overview)
    for place in report_crops.choose(reference, clean, noise, (info.height, info.width), size):
        before, after = (
            _jpeg(_brighter(_developed(info, planes, place.box), stops), _QUALITY)
            for planes in (reference, clean)
        )
        used += len(before) + len(after)
        if parts and used > budget:
            break
        parts.append(Part(place.name, developed_box(info, place.box), before, after))
    return Pictures(developed_size(info), overview, small.shape[:2], parts, stops)


def _overview(info: RawInfo, clean: np.ndarray) -> np.ndarray:
    """Return a small picture of planes, upright, linear; averaged before it is developed.

    Returns:
        `(rows, columns, 3)` uint16.
    """
    scale = min(1.0, _OVERVIEW / max(clean.shape[1:]))
    rows, columns = (max(round(scale * side), 1) for side in clean.shape[1:])
    small = np.stack(
        [cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA) for plane in clean]
    )
    cells = replace(info, phase="RGGB", height=2 * rows, width=2 * columns)
    return np.concatenate(list(develop_bands(cells, small, half=True)))


def _developed(info: RawInfo, planes: Frame | np.ndarray, box: Box) -> np.ndarray:
    """Develop a part of a picture as all of it would be, but for what its far parts change.

    Returns:
        `(rows, columns, 3)` uint16, linear, upright.
    """
    top, left, height, width = box
    start = max(top - _MARGIN, 0), max(left - _MARGIN, 0)
    end = min(top + height + _MARGIN, info.height), min(left + width + _MARGIN, info.width)
    # A phase other than RGGB begins in the middle of a cell, so one more may be needed.
    cells = (
        ...,
        *(slice(first // 2, last // 2 + 1) for first, last in zip(start, end, strict=True)),
    )
    if isinstance(planes, Frame):
        planes = planes.linear(planes.samples[cells]).numpy()
    else:
        planes = planes[cells]
    around = replace(info, height=end[0] - start[0], width=end[1] - start[1])
    rgb = develop(around, planes, linear=True)
    inside = (top - start[0], left - start[1], height, width)
    top, left, height, width = developed_box(around, inside)
    return rgb[top : top + height, left : left + width]


def _brightening(rgb: np.ndarray) -> float:
    """Return by how many stops a dark picture is shown brighter; in thirds, 0 for none."""
    brightest = max(float(np.quantile(rgb.max(-1), 1 - _BRIGHTEST)) / 65535, 1e-6)
    stops = min(np.floor(3 * np.log2(_BRIGHT / brightest)) / 3, _MOST_STOPS)
    return float(stops) if stops >= _LEAST_STOPS else 0.0


def _brighter(rgb: np.ndarray, stops: float) -> np.ndarray:
    """Return 8-bit sRGB of 16-bit linear light, so many stops brighter."""
    if stops:
        rgb = np.minimum(rgb * np.float32(2**stops) + 0.5, 65535).astype(np.uint16)
    return to_srgb8(rgb)


def _jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """Return a JPEG whose colours are as fine as its brightness: noise is in both."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()
