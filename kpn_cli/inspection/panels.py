"""Panels that the figures of `kpn inspect` share: developed pictures, names, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from ..output.develop import develop_bands, developed_size, to_srgb8
from ..raw.info import RawInfo
from . import drawing
from .inspect import Inspection
from .kernels import CROP
from .points import Point

#: Width of a crop in points.
CROP_WIDTH = 250
#: Signal that the brightest half per cent of a picture is scaled to, and the largest factor.
_BRIGHT, _LARGEST_GAIN = 0.85, 64.0


def rendered(info: RawInfo, planes: np.ndarray, gain: float) -> np.ndarray:
    """Develop a picture to sRGB at half size, one pixel per cell.

    Args:
        info: has white balance and colour matrix.
        planes: `(4, rows, columns)`, linear, upright.
        gain: factor of the signal.

    Returns:
        `(rows, columns, 3)` uint8.
    """
    _, rows, columns = planes.shape
    frame = replace(info, phase="RGGB", height=2 * rows, width=2 * columns, orientation=1)
    linear = np.concatenate(list(develop_bands(frame, planes * np.float32(gain), half=True)))
    return to_srgb8(linear)


def exposure_gain(info: RawInfo, planes: np.ndarray) -> float:
    """Return the factor that makes dark bursts visible; at least 1.

    Args:
        info: has the white balance.
        planes: `(4, rows, columns)`, linear.
    """
    red, green, blue = info.white_balance
    balanced = planes * np.array([red, green, green, blue], np.float32)[:, None, None]
    # LibRaw scales the white balance so that its smallest factor is 1.
    high = np.percentile(balanced / min(info.white_balance), 99.5)
    return float(np.clip(_BRIGHT / max(high, 1e-6), 1, _LARGEST_GAIN))


def captioned(drawn: Image.Image, caption: str) -> Image.Image:
    """Put a caption below a picture."""
    return drawing.column([drawn, drawing.text(caption, 12)], 4)


def overview(
    inspection: Inspection, points: Sequence[Point], width: float = CROP_WIDTH
) -> Image.Image:
    """Draw the whole result, with points marked; numbered if there are several."""
    info, maps = inspection.info, inspection.maps
    rgb = rendered(info, maps.clean, exposure_gain(info, maps.clean))
    drawn = drawing.picture(rgb, width)
    for number, point in enumerate(points):
        box = box_around(
            (point.y / 2, point.x / 2), [side / 2 for side in developed_size(info)], CROP // 2
        )
        drawing.mark(drawn, box, str(number + 1) if len(points) > 1 else "")
    return drawn


def box_around(
    middle: Sequence[float], shape: Sequence[float], reach: float
) -> tuple[float, float, float, float]:
    """Return the box around a cell, for `drawing.mark`.

    Args:
        middle: row and column of the cell.
        shape: rows and columns of the picture.
        reach: cells beyond the middle one, each way.

    Returns:
        Left, top, right, bottom, from 0 to 1 along the picture's sides.
    """
    (y, x), (rows, columns) = middle, shape[:2]

    def along(index: float, side: float) -> float:
        return min(max(index / side, 0.0), 1.0)

    left, top = along(x - reach, columns), along(y - reach, rows)
    return left, top, along(x + reach + 1, columns), along(y + reach + 1, rows)


def padded(part: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Pad a picture with paper on the right and at the bottom, to a size in pixels."""
    whole = Image.new("RGB", size, drawing.PAPER)
    whole.paste(part, (0, 0))
    return whole


def common_size(parts: Sequence[Image.Image]) -> tuple[int, int]:
    """Return the smallest size in pixels, (width, height), that holds each of the pictures."""
    return max(part.width for part in parts), max(part.height for part in parts)


def percent(share: float) -> str:
    """Return a share, 0 to 1, as text in per cent."""
    return f"{100 * share:.2g} %" if abs(share) < 0.01 else f"{100 * share:.1f} %"


def reference_name(info: RawInfo) -> str:
    """Return the reference's file name, shortened to fit a subtitle."""
    return drawing.shortened(info.frame.name, 400)


def frame_name(inspection: Inspection, number: int, width: float) -> str:
    """Return a frame's file name, shortened to a width in points."""
    return drawing.shortened(inspection.infos[number].frame.name, width)
