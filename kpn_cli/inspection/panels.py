"""Parts that the figures of `kpn inspect` share: developed pictures, names, numbers."""

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
from .places import Place

#: Width of a crop in points.
CROP_WIDTH = 250
#: Brightness that the brightest of a picture is brought to, and the most it is brightened by.
_BRIGHT, _MOST = 0.85, 64.0


def rendered(info: RawInfo, planes: np.ndarray, gain: float) -> np.ndarray:
    """Develop upright planes `(4, rows, columns)`, a pixel a cell: `(rows, columns, 3)` uint8."""
    _, rows, columns = planes.shape
    frame = replace(info, phase="RGGB", height=2 * rows, width=2 * columns, orientation=1)
    linear = np.concatenate(list(develop_bands(frame, planes * np.float32(gain), half=True)))
    return to_srgb8(linear)


def exposure_gain(info: RawInfo, planes: np.ndarray) -> float:
    """Return the factor that makes the brightest of planes bright: bursts often are dark.

    Args:
        info: has the white balance.
        planes: `(4, rows, columns)`, linear.
    """
    red, green, blue = info.white_balance
    balanced = planes * np.float32([red, green, green, blue])[:, None, None]
    # White balance is brought so low that no channel is amplified by less than 1 (LibRaw).
    high = np.percentile(balanced / min(info.white_balance), 99.5)
    return float(np.clip(_BRIGHT / max(high, 1e-6), 1, _MOST))


def captioned(drawn: Image.Image, caption: str) -> Image.Image:
    """Put a line below a picture."""
    return drawing.column([drawn, drawing.text(caption, 12)], 4)


def overview(
    inspection: Inspection, places: Sequence[Place], width: float = CROP_WIDTH
) -> Image.Image:
    """Draw all of the result, with places marked."""
    info, maps = inspection.info, inspection.maps
    rgb = rendered(info, maps.clean, exposure_gain(info, maps.clean))
    drawn = drawing.picture(rgb, width)
    for number, place in enumerate(places):
        box = box_around(
            (place.y / 2, place.x / 2), [side / 2 for side in developed_size(info)], CROP // 2
        )
        drawing.mark(drawn, box, str(number + 1) if len(places) > 1 else "")
    return drawn


def box_around(
    middle: Sequence[float], shape: Sequence[float], reach: float
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of what lies around a cell, as shares of the sides.

    Args:
        middle: row and column of the cell.
        shape: rows and columns of the picture.
        reach: cells beyond the middle one, each way.
    """
    (y, x), (rows, columns) = middle, shape[:2]
    sides = ((x - reach) / columns, (y - reach) / rows)
    far = ((x + reach + 1) / columns, (y + reach + 1) / rows)
    return tuple(min(max(share, 0.0), 1.0) for share in (*sides, *far))


def padded(part: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Add paper to the right of a picture and below it, up to a size in pixels."""
    whole = Image.new("RGB", size, drawing.PAPER)
    whole.paste(part, (0, 0))
    return whole


def largest(parts: Sequence[Image.Image]) -> tuple[int, int]:
    """Return the size in pixels that has room for each of some pictures."""
    return max(part.width for part in parts), max(part.height for part in parts)


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{100 * share:.2g} %" if abs(share) < 0.01 else f"{100 * share:.1f} %"


def reference_name(info: RawInfo) -> str:
    """Return the reference's name, as far as there is room in a subtitle."""
    return drawing.shortened(info.path.name, 400)


def frame_name(inspection: Inspection, number: int, width: float) -> str:
    """Return a frame's name, as far as there is room in a width in points."""
    return drawing.shortened(inspection.infos[number].path.name, width)
