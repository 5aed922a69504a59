"""The figures of `kpn inspect`: kernels, weights, alignment, noise, trust, noise scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from . import drawing
from .develop import bands, to_srgb8, upright_size
from .inspection import CROP, Inspection, Look, around
from .merge import WIDE
from .places import Place
from .raw import RawInfo

#: Widths in points: of a small panel, of which eight fit beside each other; of a map.
_SMALL, _MAP, _CROP = 124, 348, 250
_IN_A_ROW = 8
#: Width of figures of maps, and the gap between these.
_WIDTH, _GAP = 1076, 16
#: Cells around a place that a small panel shows.
_CLOSE = 32
#: Brightness that the brightest of a picture is brought to, and the most it is brightened by.
_BRIGHT, _MOST = 0.85, 64.0


def kernels(inspection: Inspection, place: Place) -> Image.Image:
    """Draw the frames around a place, and the kernel that each has there."""
    look, info = inspection.looks[place], inspection.info
    gain = _gain(info, look.clean)
    noisy, clean = (_rendered(info, planes, gain) for planes in (look.frames[0], look.clean))
    box = _box(look.middle, look.clean.shape[1:], _reach(look))
    head = [
        _captioned(_overview(inspection, [place]), "all of the result"),
        _captioned(_crop(noisy, box), "the reference, noisy"),
        _captioned(_crop(clean, box), "the result"),
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
        f"{_name(info)}: each frame around the place, and its {look.kernels.shape[1]} x "
        f"{look.kernels.shape[2]} taps there. One tap is one cell, 2 x 2 pixels of the sensor.",
        [
            drawing.row(head, 16),
            drawing.grid(panels, _IN_A_ROW, 14),
            _kernel_bar(most, "weight of a tap in the result"),
        ],
    )


#: Why a place was picked -> in words.
_WHY = {
    "plain": "a plain surface",
    "detail": "rich in detail",
    "motion": "the reference is leaned on",
}


def weights(inspection: Inspection) -> Image.Image:
    """Draw a map of each frame's total weight."""
    maps = inspection.maps
    count = len(maps.weights)
    columns, wide = _fitting(count + 1)
    first = _captioned(
        _overview(inspection, list(inspection.looks), wide), "the result, and places looked at"
    )
    panels = [first]
    for number, values in enumerate(maps.weights):
        shown = drawing.sequential(_over_equal_share(values, count))
        name = _frame_name(inspection, number, wide - 90)
        caption = f"{name}   mean {_percent(values.mean())}"
        panels.append(_captioned(drawing.picture(shown, wide), caption))
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
    rows_a_column = upright_size(inspection.info)[0] / upright_size(inspection.info)[1]
    size = wide, wide * rows_a_column
    path = drawing.path_plot([medians[n] for n in order], size, "px")
    panels = [_captioned(path, "how frames lie, in order of time")]
    for place, number in enumerate(order):
        if number == 0:
            continue
        field = drawing.directions(apart[number], most)
        shown = drawing.picture(field, *size)
        y, x = medians[number]
        other = float((apart[number] != 0).any(-1).mean())
        caption = (
            f"{place + 1}: {_frame_name(inspection, number, wide - 30)}\n"
            f"{x:+.0f}, {y:+.0f} px; {_percent(other)} of tiles differ"
        )
        panels.append(_captioned(shown, caption))
    room = _largest(panels)
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
            drawing.grid([_padded(panel, room) for panel in panels], columns, _GAP),
            drawing.row([drawing.wheel(84, f"{most:.0f} px"), legend], 20, middle=True),
        ],
    )


