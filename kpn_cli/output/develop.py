"""Planes -> RGB: LibRaw develops them, in bands.

A whole picture takes LibRaw 20 bytes and more a pixel, and one core. So bands of it, as little
DNGs in memory, are developed beside each other. Demosaicing looks a few pixels far, hence
`_MARGIN`; and LibRaw's DHT asks for each channel's extremes in all of its picture and for its
first pixel, hence `_extremes`. With both, the bands are the whole's, bit by bit
(tests/output/test_develop.py). Each is developed by one thread: where LibRaw is built with OpenMP,
DHT's threads read rows that others are changing, and some pixels come out one way or the other.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import rawpy
from threadpoolctl import ThreadpoolController

from ..errors import KpnError
from ..image.orientation import FLIPPED, MIRRORED, TRANSPOSED, upright
from ..image.srgb import srgb_encode
from ..tiff import fields, writer
from . import dng_levels, dng_tags
from .dng_images import mosaic_ifd

if TYPE_CHECKING:
    from ..raw.info import RawInfo

#: Long side in sensor pixels of a mosaic whose preview needs no more than a pixel for a cell.
_ENOUGH_CELLS = 3000

#: Sides of bands, of what is added at each end, and of the strip of extremes; sensor pixels.
_BAND, _MARGIN, _STRIP = 512, 16, 8

#: Bands that are developed at once, at most: each takes some tens of megabytes.
_MOST_WORKERS = 4

#: Samples that are looked up at once: NumPy makes 64-bit numbers of them first.
_AT_ONCE = 1 << 20

#: Top, left, height and width of a part of a picture, in pixels.
Box = tuple[int, int, int, int]


def develop(info: RawInfo, planes: np.ndarray, *, linear: bool) -> np.ndarray:
    """Return the RGB picture of planes, as LibRaw makes it of the frame they came from.

    White balance is the camera's, primaries are sRGB's; sensor white is 65535 in the channel
    that white balance amplifies least, highlights clip there, and nothing is brightened.
    LibRaw clips what is below black.

    Args:
        info: the frame that says how to develop: colour matrix, white balance, rotation.
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        linear: linear light; otherwise the sRGB curve.

    Returns:
        `(rows, columns, 3)` uint16, upright, so rows and columns may be swapped.
    """
    rgb = np.concatenate(list(bands(info, planes)))
    return rgb if linear else to_srgb(rgb)


def upright_size(info: RawInfo) -> tuple[int, int]:
    """Return rows and columns of a frame's developed picture."""
    turned = info.orientation in TRANSPOSED
    return (info.width, info.height) if turned else (info.height, info.width)


def upright_box(info: RawInfo, box: Box) -> Box:
    """Return where a box of the mosaic lies in the developed picture.

    Args:
        info: the frame, for its size and rotation.
        box: top, left, height, width in sensor pixels.
    """
    top, left, height, width = box
    if info.orientation in TRANSPOSED:
        top, left, height, width = left, top, width, height
    rows, columns = upright_size(info)
    if info.orientation in FLIPPED:
        top = rows - top - height
    if info.orientation in MIRRORED:
        left = columns - left - width
    return top, left, height, width


def bands(
    info: RawInfo, planes: np.ndarray, *, half: bool = False, orientation: int | None = None
) -> Iterator[np.ndarray]:
    """Yield what `develop` returns in linear light, some rows at a time from the top.

    Args:
        info, planes: as there.
        half: a pixel for each cell, without demosaicing.
        orientation: Exif's, in the place of the frame's own.
    """
    orientation = orientation or info.orientation
    axis = 1 if orientation in TRANSPOSED else 0
    side = (info.height, info.width)[axis]
    starts = list(range(0, side, _BAND))
    if len(starts) > 1 and side - starts[-1] < _MARGIN:
        starts.pop()  # the one before takes the rest
    ends = [*starts[1:], side]
    places = list(zip(starts, ends, strict=True))
    if orientation in FLIPPED:
        places.reverse()
    strip = _extremes(info, planes, axis) if len(places) > 1 else None

    def one(place: tuple[int, int]) -> np.ndarray:
        return upright(_band(info, planes, axis, place, strip, half), orientation)

    workers = min(_MOST_WORKERS, _cores(), len(places))
    with ThreadPoolExecutor(workers) as pool:
        # So many ahead and no more: they are to be taken away before others are made.
        ahead = deque(pool.submit(one, place) for place in places[: workers + 1])
        for place in [*places[workers + 1 :], *[None] * len(ahead)]:
            yield ahead.popleft().result()
            if place is not None:
                ahead.append(pool.submit(one, place))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def preview(info: RawInfo, planes: np.ndarray) -> np.ndarray:
    """Return a picture of planes to judge them by, not rotated.

    Args:
        info, planes: as in `develop`.

    Returns:
        `(rows, columns, 3)` uint8, sRGB; a pixel for a cell where that is large enough, in a
        tenth of the time.
    """
    half = max(info.height, info.width) >= _ENOUGH_CELLS
    return np.concatenate(
        [to_srgb8(band) for band in bands(info, planes, half=half, orientation=1)]
    )


# --- one band ---------------------------------------------------------------


