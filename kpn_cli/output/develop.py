"""Clean planes -> RGB picture: demosaicing (DHT), white balance and colour, all by LibRaw.

LibRaw needs more than 20 bytes a pixel for a whole picture and runs on one core. The picture is
therefore cut into bands, and each band is developed from a small DNG in memory, several at once.
The result equals the development of the whole picture bit for bit (tests/output/test_develop.py):

- Demosaicing reads a few pixels around each pixel: `_MARGIN` is added at both ends of a band.
- DHT uses the extreme values of each channel in the whole picture, and its first pixel:
  `_extreme_cells` adds them to each band.
- Each band is developed by one thread. Where LibRaw is built with OpenMP, DHT's threads read rows
  that other threads are writing, and some pixels differ from run to run.

A picture that is to be brighter is developed twice: as it is for its highlights, and brighter for
its shadows, which would have too few of LibRaw's 16-bit steps otherwise. See `_joined`.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import rawpy
from threadpoolctl import ThreadpoolController

from ..errors import KpnError
from ..image.orientation import FLIPPED, MIRRORED, TRANSPOSED, upright
from ..image.srgb import srgb_encode
from ..system.threads import usable_cores
from ..tiff import fields, writer
from . import dng_levels, dng_tags
from .dng_images import mosaic_ifd

if TYPE_CHECKING:
    from ..raw.info import RawInfo

#: From this long side on, in sensor pixels, a preview has one pixel for each cell of the mosaic.
_HALF_SIZE_FROM = 3000

#: In sensor pixels: height of a band, margin at each of its ends, strip of extreme values.
BAND, _MARGIN, _STRIP = 512, 16, 8

#: Limit on bands that are developed at once: each takes tens of megabytes.
_MAX_WORKERS = 4

#: Samples that go through a table at once: NumPy converts indices to 64 bits first, which stay
#: in the processor's cache.
_LOOKUP_CHUNK = 1 << 16

#: Rows of cells whose samples are selected at once: a selection is a copy.
_SELECTED_ROWS = 512

#: Of a picture that is developed twice: up to the first brightness, in shares of white, it is the
#: one for shadows; from the second on, the one for highlights. Far below white, where clipping
#: could change the former, and far above the rounding of the latter.
_JOINT = 0.125, 0.25

#: Top, left, height and width of a part of a picture, in pixels.
Box = tuple[int, int, int, int]


def develop(
    info: RawInfo,
    planes: np.ndarray,
    *,
    linear: bool,
    lift: float = 0.0,
) -> np.ndarray:
    """Return the RGB picture of planes, as LibRaw develops the frame that they came from.

    The white balance is the camera's; the primaries are sRGB's. Sensor white becomes 65535 in
    the channel that white balance amplifies least; highlights clip there, or where the sensor
    saturates, if that is below white: all channels at the same level, so that they stay neutral.
    There is no automatic brightness. LibRaw clips values below black.

    With a lift, a colour keeps its hue where its brightest channel exceeds white. Planes that go
    beyond 1 are clipped there, so what has the frame's white is white.

    Args:
        info: the frame, for its colour matrix, white balance and orientation.
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        linear: whether to return linear light; otherwise with the sRGB curve.
        lift: EV by which the picture is made brighter.

    Returns:
        `(rows, columns, 3)` uint16, upright: rows and columns may be swapped.

    Raises:
        KpnError: if LibRaw cannot develop the mosaic.
    """
    rgb = np.concatenate(list(develop_bands(info, planes, lift=lift)))
    return rgb if linear else to_srgb(rgb)


def developed_size(info: RawInfo) -> tuple[int, int]:
    """Return rows and columns of a frame's developed picture."""
    turned = info.orientation in TRANSPOSED
    return (info.width, info.height) if turned else (info.height, info.width)


