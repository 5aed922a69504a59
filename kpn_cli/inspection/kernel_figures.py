"""Figures of one point: the frames' kernels there, and the same under scaled noise."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..network.apply_kernels import DILATION
from ..raw.info import RawInfo
from . import drawing
from .inspect import Inspection
from .kernels import KernelView, window_around
from .panels import (
    CROP_WIDTH,
    box_around,
    captioned,
    common_size,
    exposure_gain,
    frame_name,
    overview,
    padded,
    percent,
    reference_name,
    rendered,
)
from .points import Point

#: Width of a frame's panel in points, and panels in a row.
_PANEL_WIDTH, _PANELS_IN_ROW = 124, 8
#: Side of the crop in a frame's panel, in cells.
_PANEL_CROP = 32
#: `Point.why` -> the reason in words.
_REASONS = {
    "plain": "a plain surface",
    "detail": "rich in detail",
    "motion": "mostly from the reference",
}


def kernels(inspection: Inspection, point: Point) -> Image.Image:
    """Draw the frames around a point, and the kernel of each at it."""
    view, info = inspection.views[point], inspection.info
    gain = exposure_gain(info, view.clean)
    noisy, clean = (rendered(info, planes, gain) for planes in (view.frames[0], view.clean))
    box = box_around(view.middle, view.clean.shape[1:], _reach(view))
    head = [
        captioned(overview(inspection, [point]), "the whole result"),
        captioned(_crop(noisy, box), "the reference, noisy"),
        captioned(_crop(clean, box), "the result"),
    ]
    if view.dilated is not None:
        head.append(_dilated_panel(view, view.dilated))
    limit = float(np.abs(view.kernels).max())
    panels = [
        _frame_panel(inspection, view, number, gain, limit) for number in range(len(view.kernels))
    ]
    title = f"Kernels at {point.x}, {point.y}" + (f": {_REASONS[point.why]}" if point.why else "")
    return drawing.figure(
        title,
        f"{reference_name(info)}: each frame around the point, and its {view.kernels.shape[1]} x "
        f"{view.kernels.shape[2]} taps there. One tap is one cell, 2 x 2 pixels of the sensor.",
        [
            drawing.row(head, 16),
            drawing.grid(panels, _PANELS_IN_ROW, 14),
            _kernel_bar(limit, "weight of a tap in the result"),
        ],
    )


def noise_scales(inspection: Inspection, point: Point) -> Image.Image:
    """Draw the result around a point under scaled noise estimates."""
    info, views = inspection.info, inspection.scaled_views[point]
    gain = exposure_gain(info, inspection.views[point].clean)
    width = min(CROP_WIDTH, 1100 / (len(views) + 1) - 16)
    noisy = rendered(info, views[0].frames[0], gain)
    first = drawing.column(
        [drawing.text("the reference", 13, width=width), drawing.picture(noisy, width)], 6
    )
    panels = [first, *(_scale_panel(view, info, gain, width) for view in views)]
    size = common_size(panels)
    return drawing.figure(
        f"Scaled noise estimates at {point.x}, {point.y}",
        f"{reference_name(info)}: the network assumes the noise sigma times a factor. Below: the "
        "reference's kernel and the dilated one, each on its own scale; residual noise over sigma.",
        [drawing.row([padded(panel, size) for panel in panels], 16)],
    )


def _scale_panel(view: KernelView, info: RawInfo, gain: float, width: float) -> Image.Image:
    parts = [
        drawing.text(f"sigma x {view.scale:g}", 13, width=width),
        drawing.picture(rendered(info, view.clean, gain), width),
    ]
    small = (width - 8) / 2
    shown = [kernel for kernel in (view.kernels[0], view.dilated) if kernel is not None]
    squares = [_kernel(kernel, float(np.abs(kernel).max()), small) for kernel in shown]
    numbers = f"radius {view.radius:.1f} px\nnoise left {percent(view.noise_left**0.5)}"
    return drawing.column(
        [*parts, drawing.row(squares, 8), drawing.text(numbers, 11, drawing.FAINT, width)], 6
    )


def _frame_panel(
    inspection: Inspection, view: KernelView, number: int, gain: float, limit: float
) -> Image.Image:
    """Draw one frame around the point, its kernel, and the kernel's sum."""
    info = inspection.info
    rgb = rendered(info, view.frames[number], gain)
    crop = [
        window_around(at, _PANEL_CROP, side)
        for at, side in zip(view.middle, rgb.shape[:2], strict=True)
    ]
    middle = [at - part.start for at, part in zip(view.middle, crop, strict=True)]
    shown = rgb[tuple(crop)]
    drawn = drawing.picture(shown, _PANEL_WIDTH)
    drawing.mark(drawn, box_around(middle, shown.shape, view.kernels.shape[1] // 2))
    y, x = inspection.median_shifts[number]
    where = "the reference" if number == 0 else f"{x:+.0f}, {y:+.0f} px"
    return drawing.column(
        [
            drawing.text(frame_name(inspection, number, _PANEL_WIDTH - 4), 12, width=_PANEL_WIDTH),
            drawing.text(where, 11, drawing.FAINT, _PANEL_WIDTH),
            drawn,
            _kernel(view.kernels[number], limit, _PANEL_WIDTH),
            drawing.text(percent(view.weights[number]), 13, width=_PANEL_WIDTH),
        ],
        4,
    )


def _dilated_panel(view: KernelView, kernel: np.ndarray) -> Image.Image:
    limit = float(np.abs(kernel).max())
    return drawing.column(
        [
            captioned(_kernel(kernel, limit, CROP_WIDTH - 60), "the dilated kernel"),
            drawing.text(
                f"of the merged picture, taps {2 * DILATION} px\napart; "
                f"colours to ±{percent(limit)}\n"
                f"with the others: radius {view.radius:.1f} px\n"
                f"noise left: {percent(view.noise_left**0.5)} of sigma",
                11,
                drawing.FAINT,
            ),
        ],
        4,
    )


def _kernel(kernel: np.ndarray, limit: float, width: float) -> Image.Image:
    shown = 0.5 + 0.5 * kernel / max(limit, 1e-9)
    return drawing.picture(drawing.diverging(shown), width)


def _kernel_bar(limit: float, title: str) -> Image.Image:
    ticks = [(0, f"-{percent(limit)}"), (0.5, "0"), (1, percent(limit))]
    return drawing.colour_bar(drawing.diverging, ticks, 360, title)


def _crop(rgb: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    drawn = drawing.picture(rgb, CROP_WIDTH)
    drawing.mark(drawn, box)
    return drawn


def _reach(view: KernelView) -> int:
    """Return how far the kernels reach from their cell, with the dilated one, in cells."""
    reach: int = view.kernels.shape[1] // 2
    if view.dilated is not None:
        reach += DILATION * (view.dilated.shape[0] // 2)
    return reach
