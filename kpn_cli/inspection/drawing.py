"""Building blocks of figures: text, colour scales, rows and columns of pictures, plots.

Independent of bursts and networks. Lengths are in points; a point is `SCALE` x `SCALE` pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

#: Pixels per point.
SCALE = 2
#: Default font size, in points.
_FONT_SIZE = 12
PAPER, INK, FAINT, LINE = "#ffffff", "#1b1f24", "#5b6470", "#c9d0d8"
ACCENT = "#e8590c"
#: ColorBrewer's RdBu, reversed: from blue to red (Cynthia Brewer, Apache-2.0).
_DIVERGING = ("#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7",
              "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f")  # fmt: skip

#: Values from 0 to 1, any shape -> colours `(..., 3)` uint8.
ColourScale = Callable[[np.ndarray], np.ndarray]


def diverging(values: np.ndarray) -> np.ndarray:
    """Colour values from 0 (blue) over 0.5 (white) to 1 (red): any shape -> `(..., 3)` uint8."""
    return _colour_by_table(_diverging_table(), values)


def sequential(values: np.ndarray) -> np.ndarray:
    """Colour values from 0 to 1 with viridis: any shape -> `(..., 3)` uint8.

    From dark blue over green to yellow; perceptually uniform, safe for the colour-blind.
    """
    return _colour_by_table(_viridis_table(), values)


def directions(vectors: np.ndarray, full_length: float) -> np.ndarray:
    """Colour vectors: the hue is the direction, the saturation the length.

    Args:
        vectors: `(..., 2)`, (row, column).
        full_length: length at full saturation; longer vectors get the same.

    Returns:
        `(..., 3)` uint8; white for the zero vector.
    """
    length = np.clip(np.hypot(vectors[..., 0], vectors[..., 1]) / max(full_length, 1e-9), 0, 1)
    hue = np.degrees(np.arctan2(-vectors[..., 0], vectors[..., 1])) % 360
    hsv = np.stack([hue, 0.9 * length, 1 - 0.12 * length], -1).astype(np.float32)
    shape = hsv.shape
    rgb = cv2.cvtColor(hsv.reshape(-1, 1, 3), cv2.COLOR_HSV2RGB)
    colours: np.ndarray = np.rint(255 * rgb).astype(np.uint8).reshape(shape)
    return colours


def _colour_by_table(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    indices = np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    colours: np.ndarray = table[indices]
    return colours


@cache
def _viridis_table() -> np.ndarray:
    steps = np.arange(256, dtype=np.uint8)[:, None]
    bgr: np.ndarray = cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(bgr[:, 0, ::-1])


@cache
def _diverging_table() -> np.ndarray:
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _DIVERGING])
    positions = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(positions, range(len(anchors)), channel) for channel in anchors.T]
    table: np.ndarray = np.rint(np.stack(channels, -1)).astype(np.uint8)
    return table


# --- text -------------------------------------------------------------------


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)


def drawable(string: str) -> str:
    """Replace characters that Pillow's built-in font lacks with question marks."""
    return "".join(c if " " <= c <= "~" or c in "±°" else "?" for c in string)


def shortened(string: str, width: float) -> str:
    """Shorten a file name to a width in points; cut the middle, as the end tells files apart."""
    string, kept = drawable(string), len(string)
    short = string
    while _font(_FONT_SIZE).getlength(short) > width * SCALE and kept > 4:
        kept -= 1
        short = f"{string[: kept // 3]}...{string[-(kept - kept // 3) :]}"
    return short


def text(string: str, size: float = _FONT_SIZE, colour: str = INK, width: float = 0) -> Image.Image:
    """Draw one or more lines of text.

    Args:
        string: ASCII, ± and °; lines end with a newline.
        size: of the font, in points.
        colour: of the text.
        width: of the picture in points, with the text centred; 0 to fit the text.
    """
    lines = [drawable(line) for line in string.split("\n")]
    font, step = _font(size), round(1.35 * size * SCALE)
    text_width = max(font.getlength(line) for line in lines)
    picture = Image.new(
        "RGB", (round(width * SCALE) or int(text_width) + 2, step * len(lines)), PAPER
    )
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        x = (picture.width - font.getlength(line)) / 2 if width else 0
        draw.text((x, (number + 0.5) * step), line, colour, font, "lm")
    return picture


