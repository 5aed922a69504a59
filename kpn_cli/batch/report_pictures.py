"""The pictures of a burst in the report: an overview, and crops before and after, at 100 %."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from ..burst.frame import Frame
from ..image.noise_model import NoiseModel
from ..output.develop import (
    Box,
    cells_around,
    develop_bands,
    develop_part,
    developed_box,
    developed_size,
    to_srgb8,
)
from ..raw.info import RawInfo
from . import report_crops

#: Height and width of an upright crop in pixels: it fits on most screens.
CROP_SIZE = (512, 768)
#: Long side of the overview in pixels; it is shown at half of that on fine screens.
_OVERVIEW = 880
#: A dark picture is shown brighter, until its brightest pixels have this level; least and most
#: brightening in stops.
_BRIGHT, _MIN_STOPS, _MAX_STOPS = 0.8, 1.0, 4.0
#: Share of the brightest pixels, which may clip then.
_BRIGHTEST = 0.005
#: JPEG quality of crops and of the overview.
_QUALITY, _OVERVIEW_QUALITY = 88, 80


@dataclass(frozen=True)
class BeforeAfter:
    """A crop at 100 %, before and after denoising.

    Attributes:
        name: what it shows, for the user.
        box: top, left, height, width in pixels of the upright picture.
        before, after: the crop of the reference and of the result, as JPEG files.
    """

    name: str
    box: Box
    before: bytes
    after: bytes


@dataclass(frozen=True)
class Pictures:
    """The pictures of a burst, upright.

    Attributes:
        size: rows and columns of the whole picture.
        overview: the whole result, reduced, as a JPEG file.
        overview_size: rows and columns of the overview.
        crops: in the order of `report_crops.choose_crops`.
        stops: brightening of all these pictures relative to the outputs; 0 for most bursts.
    """

    size: tuple[int, int]
    overview: bytes
    overview_size: tuple[int, int]
    crops: list[BeforeAfter]
    stops: float


def make_pictures(
    info: RawInfo,
    reference: Frame,
    clean: np.ndarray,
    noise: NoiseModel | None,
    budget: int,
    *,
    crop_size: tuple[int, int] = CROP_SIZE,
) -> Pictures:
    """Make the pictures of a burst; only the crops and the overview are developed.

    Args:
        info: the reference.
        reference: its noisy frame.
        clean: its clean planes, `(4, cell_rows, cell_columns)` float32; 0 is black, 1 is white.
        noise: of the reference, to choose crops by; None if unknown.
        budget: limit in bytes of JPEG; later crops are left out, but never the first.
        crop_size: height and width of a crop in pixels, upright.

    Raises:
        KpnError: if LibRaw cannot develop them.
    """
    small = _overview(info, clean)
    stops = _brightening(small)
    overview = _jpeg(_brighter(small, stops), _OVERVIEW_QUALITY)
    turned = developed_size(info) != (info.height, info.width)
    height, width = crop_size
    size = (width, height) if turned else (height, width)
    crops: list[BeforeAfter] = []
    used = len(overview)
    for crop in report_crops.choose_crops(reference, clean, noise, (info.height, info.width), size):
        before, after = (
            _jpeg(_brighter(_developed(info, planes, crop.box), stops), _QUALITY)
            for planes in (reference, clean)
        )
        used += len(before) + len(after)
        if crops and used > budget:
            break
        crops.append(BeforeAfter(crop.name, developed_box(info, crop.box), before, after))
    return Pictures(developed_size(info), overview, small.shape[:2], crops, stops)


def _overview(info: RawInfo, clean: np.ndarray) -> np.ndarray:
    """Return a reduced picture of planes, averaged before it is developed.

    Returns:
        `(rows, columns, 3)` uint16, upright, linear.
    """
    scale = min(1.0, _OVERVIEW / max(clean.shape[1:]))
    rows, columns = (max(round(scale * side), 1) for side in clean.shape[1:])
    small = np.stack(
        [cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA) for plane in clean]
    )
    cells = replace(info, phase="RGGB", height=2 * rows, width=2 * columns)
    return np.concatenate(list(develop_bands(cells, small, half=True)))


def _developed(info: RawInfo, planes: Frame | np.ndarray, box: Box) -> np.ndarray:
    """Develop a box of a picture.

    Args:
        info: the whole frame.
        planes: of the whole frame: the noisy reference, or clean planes.
        box: top, left, height, width in sensor pixels.

    Returns:
        `(rows, columns, 3)` uint16, upright, linear.
    """
    rows, columns = cells_around(info, box)
    if isinstance(planes, Frame):
        planes = planes.linear(planes.samples[..., rows, columns]).numpy()
    else:
        planes = planes[..., rows, columns]
    return develop_part(info, planes, box)


def _brightening(rgb: np.ndarray) -> float:
    """Return the brightening of a dark picture in stops, a multiple of a third; 0 for none."""
    brightest = max(float(np.quantile(rgb.max(-1), 1 - _BRIGHTEST)) / 65535, 1e-6)
    stops = min(np.floor(3 * np.log2(_BRIGHT / brightest)) / 3, _MAX_STOPS)
    return float(stops) if stops >= _MIN_STOPS else 0.0


def _brighter(rgb: np.ndarray, stops: float) -> np.ndarray:
    """Return 8-bit sRGB of 16-bit linear light that is brightened by `stops`."""
    if stops:
        rgb = np.minimum(rgb * np.float32(2**stops) + 0.5, 65535).astype(np.uint16)
    return to_srgb8(rgb)


def _jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """Return a JPEG in 4:4:4: noise is in colours as much as in brightness."""
    file = io.BytesIO()
    # Not optimised: Pillow's buffer for that is too small for noise at full colour resolution.
    Image.fromarray(rgb).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()
