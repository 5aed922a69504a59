"""Figures of single places: the frames' kernels there, and the same under scaled noise."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..network.restore import DILATION
from ..raw.info import RawInfo
from . import drawing
from .inspect import Inspection
from .kernels import Look, around
from .panels import (
    CROP_WIDTH,
    box_around,
    captioned,
    exposure_gain,
    frame_name,
    largest,
    overview,
    padded,
    percent,
    reference_name,
    rendered,
)
from .places import Place

#: Width of a small panel in points, and how many fit beside each other.
_SMALL, _IN_A_ROW = 124, 8
#: Cells around a place that a small panel shows.
_CLOSE = 32
#: Why a place was picked -> in words.
_WHY = {
    "plain": "a plain surface",
    "detail": "rich in detail",
    "motion": "the reference is leaned on",
}


def kernels(inspection: Inspection, place: Place) -> Image.Image:
    """Draw the frames around a place, and the kernel that each has there."""
    look, info = inspection.looks[place], inspection.info
    gain = exposure_gain(info, look.clean)
    noisy, clean = (rendered(info, planes, gain) for planes in (look.frames[0], look.clean))
    box = box_around(look.middle, look.clean.shape[1:], _reach(look))
    head = [
        captioned(overview(inspection, [place]), "all of the result"),
        captioned(_crop(noisy, box), "the reference, noisy"),
        captioned(_crop(clean, box), "the result"),
    ]
    if look.wide is not None:
        head.append(_wide_panel(look))
    most = float(np.abs(look.kernels).max())
    panels = [
        _frame_panel(inspection, look, number, gain, most) for number in range(len(look.kernels))
    ]
    title = f"Kernels at {place.x}, {place.y}" + (f": {_WHY[place.why]}" if place.why else "")
    return drawing.figure(
        title,
        f"{reference_name(info)}: each frame around the place, and its {look.kernels.shape[1]} x "
        f"{look.kernels.shape[2]} taps there. One tap is one cell, 2 x 2 pixels of the sensor.",
        [
            drawing.row(head, 16),
            drawing.grid(panels, _IN_A_ROW, 14),
            _kernel_bar(most, "weight of a tap in the result"),
        ],
    )


def noise_scales(inspection: Inspection, place: Place) -> Image.Image:
    """Draw a place as it comes out under scaled noise estimates."""
    info, looks = inspection.info, inspection.scaled[place]
    gain = exposure_gain(info, inspection.looks[place].clean)
    wide = min(CROP_WIDTH, 1100 / (len(looks) + 1) - 16)
    noisy = rendered(info, looks[0].frames[0], gain)
    first = drawing.column(
        [drawing.text("the reference", 13, width=wide), drawing.picture(noisy, wide)], 6
    )
    panels = [first, *(_scale_panel(look, info, gain, wide) for look in looks)]
    size = largest(panels)
    return drawing.figure(
        f"Scaled noise estimates at {place.x}, {place.y}",
        f"{reference_name(info)}: the network is told the noise's sigma times a factor. Below: the "
        "reference's kernel and the wide one, each on its own scale; noise left, of sigma.",
        [drawing.row([padded(panel, size) for panel in panels], 16)],
    )


def _scale_panel(look: Look, info: RawInfo, gain: float, wide: float) -> Image.Image:
    parts = [
        drawing.text(f"sigma x {look.scale:g}", 13, width=wide),
        drawing.picture(rendered(info, look.clean, gain), wide),
    ]
    small = (wide - 8) / 2
    shown = [kernel for kernel in (look.kernels[0], look.wide) if kernel is not None]
    squares = [_kernel(kernel, np.abs(kernel).max(), small) for kernel in shown]
    numbers = f"radius {look.radius:.1f} px\nnoise left {percent(look.noise_left**0.5)}"
    return drawing.column(
        [*parts, drawing.row(squares, 8), drawing.text(numbers, 11, drawing.FAINT, wide)], 6
    )


def _frame_panel(
    inspection: Inspection, look: Look, number: int, gain: float, most: float
) -> Image.Image:
    """One frame around the place, its kernel, and what it sums to."""
    info = inspection.info
    rgb = rendered(info, look.frames[number], gain)
    close = [around(at, _CLOSE, side) for at, side in zip(look.middle, rgb.shape[:2], strict=True)]
    middle = [at - part.start for at, part in zip(look.middle, close, strict=True)]
    shown = rgb[tuple(close)]
    drawn = drawing.picture(shown, _SMALL)
    drawing.mark(drawn, box_around(middle, shown.shape, look.kernels.shape[1] // 2))
    y, x = inspection.median_shifts[number]
    where = "the reference" if number == 0 else f"{x:+.0f}, {y:+.0f} px"
    return drawing.column(
        [
            drawing.text(frame_name(inspection, number, _SMALL - 4), 12, width=_SMALL),
            drawing.text(where, 11, drawing.FAINT, _SMALL),
            drawn,
            _kernel(look.kernels[number], most, _SMALL),
            drawing.text(percent(look.weights[number]), 13, width=_SMALL),
        ],
        4,
    )


def _wide_panel(look: Look) -> Image.Image:
    most = float(np.abs(look.wide).max())
    return drawing.column(
        [
            captioned(_kernel(look.wide, most, CROP_WIDTH - 60), "the wide kernel"),
            drawing.text(
                f"of the merged picture, taps {2 * DILATION} px\napart; "
                f"colours to ±{percent(most)}\n"
                f"wide and others: radius {look.radius:.1f} px\n"
                f"noise left: {percent(look.noise_left**0.5)} of sigma",
                11,
                drawing.FAINT,
            ),
        ],
        4,
    )


def _kernel(kernel: np.ndarray, most: float, width: float) -> Image.Image:
    shown = 0.5 + 0.5 * kernel / max(most, 1e-9)
    return drawing.picture(drawing.diverging(shown), width)


def _kernel_bar(most: float, title: str) -> Image.Image:
    ticks = [(0, f"-{percent(most)}"), (0.5, "0"), (1, percent(most))]
    return drawing.colour_bar(drawing.diverging, ticks, 360, title)


def _crop(rgb: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    drawn = drawing.picture(rgb, CROP_WIDTH)
    drawing.mark(drawn, box)
    return drawn


def _reach(look: Look) -> int:
    """How far kernels reach from their cell, the wide one included."""
    near = look.kernels.shape[1] // 2
    return near + (0 if look.wide is None else DILATION * (look.wide.shape[0] // 2))