def _band(
    info: RawInfo,
    planes: np.ndarray,
    axis: int,
    place: tuple[int, int],
    strip: np.ndarray | None,
    half: bool,
) -> np.ndarray:
    """Develop a band of rows or columns, not turned.

    Args:
        info, planes, half: as in `bands`.
        axis: 0 for rows, 1 for columns.
        place: where it starts and stops, in sensor pixels.
        strip: of `_extremes`; None if the band is all of the picture.
    """
    first, last = max(place[0] - _MARGIN, 0), place[1] + _MARGIN
    mosaic, black, white = _mosaic(info, planes, axis, first, last)
    before = 0
    if strip is not None:
        # Before the band, if it doesn't begin with the picture's own first pixel.
        before = _STRIP if first else 0
        long = -(-mosaic.shape[1 - axis] // 2)
        tiled = np.tile(strip, (1, long) if axis == 0 else (long, 1))
        tiled = tiled[:, : mosaic.shape[1]] if axis == 0 else tiled[: mosaic.shape[0]]
        if before:
            tiled[0, 0] = _mosaic(info, planes, 0, 0, 2)[0][0, 0]
        mosaic = np.concatenate([tiled, mosaic] if before else [mosaic, tiled], axis)
    rgb = _postprocess(info, mosaic, black, white, half_size=half)
    scale = 2 if half else 1
    start = (before + place[0] - first) // scale
    count = -(-(place[1] - place[0]) // scale)
    return rgb.take(range(start, start + count), axis)


def _mosaic(
    info: RawInfo, planes: np.ndarray, axis: int, first: int, last: int
) -> tuple[np.ndarray, int, int]:
    """Return a part of the mosaic, from an even row or column on, and its levels."""
    size = [info.height, info.width]
    last = min(last, size[axis])
    size[axis] = last - first
    # A phase other than RGGB begins in the middle of a cell, so one more may be needed.
    cells = slice(first // 2, last // 2 + 1)
    part = planes[:, cells] if axis == 0 else planes[:, :, cells]
    return dng_levels.encode_planes(part, info.phase, *size)


def _extremes(info: RawInfo, planes: np.ndarray, axis: int) -> np.ndarray:
    """Return cells of each channel's highest value and its lowest above black.

    Returns:
        `(_STRIP, 2)` or, for bands of columns, `(2, _STRIP)` uint16, to be repeated.
    """
    highest, lowest = np.empty(4), np.empty(4)
    for plane in range(4):
        # In parts: what is picked out is a copy.
        rows = [planes[plane, top : top + _BAND] for top in range(0, planes.shape[1], _BAND)]
        highest[plane] = max(part.max() for part in rows)
        above = [
            part[part >= 0.5 / (dng_levels.OUTPUT_WHITE - dng_levels.OUTPUT_BLACK)] for part in rows
        ]
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
    info: RawInfo, mosaic: np.ndarray, black: int, white: int, **options: Any
) -> np.ndarray:
    """Have LibRaw develop a mosaic with a frame's colours, and nothing else of it."""
    tags = replace(
        dng_tags.tags_of(info, black=float(black), white=float(white)),
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
            with _openmp().limit(limits=1, user_api="openmp"):  # of this thread alone
                return raw.postprocess(_parameters(info, black, white, **options))
    except rawpy.LibRawError as error:
        raise KpnError(
            f"{info.path}: LibRaw cannot develop it: {_reason(error)}. Choose --format dng."
        ) from error


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Return 16-bit sRGB of 16-bit linear light, any shape.

    So both pictures of a burst cost one development.
    """
    return _looked_up(_srgb_table(), linear)


def to_srgb8(linear: np.ndarray) -> np.ndarray:
    """Return 8-bit sRGB of 16-bit linear light, any shape: `to_srgb` to the nearest of 8 bits."""
    return _looked_up(np.rint(_srgb_table() / 257).astype(np.uint8), linear)


@cache
def _srgb_table() -> np.ndarray:
    return np.rint(65535 * srgb_encode(np.arange(65536) / 65535)).astype(np.uint16)


def _looked_up(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return `table[index]` without a copy of the index four times as large."""
    result = np.empty(index.shape, table.dtype)
    indices, values = index.reshape(-1), result.reshape(-1)
    for start in range(0, len(indices), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        values[part] = table[indices[part]]
    return result


@cache
def _openmp() -> ThreadpoolController:
    """The OpenMP libraries of this process; to find them takes milliseconds."""
    return ThreadpoolController()


def _reason(error: Exception) -> str:
    """LibRaw's messages come as bytes."""
    message = error.args[0] if error.args else ""
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(error)


def _parameters(info: RawInfo, black: int, white: int, **options: Any) -> rawpy.Params:
    red, green, blue = info.white_balance
    return rawpy.Params(
        # On clean mosaics of photos/val, 1.0 dB above AHD (35.0 against 34.0), at the same speed.
        demosaic_algorithm=rawpy.DemosaicAlgorithm.DHT,
        # Not use_camera_wb: where the file has none, LibRaw balances by the picture.
        user_wb=[float(red), float(green), float(blue), float(green)],
        # The offsets per channel must be given too: LibRaw adds the file's own otherwise.
        user_black=black,
        user_cblack=[0, 0, 0, 0],
        # LibRaw subtracts black before it looks here: this is the range, not the level.
        user_sat=white - black,
        # LibRaw would take the brightest pixel for white where it is within 25 % of it.
        adjust_maximum_thr=0.0,
        no_auto_bright=True,
        highlight_mode=rawpy.HighlightMode.Clip,
        output_color=rawpy.ColorSpace.sRGB,
        output_bps=16,
        gamma=(1, 1),
        user_flip=0,
        **options,
    )
