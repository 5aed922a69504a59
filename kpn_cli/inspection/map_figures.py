"""Figures of the whole picture: weights, alignment, noise, fallback to the reference."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..output.develop import developed_size
from . import drawing
from .inspect import Inspection
from .panels import (
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

#: Width of figures, and the gap between maps, in points.
_WIDTH, _GAP = 1076, 16
#: Width of each of three maps in a row, in points.
_THIRD = (_WIDTH - 2 * _GAP) / 3


def weights(inspection: Inspection) -> Image.Image:
    """Draw a map of each frame's total weight."""
    maps = inspection.maps
    count = len(maps.weights)
    columns, width = _columns_and_width(count + 1)
    first = captioned(
        overview(inspection, list(inspection.views), width), "the result and its points"
    )
    panels = [first]
    for number, values in enumerate(maps.weights):
        shown = drawing.sequential(_relative_to_equal_share(values, count))
        name = frame_name(inspection, number, width - 90)
        caption = f"{name}   mean {percent(values.mean())}"
        panels.append(captioned(drawing.picture(shown, width), caption))
    ticks = [(0, "none"), (0.5, f"1/{count}: equal share"), (1, "no other")]
    return drawing.figure(
        "Weight of each frame",
        "Sum of a frame's kernel over the sum of all frames' kernels, at every cell.",
        [
            drawing.grid(panels, columns, _GAP),
            drawing.colour_bar(drawing.sequential, ticks, 480, "weight in the result"),
        ],
    )


def shifts(inspection: Inspection) -> Image.Image:
    """Draw each frame's median shift, and how far its tiles deviate from it."""
    medians = inspection.median_shifts
    deviations = [field - median for field, median in zip(inspection.shifts, medians, strict=True)]
    largest = max(float(np.hypot(*np.moveaxis(field, -1, 0)).max()) for field in deviations)
    full_length = max(2.0, largest)
    order = sorted(range(len(medians)), key=lambda n: _time_order(inspection, n))
    columns, width = _columns_and_width(len(medians))
    picture_height, picture_width = developed_size(inspection.info)
    size = width, width * picture_height / picture_width
    path = drawing.path_plot([medians[n] for n in order], size, "px")
    panels = [captioned(path, "median shifts, in order of time")]
    for position, number in enumerate(order):
        if number == 0:
            continue
        colours = drawing.directions(deviations[number], full_length)
        shown = drawing.picture(colours, *size)
        y, x = medians[number]
        deviating = float((deviations[number] != 0).any(-1).mean())
        caption = (
            f"{position + 1}: {frame_name(inspection, number, width - 30)}\n"
            f"{x:+.0f}, {y:+.0f} px; {percent(deviating)} of tiles deviate"
        )
        panels.append(captioned(shown, caption))
    size_of_panels = common_size(panels)
    legend = drawing.text(
        "Maps: deviation of each tile from its frame's median shift.\nThe hue is the direction, "
        "white is no deviation,\nthe rim of the wheel is the largest deviation.",
        11,
        drawing.FAINT,
    )
    return drawing.figure(
        "Alignment",
        "Shift of each frame against the reference: median over its tiles, x to the right and y "
        "down, in sensor pixels.",
        [
            drawing.grid([padded(panel, size_of_panels) for panel in panels], columns, _GAP),
            drawing.row(
                [drawing.direction_wheel(84, f"{full_length:.0f} px"), legend], 20, middle=True
            ),
        ],
    )


def noise(inspection: Inspection) -> Image.Image:
    """Draw the noise that the network assumes in the reference."""
    info, maps = inspection.info, inspection.maps
    sigma = 100 * maps.sigma
    low, high = _limits(sigma)
    shown = drawing.sequential((sigma - low) / (high - low))
    reference = rendered(info, maps.reference, exposure_gain(info, maps.clean))
    assumed = inspection.assumed_noise
    lines = [
        f"{name}: S = {s:.3g}, O = {o:.3g}"
        for name, s, o in zip(("R", "G1", "G2", "B"), assumed.shot, assumed.read, strict=True)
    ]
    ticks = [(at, f"{low + at * (high - low):.3g} %") for at in (0, 0.5, 1)]
    width = 1.5 * _THIRD
    return drawing.figure(
        "Noise",
        "Standard deviation of the noise that the network assumes in the reference: sqrt(S x + O), "
        "x from 0 (black) to 1 (white).",
        [
            drawing.row(
                [
                    captioned(
                        drawing.picture(reference, width), f"the reference, {reference_name(info)}"
                    ),
                    captioned(
                        drawing.picture(shown, width), "sigma, root mean square of the four planes"
                    ),
                ]
            ),
            drawing.row(
                [
                    drawing.colour_bar(drawing.sequential, ticks, 480, "sigma in % of white"),
                    drawing.text("\n".join(lines), 11, drawing.FAINT),
                ],
                24,
            ),
        ],
    )


def trust(inspection: Inspection) -> Image.Image:
    """Draw the reference's share in the result: by fallback, and together with its kernel."""
    maps = inspection.maps
    fallback = 1 - maps.kernel_share
    total = fallback + (1 - fallback) * maps.weights[0]
    ticks = [(0, "none"), (0.5, "half"), (1, "all")]
    panels = [
        captioned(overview(inspection, [], _THIRD), "the result"),
        captioned(
            drawing.picture(drawing.sequential(fallback), _THIRD),
            f"fallback to the reference, mean {percent(fallback.mean())}",
        ),
        captioned(
            drawing.picture(drawing.sequential(total), _THIRD),
            f"with its kernel's weight, mean {percent(total.mean())}",
        ),
    ]
    return drawing.figure(
        "The reference in the result",
        "Where the kernels' output differs from the reference by more than noise can explain, the "
        "result falls back to the reference.",
        [
            drawing.row(panels, 16),
            drawing.colour_bar(drawing.sequential, ticks, 480, "share of the result"),
        ],
    )


def _columns_and_width(count: int) -> tuple[int, float]:
    """Return how many of `count` maps stand in a row, three or four, and their width."""
    columns = min((3, 4), key=lambda number: -count % number)
    return columns, (_WIDTH - (columns - 1) * _GAP) / columns


def _relative_to_equal_share(weights: np.ndarray, count: int) -> np.ndarray:
    """Map weights to colours: 0 at none, 0.5 at a plain mean's, 1 at all; linear between."""
    equal = 1 / count
    above = 0.5 + 0.5 * (weights - equal) / max(1 - equal, 1e-9)
    return np.where(weights < equal, 0.5 * weights / equal, above)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return limits of a colour scale, without outliers."""
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _time_order(inspection: Inspection, number: int) -> tuple[bool, object, str, int]:
    info = inspection.infos[number]
    return info.captured is None, info.captured or 0, info.path.name, info.image
