"""Parts of figures: text, colour scales, rows and columns of pictures. Knows nothing of bursts.

Lengths are in points, of which each has `SCALE` x `SCALE` pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

#: Pixels of a point.
SCALE = 2
#: Of text, in points.
_SIZE = 12
PAPER, INK, FAINT, LINE = "#ffffff", "#1b1f24", "#5b6470", "#c9d0d8"
ACCENT = "#e8590c"
#: ColorBrewer's RdBu, from blue to red (Cynthia Brewer, Apache-2.0).
_DIVERGING = ("#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7",
              "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f")  # fmt: skip

#: Values from 0 to 1, any shape -> colours `(..., 3)` uint8.
Colours = Callable[[np.ndarray], np.ndarray]


def diverging(values: np.ndarray) -> np.ndarray:
    """Blue at 0, white at 0.5, red at 1."""
    return _looked_up(_diverging_table(), values)


def sequential(values: np.ndarray) -> np.ndarray:
    """Viridis: dark blue at 0, green, yellow at 1; even to the eye, and to the colour-blind."""
    return _looked_up(_viridis_table(), values)


def directions(vectors: np.ndarray, most: float) -> np.ndarray:
    """Return colours of vectors `(..., 2)`, (row, column): hue by direction, white for none.

    Args:
        vectors: such.
        most: length that has the full colour.
    """
    length = np.clip(np.hypot(vectors[..., 0], vectors[..., 1]) / max(most, 1e-9), 0, 1)
    hue = np.degrees(np.arctan2(-vectors[..., 0], vectors[..., 1])) % 360
    hsv = np.stack([hue, 0.9 * length, 1 - 0.12 * length], -1).astype(np.float32)
    shape = hsv.shape
    rgb = cv2.cvtColor(hsv.reshape(-1, 1, 3), cv2.COLOR_HSV2RGB)
    return np.rint(255 * rgb).astype(np.uint8).reshape(shape)


def _looked_up(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    return table[np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)]


@cache
def _viridis_table() -> np.ndarray:
    steps = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS)[:, 0, ::-1].copy()


@cache
def _diverging_table() -> np.ndarray:
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _DIVERGING])
    places = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(places, range(len(anchors)), channel) for channel in anchors.T]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


# --- text -------------------------------------------------------------------


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size * SCALE)


def printable(string: str) -> str:
    """Replace what the font, Pillow's own, has no sign for."""
    return "".join(c if " " <= c <= "~" or c in "±°" else "?" for c in string)


def shortened(string: str, width: float) -> str:
    """Cut a name in the middle so that it fits: its end tells files apart."""
    string, kept = printable(string), len(string)
    short = string
    while _font(_SIZE).getlength(short) > width * SCALE and kept > 4:
        kept -= 1
        short = f"{string[: kept // 3]}...{string[-(kept - kept // 3) :]}"
    return short


def text(string: str, size: float = _SIZE, colour: str = INK, width: float = 0) -> Image.Image:
    """Draw a line of text, or several, as high as its font is.

    Args:
        string: ASCII, ± and °.
        size: of the font.
        colour: of the text.
        width: of the picture, with the text in the middle; 0 for that of the text.
    """
    lines = [printable(line) for line in string.split("\n")]
    font, step = _font(size), round(1.35 * size * SCALE)
    wide = max(font.getlength(line) for line in lines)
    picture = Image.new("RGB", (round(width * SCALE) or int(wide) + 2, step * len(lines)), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        x = (picture.width - font.getlength(line)) / 2 if width else 0
        draw.text((x, (number + 0.5) * step), line, colour, font, "lm")
    return picture


# --- pictures ---------------------------------------------------------------


def picture(rgb: np.ndarray, width: float, height: float = 0) -> Image.Image:
    """Bring a picture `(rows, columns, 3)` uint8 to a width and frame it with a thin line.

    Enlarged, its pixels stay squares, for they are what is to be seen.

    Args:
        rgb: such.
        width: in points.
        height: in points; 0 for that which keeps the proportions.
    """
    size = round(width * SCALE), round(height * SCALE) or proportional(rgb, width)
    how = Image.Resampling.NEAREST if size[0] >= rgb.shape[1] else Image.Resampling.BOX
    drawn = Image.fromarray(np.ascontiguousarray(rgb)).resize(size, how)
    ImageDraw.Draw(drawn).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=LINE)
    return drawn


def proportional(rgb: np.ndarray, width: float) -> int:
    """Height in pixels of a picture that is brought to a width in points."""
    return max(round(width * SCALE * rgb.shape[0] / rgb.shape[1]), 1)


def mark(drawn: Image.Image, box: tuple[float, float, float, float], label: str = "") -> None:
    """Draw a box, (left, top, right, bottom) as shares of the picture's sides, into it."""
    draw = ImageDraw.Draw(drawn)
    sides = (drawn.width, drawn.height) * 2
    left, top, right, bottom = (share * side for share, side in zip(box, sides, strict=True))
    # A dark line around the bright one: to be seen on any picture.
    draw.rectangle((left - SCALE, top - SCALE, right + SCALE, bottom + SCALE), None, INK, SCALE)
    draw.rectangle((left, top, right, bottom), None, PAPER, SCALE)
    if label:
        x = min(max((left + right) / 2, 8 * SCALE), drawn.width - 8 * SCALE)
        y = top - 3 * SCALE if top > 20 * SCALE else bottom + 18 * SCALE
        style = {"stroke_width": 2 * SCALE, "stroke_fill": INK}
        draw.text((x, y), label, "white", _font(13), "md", **style)


