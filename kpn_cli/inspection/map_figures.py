"""Figures of all the picture: weights, alignment, noise, trust."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..output.develop import developed_size
from . import drawing
from .inspect import Inspection
from .panels import (
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

#: Width of figures, and the gap between maps, in points.
_WIDTH, _GAP = 1076, 16
#: Width of a map of which three are beside each other.
_MAP = (_WIDTH - 2 * _GAP) / 3


def weights(inspection: Inspection) -> Image.Image:
    """Draw a map of each frame's total weight."""
    maps = inspection.maps
    count = len(maps.weights)
    columns, wide = _fitting(count + 1)
    first = captioned(
        overview(inspection, list(inspection.looks), wide), "the result, and places looked at"
    )
    panels = [first]
    for number, values in enumerate(maps.weights):
        shown = drawing.sequential(_over_equal_share(values, count))
        name = frame_name(inspection, number, wide - 90)
        caption = f"{name}   mean {percent(values.mean())}"
        panels.append(captioned(drawing.picture(shown, wide), caption))
    ticks = [(0, "none"), (0.5, f"1/{count}: equal share"), (1, "it alone")]
    return drawing.figure(
        "Weight of each frame",
        "Sum of a frame's kernel over the sum of all frames' kernels, at every cell.",
        [
            drawing.grid(panels, columns, _GAP),
            drawing.colour_bar(drawing.sequential, ticks, 480, "weight in the result"),
        ],
    )


def shifts(inspection: Inspection) -> Image.Image:
    """Draw how frames lie over the reference, and where tiles lie otherwise."""
    fields = inspection.shifts
    medians = inspection.median_shifts
    apart = [field - median for field, median in zip(fields, medians, strict=True)]
    most = max(2.0, max(float(np.hypot(*np.moveaxis(field, -1, 0)).max()) for field in apart))
    order = sorted(range(len(fields)), key=lambda n: _time_order(inspection, n))
    columns, wide = _fitting(len(fields))
    rows_a_column = developed_size(inspection.info)[0] / developed_size(inspection.info)[1]
    size = wide, wide * rows_a_column
    path = drawing.path_plot([medians[n] for n in order], size, "px")
    panels = [captioned(path, "how frames lie, in order of time")]
    for place, number in enumerate(order):
        if number == 0:
            continue
        field = drawing.directions(apart[number], most)
        shown = drawing.picture(field, *size)
        y, x = medians[number]
        other = float((apart[number] != 0).any(-1).mean())
        caption = (
            f"{place + 1}: {frame_name(inspection, number, wide - 30)}\n"
            f"{x:+.0f}, {y:+.0f} px; {percent(other)} of tiles differ"
        )
        panels.append(captioned(shown, caption))
    room = largest(panels)
    legend = drawing.text(
        "Maps: how far each tile lies from its frame's median.\nThe hue is the direction, white is "
        "no difference, the wheel's rim is\nthe largest difference of all.",
        11,
        drawing.FAINT,
    )
    return drawing.figure(
        "Alignment",
        "Where each frame lies over the reference: median of its tiles, x to the right and y down, "
        "in pixels of the sensor.",
        [
            drawing.grid([padded(panel, room) for panel in panels], columns, _GAP),
            drawing.row([drawing.wheel(84, f"{most:.0f} px"), legend], 20, middle=True),
        ],
    )


def noise(inspection: Inspection) -> Image.Image:
    """Draw the noise of the reference, as the network is told it."""
    info, maps = inspection.info, inspection.maps
    sigma = 100 * maps.sigma
    low, high = _limits(sigma)
    shown = drawing.sequential((sigma - low) / (high - low))
    reference = rendered(info, maps.reference, exposure_gain(info, maps.clean))
    told = inspection.told
    lines = [
        f"{name}: S = {s:.3g}, O = {o:.3g}"
        for name, s, o in zip(("R", "G1", "G2", "B"), told.shot, told.read, strict=True)
    ]
    ticks = [(place, f"{low + place * (high - low):.3g} %") for place in (0, 0.5, 1)]
    wide = 1.5 * _MAP
    return drawing.figure(
        "Noise",
        "Standard deviation of the reference's noise as the network is told it: sqrt(S x + O), x "
        "from 0 (black) to 1 (white).",
        [
            drawing.row(
                [
                    captioned(
                        drawing.picture(reference, wide), f"the reference, {reference_name(info)}"
                    ),
                    captioned(
                        drawing.picture(shown, wide), "sigma, root mean square of the four planes"
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
    """Draw how much of the result is the reference's, after the check against it."""
    maps = inspection.maps
    back = 1 - maps.share
    whole = back + (1 - back) * maps.weights[0]
    ticks = [(0, "none"), (0.5, "half"), (1, "all")]
    panels = [
        captioned(overview(inspection, [], _MAP), "the result"),
        captioned(
            drawing.picture(drawing.sequential(back), _MAP),
            f"put back from the reference, mean {percent(back.mean())}",
        ),
        captioned(
            drawing.picture(drawing.sequential(whole), _MAP),
            f"with its kernel's weight, mean {percent(whole.mean())}",
        ),
    ]
    return drawing.figure(
        "The reference in the result",
        "Where the kernels' result contradicts the reference by more than noise, the reference "
        "counts.",
        [
            drawing.row(panels, 16),
            drawing.colour_bar(drawing.sequential, ticks, 480, "share of the result"),
        ],
    )


def _fitting(count: int) -> tuple[int, float]:
    """Return columns for so many maps, three or four, and the maps' width."""
    columns = min((3, 4), key=lambda number: -count % number)
    return columns, (_WIDTH - (columns - 1) * _GAP) / columns


def _over_equal_share(weights: np.ndarray, count: int) -> np.ndarray:
    """0 for no weight, 0.5 for that of a plain mean, 1 for all; straight between them."""
    equal = 1 / count
    above = 0.5 + 0.5 * (weights - equal) / max(1 - equal, 1e-9)
    return np.where(weights < equal, 0.5 * weights / equal, above)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of a colour scale that outliers don't stretch."""
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _time_order(inspection: Inspection, number: int) -> tuple[bool, object, str]:
    info = inspection.infos[number]
    return info.captured is None, info.captured or 0, info.path.name