def noise(inspection: Inspection) -> Image.Image:
    """Draw the noise of the reference, as the network is told it."""
    info, maps = inspection.info, inspection.maps
    percent = 100 * maps.sigma
    low, high = _limits(percent)
    shown = drawing.sequential((percent - low) / (high - low))
    reference = _rendered(info, maps.reference, _gain(info, maps.clean))
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
                    _captioned(drawing.picture(reference, wide), f"the reference, {_name(info)}"),
                    _captioned(
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
        _captioned(_overview(inspection, [], _MAP), "the result"),
        _captioned(
            drawing.picture(drawing.sequential(back), _MAP),
            f"put back from the reference, mean {_percent(back.mean())}",
        ),
        _captioned(
            drawing.picture(drawing.sequential(whole), _MAP),
            f"with its kernel's weight, mean {_percent(whole.mean())}",
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


def noise_scales(inspection: Inspection, place: Place) -> Image.Image:
    """Draw a place as it comes out under scaled noise estimates."""
    info, looks = inspection.info, inspection.scaled[place]
    gain = _gain(info, inspection.looks[place].clean)
    wide = min(_CROP, 1100 / (len(looks) + 1) - 16)
    noisy = _rendered(info, looks[0].frames[0], gain)
    first = drawing.column(
        [drawing.text("the reference", 13, width=wide), drawing.picture(noisy, wide)], 6
    )
    panels = [first, *(_scale_panel(look, info, gain, wide) for look in looks)]
    size = _largest(panels)
    return drawing.figure(
        f"Scaled noise estimates at {place.x}, {place.y}",
        f"{_name(info)}: the network is told the noise's sigma times a factor. Below: the "
        "reference's kernel and the wide one, each on its own scale; noise left, of sigma.",
        [drawing.row([_padded(panel, size) for panel in panels], 16)],
    )


def _scale_panel(look: Look, info: RawInfo, gain: float, wide: float) -> Image.Image:
    parts = [
        drawing.text(f"sigma x {look.scale:g}", 13, width=wide),
        drawing.picture(_rendered(info, look.clean, gain), wide),
    ]
    small = (wide - 8) / 2
    shown = [kernel for kernel in (look.kernels[0], look.wide) if kernel is not None]
    squares = [_kernel(kernel, np.abs(kernel).max(), small) for kernel in shown]
    numbers = f"radius {look.radius:.1f} px\nnoise left {_percent(look.noise_left**0.5)}"
    return drawing.column(
        [*parts, drawing.row(squares, 8), drawing.text(numbers, 11, drawing.FAINT, wide)], 6
    )


def _fitting(count: int) -> tuple[int, float]:
    """Return columns for so many maps, three or four, and the maps' width."""
    columns = min((3, 4), key=lambda number: -count % number)
    return columns, (_WIDTH - (columns - 1) * _GAP) / columns


# --- panels -----------------------------------------------------------------


def _frame_panel(
    inspection: Inspection, look: Look, number: int, gain: float, most: float
) -> Image.Image:
    """One frame around the place, its kernel, and what it sums to."""
    info = inspection.info
    rgb = _rendered(info, look.frames[number], gain)
    close = [around(at, _CLOSE, side) for at, side in zip(look.middle, rgb.shape[:2], strict=True)]
    middle = [at - part.start for at, part in zip(look.middle, close, strict=True)]
    shown = rgb[tuple(close)]
    drawn = drawing.picture(shown, _SMALL)
    drawing.mark(drawn, _box(middle, shown.shape, look.kernels.shape[1] // 2))
    y, x = inspection.median_shifts[number]
    where = "the reference" if number == 0 else f"{x:+.0f}, {y:+.0f} px"
    return drawing.column(
        [
            drawing.text(_frame_name(inspection, number, _SMALL - 4), 12, width=_SMALL),
            drawing.text(where, 11, drawing.FAINT, _SMALL),
            drawn,
            _kernel(look.kernels[number], most, _SMALL),
            drawing.text(_percent(look.weights[number]), 13, width=_SMALL),
        ],
        4,
    )


def _wide_panel(look: Look) -> Image.Image:
    most = float(np.abs(look.wide).max())
    return drawing.column(
        [
            _captioned(_kernel(look.wide, most, _CROP - 60), "the wide kernel"),
            drawing.text(
                f"of the merged picture, taps {2 * WIDE} px\napart; colours to ±{_percent(most)}\n"
                f"wide and others: radius {look.radius:.1f} px\n"
                f"noise left: {_percent(look.noise_left**0.5)} of sigma",
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
    ticks = [(0, f"-{_percent(most)}"), (0.5, "0"), (1, _percent(most))]
    return drawing.colour_bar(drawing.diverging, ticks, 360, title)


def _captioned(drawn: Image.Image, caption: str) -> Image.Image:
    return drawing.column([drawn, drawing.text(caption, 12)], 4)


def _crop(rgb: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    drawn = drawing.picture(rgb, _CROP)
    drawing.mark(drawn, box)
    return drawn


def _overview(inspection: Inspection, places: Sequence[Place], width: float = _CROP) -> Image.Image:
    """The result, with the places marked."""
    info, maps = inspection.info, inspection.maps
    rgb = _rendered(info, maps.clean, _gain(info, maps.clean))
    drawn = drawing.picture(rgb, width)
    for number, place in enumerate(places):
        box = _box((place.y / 2, place.x / 2), [side / 2 for side in upright_size(info)], CROP // 2)
        drawing.mark(drawn, box, str(number + 1) if len(places) > 1 else "")
    return drawn


def _largest(parts: Sequence[Image.Image]) -> tuple[int, int]:
    return max(part.width for part in parts), max(part.height for part in parts)


def _padded(part: Image.Image, size: tuple[int, int]) -> Image.Image:
    whole = Image.new("RGB", size, drawing.PAPER)
    whole.paste(part, (0, 0))
    return whole


# --- numbers and pictures ---------------------------------------------------


def _rendered(info: RawInfo, planes: np.ndarray, gain: float) -> np.ndarray:
    """Develop upright planes `(4, rows, columns)`, a pixel a cell: `(rows, columns, 3)` uint8."""
    _, rows, columns = planes.shape
    frame = replace(info, phase="RGGB", height=2 * rows, width=2 * columns, orientation=1)
    linear = np.concatenate(list(bands(frame, planes * np.float32(gain), half=True)))
    return to_srgb8(linear)


def _gain(info: RawInfo, planes: np.ndarray) -> float:
    """Factor that makes the brightest of a picture bright: raw files of bursts often are dark."""
    red, green, blue = info.white_balance
    balanced = planes * np.float32([red, green, green, blue])[:, None, None]
    # White balance is brought so low that no channel is amplified by less than 1 (LibRaw).
    high = np.percentile(balanced / min(info.white_balance), 99.5)
    return float(np.clip(_BRIGHT / max(high, 1e-6), 1, _MOST))


def _over_equal_share(weights: np.ndarray, count: int) -> np.ndarray:
    """0 for no weight, 0.5 for that of a plain mean, 1 for all; straight between them."""
    equal = 1 / count
    above = 0.5 + 0.5 * (weights - equal) / max(1 - equal, 1e-9)
    return np.where(weights < equal, 0.5 * weights / equal, above)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of a colour scale that outliers don't stretch."""
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _box(
    middle: Sequence[float], shape: Sequence[float], reach: float
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what lies around a cell, as shares of the sides."""
    (y, x), (rows, columns) = middle, shape[:2]
    sides = ((x - reach) / columns, (y - reach) / rows)
    far = ((x + reach + 1) / columns, (y + reach + 1) / rows)
    return tuple(min(max(share, 0.0), 1.0) for share in (*sides, *far))


def _reach(look: Look) -> int:
    """How far kernels reach from their cell, the wide one included."""
    near = look.kernels.shape[1] // 2
    return near + (0 if look.wide is None else WIDE * (look.wide.shape[0] // 2))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if abs(share) < 0.01 else f"{100 * share:.1f} %"


def _name(info: RawInfo) -> str:
    return drawing.shortened(info.path.name, 400)


def _frame_name(inspection: Inspection, number: int, width: float) -> str:
    return drawing.shortened(inspection.infos[number].path.name, width)


def _time_order(inspection: Inspection, number: int) -> tuple[bool, object, str]:
    info = inspection.infos[number]
    return info.captured is None, info.captured or 0, info.path.name