def developed_box(info: RawInfo, box: Box) -> Box:
    """Return where a box of the mosaic lies in the developed, upright picture.

    Args:
        info: the frame, for its size and orientation.
        box: top, left, height, width in sensor pixels.

    Returns:
        Top, left, height, width in pixels of the picture.
    """
    top, left, height, width = box
    if info.orientation in TRANSPOSED:
        top, left, height, width = left, top, width, height
    rows, columns = developed_size(info)
    if info.orientation in FLIPPED:
        top = rows - top - height
    if info.orientation in MIRRORED:
        left = columns - left - width
    return top, left, height, width


def sensor_box(info: RawInfo, box: Box) -> Box:
    """Return where a box of the developed, upright picture lies in the mosaic.

    Args:
        info: the frame, for its size and orientation.
        box: top, left, height, width in pixels of the picture.

    Returns:
        Top, left, height, width in sensor pixels: the inverse of `developed_box`.
    """
    top, left, height, width = box
    rows, columns = developed_size(info)
    if info.orientation in FLIPPED:
        top = rows - top - height
    if info.orientation in MIRRORED:
        left = columns - left - width
    if info.orientation in TRANSPOSED:
        top, left, height, width = left, top, width, height
    return top, left, height, width


def cells_around(info: RawInfo, box: Box) -> tuple[slice, slice]:
    """Return rows and columns of the cells that `develop_part` needs for a box of the mosaic."""
    (top, left), (bottom, right) = _around(info, box)
    # A phase other than RGGB begins inside a cell, so one more cell may be needed.
    return slice(top // 2, bottom // 2 + 1), slice(left // 2, right // 2 + 1)


def develop_part(info: RawInfo, planes: np.ndarray, box: Box, *, lift: float = 0.0) -> np.ndarray:
    """Develop a box of a picture with a margin; only demosaicing decisions may differ slightly.

    Args:
        info: the whole frame.
        planes: `(4, cell_rows, cell_columns)` float32, the cells of `cells_around`.
        box: top, left, height, width in sensor pixels.
        lift: as in `develop`.

    Returns:
        `(rows, columns, 3)` uint16, upright, linear.

    Raises:
        KpnError: if LibRaw cannot develop the mosaic.
    """
    start, end = _around(info, box)
    around = replace(info, height=end[0] - start[0], width=end[1] - start[1])
    rgb = develop(around, planes, linear=True, lift=lift)
    top, left, height, width = box
    inside = developed_box(around, (top - start[0], left - start[1], height, width))
    top, left, height, width = inside
    return rgb[top : top + height, left : left + width]


def _around(info: RawInfo, box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return first and last row and column of a box and its margin; they begin with a cell."""
    top, left, height, width = box
    start = max(top - _MARGIN, 0) // 2 * 2, max(left - _MARGIN, 0) // 2 * 2
    return start, (
        min(top + height + _MARGIN, info.height),
        min(left + width + _MARGIN, info.width),
    )


def develop_bands(
    info: RawInfo,
    planes: np.ndarray,
    *,
    half: bool = False,
    orientation: int | None = None,
    band: int = BAND,
    lift: float = 0.0,
) -> Generator[np.ndarray, None, None]:
    """Yield the picture of `develop` in linear light, band by band from the top.

    Close it if it is not used up: threads work ahead.

    Args:
        info, planes, lift: as in `develop`.
        half: whether to return one pixel for each cell, without demosaicing.
        orientation: Exif orientation, 1-8, instead of the frame's.
        band: side of a band in sensor pixels.

    Yields:
        The next rows, `(rows, columns, 3)` uint16.

    Raises:
        KpnError: if LibRaw cannot develop the mosaic.
    """
    orientation = orientation or info.orientation
    axis = 1 if orientation in TRANSPOSED else 0
    side = (info.height, info.width)[axis]
    starts = list(range(0, side, band))
    if len(starts) > 1 and side - starts[-1] < _MARGIN:
        starts.pop()  # the band before takes these rows too
    ends = [*starts[1:], side]
    spans = list(zip(starts, ends, strict=True))
    if orientation in FLIPPED:
        spans.reverse()
    whole = len(spans) == 1
    gain = 2.0**lift
    gains = [1.0] if gain <= 1 else [1.0, gain]
    pictures = [_Picture.of(info, planes, each, axis, whole, half) for each in gains]

    def develop_span(span: tuple[int, int]) -> np.ndarray:
        plain, *bright = [_band(picture, span) for picture in pictures]
        return upright(plain if gain == 1 else _joined(plain, gain, *bright), orientation)

    workers = min(_MAX_WORKERS, usable_cores(), len(spans))
    with ThreadPoolExecutor(workers) as pool:
        # Only this many ahead: the memory of finished bands stays bounded.
        ahead = deque(pool.submit(develop_span, span) for span in spans[: workers + 1])
        for span in [*spans[workers + 1 :], *[None] * len(ahead)]:
            yield ahead.popleft().result()
            if span is not None:
                ahead.append(pool.submit(develop_span, span))


def preview(info: RawInfo, planes: np.ndarray, *, lift: float = 0.0) -> np.ndarray:
    """Return a picture for the preview of a DNG, in the orientation of the sensor.

    Args:
        info, planes, lift: as in `develop`.

    Returns:
        `(rows, columns, 3)` uint8, sRGB. Large mosaics get one pixel for each cell, which takes
        a tenth of the time.

    Raises:
        KpnError: if LibRaw cannot develop the mosaic.
    """
    half = max(info.height, info.width) >= _HALF_SIZE_FROM
    bands = develop_bands(info, planes, half=half, orientation=1, lift=lift)
    return np.concatenate([to_srgb8(band) for band in bands])


# --- brighter pictures ------------------------------------------------------


def _joined(plain: np.ndarray, gain: float, bright: np.ndarray | None = None) -> np.ndarray:
    """Return a band that is `gain` times as bright as `plain`, in linear light.

    Args:
        plain: `(rows, columns, 3)` uint16.
        gain: above 0.
        bright: the same band developed at the wanted brightness, for the shadows; None for none.
    """
    lifted = plain * np.float32(gain / 65535)
    result = _clip_keeping_hue(lifted) * 65535
    if bright is not None:
        first, last = _JOINT
        share = np.clip((lifted.max(-1, keepdims=True) - first) / (last - first), 0, 1)
        result = bright + share * (result - bright)
    steps: np.ndarray = np.rint(result)
    return steps.astype(np.uint16)


def _clip_keeping_hue(rgb: np.ndarray) -> np.ndarray:
    """Return colours whose highest and lowest channel are clipped at 1.

    The channel between keeps its place between them, so the hue (of HSV) stays, and the colour
    turns white gradually. Clipped one by one, orange would turn yellow first.

    Args:
        rgb: `(rows, columns, 3)` float, not below 0.
    """
    top, bottom = rgb.max(-1, keepdims=True), rgb.min(-1, keepdims=True)
    clipped = np.minimum(bottom, 1)
    slope = (np.minimum(top, 1) - clipped) / np.maximum(top - bottom, np.float32(1e-9))
    result: np.ndarray = clipped + (rgb - bottom) * slope
    return result


# --- one band ---------------------------------------------------------------


@dataclass(frozen=True)
class _Picture:
    """A picture that is developed band by band.

    Attributes:
        info, planes, half: as in `develop_bands`.
        gain: of the planes.
        axis: 0 for bands of rows, 1 for columns.
        strip: from `_extreme_cells`; None if a band is the whole picture.
        clipped_share: where all channels clip, in shares of white.
    """

    info: RawInfo
    planes: np.ndarray
    gain: float
    axis: int
    half: bool
    clipped_share: float
    strip: np.ndarray | None = None

    @staticmethod
    def of(
        info: RawInfo, planes: np.ndarray, gain: float, axis: int, whole: bool, half: bool
    ) -> _Picture:
        """Return a picture; `whole` if it is one band."""
        # Of a brighter picture only the shadows are used.
        clipped_share = info.clipped_share if gain == 1 else 1.0
        picture = _Picture(info, planes, gain, axis, half, clipped_share)
        return picture if whole else replace(picture, strip=_extreme_cells(picture))


def _band(picture: _Picture, span: tuple[int, int]) -> np.ndarray:
    """Develop a band of rows or columns, in the orientation of the sensor.

    Args:
        picture: it is a part of this.
        span: its first row or column and the one after its last, in sensor pixels.
    """
    axis, strip = picture.axis, picture.strip
    first, last = max(span[0] - _MARGIN, 0), span[1] + _MARGIN
    mosaic, black, white = _mosaic(picture, axis, first, last)
    before = 0
    if strip is not None:
        # Before the band, unless it begins with the first pixel of the picture.
        before = _STRIP if first else 0
        long = -(-mosaic.shape[1 - axis] // 2)
        tiled = np.tile(strip, (1, long) if axis == 0 else (long, 1))
        tiled = tiled[:, : mosaic.shape[1]] if axis == 0 else tiled[: mosaic.shape[0]]
        if before:
            tiled[0, 0] = _mosaic(picture, 0, 0, 2)[0][0, 0]
        mosaic = np.concatenate([tiled, mosaic] if before else [mosaic, tiled], axis)
    clipped = min(round((white - black) * picture.clipped_share), white - black)
    rgb = _postprocess(picture.info, mosaic, black, clipped, half_size=picture.half)
    if clipped < white - black:  # LibRaw has made 65535 of it
        rgb = _apply_table(_darkened(clipped / (white - black)), rgb)
    scale = 2 if picture.half else 1
    start = (before + span[0] - first) // scale
    count = -(-(span[1] - span[0]) // scale)
    return rgb.take(range(start, start + count), axis)


@cache
def _darkened(share: float) -> np.ndarray:
    """Return a table that multiplies uint16 numbers."""
    table: np.ndarray = np.rint(share * np.arange(65536))
    return table.astype(np.uint16)


def _mosaic(picture: _Picture, axis: int, first: int, last: int) -> tuple[np.ndarray, int, int]:
    """Return the mosaic from an even row or column `first` on, its black and white levels."""
    info, planes = picture.info, picture.planes
    size = [info.height, info.width]
    last = min(last, size[axis])
    size[axis] = last - first
    # A phase other than RGGB begins inside a cell, so one more cell may be needed.
    cells = slice(first // 2, last // 2 + 1)
    part = planes[:, cells] if axis == 0 else planes[:, :, cells]
    return dng_levels.encode_planes(_times(part, picture.gain), info.phase, *size)


def _times(planes: np.ndarray, gain: float) -> np.ndarray:
    return planes if gain == 1 else planes * np.float32(gain)


def _extreme_cells(picture: _Picture) -> np.ndarray:
    """Return cells that hold each channel's highest value and its lowest value above black.

    Returns:
        `(_STRIP, 2)` or, for bands of columns, `(2, _STRIP)` uint16, to be repeated along the band.
    """
    info, planes, axis = picture.info, picture.planes, picture.axis
    highest, lowest = np.empty(4), np.empty(4)
    for plane in range(4):
        tops = range(0, planes.shape[1], _SELECTED_ROWS)
        rows = [_times(planes[plane, top : top + _SELECTED_ROWS], picture.gain) for top in tops]
        highest[plane] = max(part.max() for part in rows)
        half_step = 0.5 / (dng_levels.OUTPUT_WHITE - dng_levels.OUTPUT_BLACK)
        above = [part[part >= half_step] for part in rows]
        lowest[plane] = min((part.min() for part in above if part.size), default=0.0)
    cell = np.stack([highest, lowest]).astype(np.float32)
    both = [
        dng_levels.encode_planes(values[:, None, None].repeat(2, 1).repeat(2, 2), info.phase, 2, 2)[
            0
        ]
        for values in cell
    ]
    times = (_STRIP // 4, 1) if axis == 0 else (1, _STRIP // 4)
    return np.concatenate([np.tile(part, times) for part in both], axis)


def _postprocess(
    info: RawInfo, mosaic: np.ndarray, black: int, clipped: int, **options: Any
) -> np.ndarray:
    """Let LibRaw develop a mosaic with the frame's colours, but none of its other tags.

    `clipped` above black becomes 65535.
    """
    tags = replace(
        dng_tags.tags_of(info, black=float(black), white=float(black + clipped)),
        make="",
        model="",
        orientation=1,
        captured=None,
        original_raw_file_name=None,
    )
    ifd = fields.merge(
        mosaic_ifd(mosaic, "none"), dng_tags.cfa_tags(tags), dng_tags.camera_tags(tags)
    )
    try:
        with rawpy.RawPy() as raw:
            raw.open_buffer(io.BytesIO(writer.tiff_bytes([ifd])))
            raw.unpack()
            with _openmp().limit(limits=1, user_api="openmp"):  # for this thread only
                rgb: np.ndarray = raw.postprocess(_parameters(info, black, clipped, **options))
                return rgb
    except rawpy.LibRawError as error:
        raise KpnError(
            f"{info.path}: LibRaw cannot develop it ({_libraw_message(error)}); choose --format dng"
        ) from error


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Return uint16 sRGB of uint16 linear light, any shape.

    With it, the linear and the sRGB picture of a burst need only one development.
    """
    return _apply_table(_srgb_table(), linear)


def to_srgb8(linear: np.ndarray) -> np.ndarray:
    """Return uint8 sRGB of uint16 linear light, any shape: `to_srgb` rounded to 8 bits."""
    return _apply_table(np.rint(_srgb_table() / 257).astype(np.uint8), linear)


@cache
def _srgb_table() -> np.ndarray:
    table: np.ndarray = np.rint(65535 * srgb_encode(np.arange(65536) / 65535))
    return table.astype(np.uint16)


def _apply_table(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return `table[index]`, without NumPy's 64-bit copy of the whole index."""
    result = np.empty(index.shape, table.dtype)
    indices, values = index.reshape(-1), result.reshape(-1)
    for start in range(0, len(indices), _LOOKUP_CHUNK):
        part = slice(start, start + _LOOKUP_CHUNK)
        # A uint16 is never out of range; "clip" spares NumPy the check of each.
        np.take(table, indices[part], out=values[part], mode="clip")
    return result


@cache
def _openmp() -> ThreadpoolController:
    """The OpenMP libraries of this process, found once: the search takes milliseconds."""
    return ThreadpoolController()


def _libraw_message(error: Exception) -> str:
    """Return the text of LibRaw's error, which rawpy passes on as bytes."""
    message = error.args[0] if error.args else ""
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(error)


def _parameters(info: RawInfo, black: int, clipped: int, **options: Any) -> rawpy.Params:
    red, green, blue = info.white_balance
    return rawpy.Params(
        # On clean mosaics of photos/val, 1.0 dB above AHD (35.0 against 34.0), at the same speed.
        demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT,
        # Not use_camera_wb: without a camera's balance, LibRaw would derive one from the picture.
        user_wb=[float(red), float(green), float(blue), float(green)],
        # Without offsets per channel, LibRaw would add those of the file.
        user_black=black,
        user_cblack=[0, 0, 0, 0],
        # LibRaw subtracts black first: this is the range above black, not the white level.
        user_sat=clipped,
        # LibRaw would take the brightest pixel for white if it is within 25 % of white.
        adjust_maximum_thr=0.0,
        no_auto_bright=True,
        highlight_mode=rawpy.HighlightMode.Clip,
        output_color=rawpy.ColorSpace.sRGB,
        output_bps=16,
        gamma=(1, 1),
        user_flip=0,
        **options,
    )