# --- pictures ---------------------------------------------------------------


def picture(rgb: np.ndarray, width: float, height: float = 0) -> Image.Image:
    """Resize a picture and frame it with a thin line.

    Enlarged pixels stay sharp squares: kernels and crops are judged pixel by pixel.

    Args:
        rgb: `(rows, columns, 3)` uint8.
        width: in points.
        height: in points; 0 to keep the aspect ratio.
    """
    size = round(width * SCALE), round(height * SCALE) or _height_for(rgb, width)
    resampling = Image.Resampling.NEAREST if size[0] >= rgb.shape[1] else Image.Resampling.BOX
    drawn = Image.fromarray(np.ascontiguousarray(rgb)).resize(size, resampling)
    ImageDraw.Draw(drawn).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=LINE)
    return drawn


def _height_for(rgb: np.ndarray, width: float) -> int:
    """Return the height in pixels that keeps the aspect ratio at a width in points."""
    rows, columns = rgb.shape[:2]
    height: int = max(round(width * SCALE * rows / columns), 1)
    return height


def mark(drawn: Image.Image, box: tuple[float, float, float, float], label: str = "") -> None:
    """Draw a labelled box into a picture.

    Args:
        drawn: the picture, changed in place.
        box: left, top, right, bottom, from 0 to 1 along the picture's sides.
        label: short text above or below the box.
    """
    draw = ImageDraw.Draw(drawn)
    sides = (drawn.width, drawn.height) * 2
    left, top, right, bottom = (share * side for share, side in zip(box, sides, strict=True))
    # A dark line around the bright one is visible on any picture.
    draw.rectangle((left - SCALE, top - SCALE, right + SCALE, bottom + SCALE), None, INK, SCALE)
    draw.rectangle((left, top, right, bottom), None, PAPER, SCALE)
    if label:
        x = min(max((left + right) / 2, 8 * SCALE), drawn.width - 8 * SCALE)
        y = top - 3 * SCALE if top > 20 * SCALE else bottom + 18 * SCALE
        style: dict[str, Any] = {"stroke_width": 2 * SCALE, "stroke_fill": INK}
        draw.text((x, y), label, "white", _font(13), "md", **style)