def row(parts: Sequence[Image.Image], gap: float = 12, middle: bool = False) -> Image.Image:
    """Put pictures beside each other, aligned at the top or in the middle."""
    space = round(gap * SCALE)
    height = max(part.height for part in parts)
    width = sum(part.width for part in parts) + space * (len(parts) - 1)
    whole, x = Image.new("RGB", (width, height), PAPER), 0
    for part in parts:
        whole.paste(part, (x, (height - part.height) // 2 if middle else 0))
        x += part.width + space
    return whole


def column(parts: Sequence[Image.Image], gap: float = 4, middle: bool = False) -> Image.Image:
    """Put pictures below each other, aligned at the left or in the middle."""
    space = round(gap * SCALE)
    width = max(part.width for part in parts)
    height = sum(part.height for part in parts) + space * (len(parts) - 1)
    whole, y = Image.new("RGB", (width, height), PAPER), 0
    for part in parts:
        whole.paste(part, ((width - part.width) // 2 if middle else 0, y))
        y += part.height + space
    return whole


def grid(parts: Sequence[Image.Image], columns: int, gap: float = 16) -> Image.Image:
    """Put pictures of one size into rows of `columns` each."""
    starts = range(0, len(parts), columns)
    return column([row(parts[start : start + columns], gap) for start in starts], gap)


def colour_bar(
    colours: Colours, ticks: Sequence[tuple[float, str]], width: float, title: str
) -> Image.Image:
    """Draw a colour scale with a title above and ticks, (0 to 1, label), below."""
    margin, high = 24 * SCALE, 12 * SCALE
    length = round(width * SCALE) - 2 * margin
    scale = Image.new("RGB", (length + 2 * margin, high + 20 * SCALE), PAPER)
    strip = colours(np.linspace(0, 1, length))[None].repeat(high, 0)
    scale.paste(Image.fromarray(strip), (margin, 0))
    draw = ImageDraw.Draw(scale)
    draw.rectangle((margin, 0, margin + length - 1, high - 1), None, LINE)
    for place, label in ticks:
        x = margin + place * (length - 1)
        draw.line((x, high - 1, x, high + 4 * SCALE), INK, SCALE)
        draw.text((x, high + 5 * SCALE), label, INK, _font(11), "ma")
    return column([text(title, 11, FAINT, width), scale], 2)


def figure(title: str, subtitle: str, parts: Sequence[Image.Image]) -> Image.Image:
    """Put parts below a title, with a margin around all."""
    heads = [text(title, 19)] + ([text(subtitle, 12, FAINT)] if subtitle else [])
    whole = column([column(heads, 2), *parts], 16)
    margin = 24 * SCALE
    framed = Image.new("RGB", (whole.width + 2 * margin, whole.height + 2 * margin), PAPER)
    framed.paste(whole, (margin, margin))
    return framed


def path_plot(
    points: Sequence[tuple[float, float]], size: tuple[float, float], unit: str
) -> Image.Image:
    """Draw points (row, column), numbered and joined in order, around the origin, on squares.

    Args:
        points: such; the one at the origin stands out.
        size: width and height of the picture.
        unit: of the numbers, for the corner.
    """
    width, height = (round(side * SCALE) for side in size)
    drawn = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(drawn)
    most = max(max(abs(value) for point in points for value in point), 1)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if most / s <= 4)
    pixels = min(width, height) / 2 / (1.25 * max(most, 2))

    def place(row: float, column: float) -> tuple[float, float]:
        return width / 2 + column * pixels, height / 2 + row * pixels

    steps = int(max(width, height) / 2 / pixels / step)
    for value in range(-steps, steps + 1):
        colour = LINE if value == 0 else "#edf0f3"
        x, y = place(value * step, value * step)
        draw.line((x, 0, x, height), colour, SCALE)
        draw.line((0, y, width, y), colour, SCALE)
    draw.line([place(*point) for point in points], FAINT, SCALE)
    for point in points:
        x, y = place(*point)
        circle = (x - 4 * SCALE, y - 4 * SCALE, x + 4 * SCALE, y + 4 * SCALE)
        draw.ellipse(circle, ACCENT if point == (0, 0) else "#1c6fb8", PAPER)
    _number(draw, [place(*point) for point in points])
    draw.text((6 * SCALE, height - 6 * SCALE), f"a square: {step} {unit}", FAINT, _font(11), "ls")
    draw.rectangle((0, 0, width - 1, height - 1), None, LINE)
    return drawn


def _number(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]]) -> None:
    """Write numbers beside points, where there are fewest points and numbers."""
    taken = list(points)
    angles = np.arange(16) * np.pi / 8 - np.pi / 4
    ways = np.stack([np.cos(angles), np.sin(angles)], -1) * 13 * SCALE
    for number, point in enumerate(points):
        places = np.array(point) + ways
        apart = np.linalg.norm(places[:, None] - np.array(taken), axis=2).min(1)
        x, y = places[apart.argmax()]
        draw.text((x, y), str(number + 1), INK, _font(11), "mm")
        taken.append((x, y))


def wheel(side: float, most: str) -> Image.Image:
    """Draw the colours of `directions`, with the length that its rim stands for."""
    pixels = round(side * SCALE)
    steps = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    vectors = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1)
    rgb = directions(vectors, 1.0)
    rgb[np.hypot(vectors[..., 0], vectors[..., 1]) > 1] = 255
    return column([Image.fromarray(rgb), text(most, 11, FAINT, side)], 4)


def encode_png(drawn: Image.Image, software: str) -> bytes:
    """Return a PNG that says what has made it; the same picture gives the same bytes."""
    content, said = io.BytesIO(), PngInfo()
    said.add_text("Software", software)
    drawn.save(content, "PNG", optimize=True, pnginfo=said)
    return content.getvalue()