def row(parts: Sequence[Image.Image], gap: float = 12, middle: bool = False) -> Image.Image:
    """Put pictures side by side, `gap` points apart, aligned at the top or in the middle."""
    space = round(gap * SCALE)
    height = max(part.height for part in parts)
    width = sum(part.width for part in parts) + space * (len(parts) - 1)
    whole, x = Image.new("RGB", (width, height), PAPER), 0
    for part in parts:
        whole.paste(part, (x, (height - part.height) // 2 if middle else 0))
        x += part.width + space
    return whole


def column(parts: Sequence[Image.Image], gap: float = 4, middle: bool = False) -> Image.Image:
    """Stack pictures vertically, `gap` points apart, aligned at the left or in the middle."""
    space = round(gap * SCALE)
    width = max(part.width for part in parts)
    height = sum(part.height for part in parts) + space * (len(parts) - 1)
    whole, y = Image.new("RGB", (width, height), PAPER), 0
    for part in parts:
        whole.paste(part, ((width - part.width) // 2 if middle else 0, y))
        y += part.height + space
    return whole


def grid(parts: Sequence[Image.Image], columns: int, gap: float = 16) -> Image.Image:
    """Put pictures of one size into rows of `columns` each, `gap` points apart."""
    starts = range(0, len(parts), columns)
    return column([row(parts[start : start + columns], gap) for start in starts], gap)


def colour_bar(
    colours: ColourScale, ticks: Sequence[tuple[float, str]], width: float, title: str
) -> Image.Image:
    """Draw a colour bar with a title above and labelled ticks below.

    Args:
        colours: the colour scale.
        ticks: pairs of position, from 0 to 1, and label.
        width: in points.
        title: of the bar.
    """
    margin, high = 24 * SCALE, 12 * SCALE
    length = round(width * SCALE) - 2 * margin
    scale = Image.new("RGB", (length + 2 * margin, high + 20 * SCALE), PAPER)
    strip = colours(np.linspace(0, 1, length))[None].repeat(high, 0)
    scale.paste(Image.fromarray(strip), (margin, 0))
    draw = ImageDraw.Draw(scale)
    draw.rectangle((margin, 0, margin + length - 1, high - 1), None, LINE)
    for position, label in ticks:
        x = margin + position * (length - 1)
        draw.line((x, high - 1, x, high + 4 * SCALE), INK, SCALE)
        draw.text((x, high + 5 * SCALE), label, INK, _font(11), "ma")
    return column([text(title, 11, FAINT, width), scale], 2)


def figure(title: str, subtitle: str, parts: Sequence[Image.Image]) -> Image.Image:
    """Stack parts below a title and a subtitle, with a margin around them."""
    heads = [text(title, 19)] + ([text(subtitle, 12, FAINT)] if subtitle else [])
    whole = column([column(heads, 2), *parts], 16)
    margin = 24 * SCALE
    framed = Image.new("RGB", (whole.width + 2 * margin, whole.height + 2 * margin), PAPER)
    framed.paste(whole, (margin, margin))
    return framed


def path_plot(
    points: Sequence[tuple[float, float]], size: tuple[float, float], unit: str
) -> Image.Image:
    """Plot a path around the origin, its points numbered and joined in order, over a grid.

    Args:
        points: (row, column); those at the origin are highlighted.
        size: width and height of the picture in points.
        unit: of the coordinates, for the legend.
    """
    width, height = (round(side * SCALE) for side in size)
    drawn = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(drawn)
    extent = max(max(abs(value) for point in points for value in point), 1)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if extent / s <= 4)
    pixels = min(width, height) / 2 / (1.25 * max(extent, 2))

    def to_pixel(row: float, column: float) -> tuple[float, float]:
        return width / 2 + column * pixels, height / 2 + row * pixels

    steps = int(max(width, height) / 2 / pixels / step)
    for value in range(-steps, steps + 1):
        colour = LINE if value == 0 else "#edf0f3"
        x, y = to_pixel(value * step, value * step)
        draw.line((x, 0, x, height), colour, SCALE)
        draw.line((0, y, width, y), colour, SCALE)
    draw.line([to_pixel(*point) for point in points], FAINT, SCALE)
    for point in points:
        x, y = to_pixel(*point)
        circle = (x - 4 * SCALE, y - 4 * SCALE, x + 4 * SCALE, y + 4 * SCALE)
        draw.ellipse(circle, ACCENT if point == (0, 0) else "#1c6fb8", PAPER)
    _number(draw, [to_pixel(*point) for point in points])
    draw.text((6 * SCALE, height - 6 * SCALE), f"grid: {step} {unit}", FAINT, _font(11), "ls")
    draw.rectangle((0, 0, width - 1, height - 1), None, LINE)
    return drawn


def _number(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]]) -> None:
    """Number points; each number goes where it is farthest from other points and numbers."""
    taken = list(points)
    angles = np.arange(16) * np.pi / 8 - np.pi / 4
    offsets = np.stack([np.cos(angles), np.sin(angles)], -1) * 13 * SCALE
    for number, point in enumerate(points):
        candidates = np.array(point) + offsets
        distances = np.linalg.norm(candidates[:, None] - np.array(taken), axis=2).min(1)
        x, y = candidates[distances.argmax()]
        draw.text((x, y), str(number + 1), INK, _font(11), "mm")
        taken.append((x, y))


def direction_wheel(side: float, rim_label: str) -> Image.Image:
    """Draw the colours of `directions` as a disc, labelled with the length at its rim."""
    pixels = round(side * SCALE)
    steps = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    vectors = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1)
    rgb = directions(vectors, 1.0)
    rgb[np.hypot(vectors[..., 0], vectors[..., 1]) > 1] = 255
    return column([Image.fromarray(rgb), text(rim_label, 11, FAINT, side)], 4)


def encode_png(drawn: Image.Image, software: str) -> bytes:
    """Return a PNG with `software` in its metadata; the same picture gives the same bytes."""
    content, metadata = io.BytesIO(), PngInfo()
    metadata.add_text("Software", software)
    drawn.save(content, "PNG", optimize=True, pnginfo=metadata)
    return content.getvalue()
