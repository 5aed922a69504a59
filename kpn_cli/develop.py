"""Planes -> RGB: LibRaw develops our planes in place of the file's own mosaic."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import rawpy

from .dng import encode_planes
from .errors import KpnError
from .srgb import srgb_encode

if TYPE_CHECKING:
    from .raw import RawInfo

#: Long side in sensor pixels of a mosaic whose preview needs no more than a pixel for a cell.
_ENOUGH_CELLS = 3000

#: Samples that are looked up at once: NumPy makes 64-bit numbers of them first.
_AT_ONCE = 1 << 20


def develop(info: RawInfo, planes: np.ndarray, *, linear: bool) -> np.ndarray:
    """Return the RGB picture of planes, as LibRaw makes it of the frame they came from.

    White balance is the camera's, primaries are sRGB's; sensor white is 65535 in the channel
    that white balance amplifies least, highlights clip there, and nothing is brightened.
    LibRaw clips what is below black.

    Args:
        info: the frame whose file says how to develop: camera, colour matrix, rotation.
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        linear: linear light; otherwise the sRGB curve.

    Returns:
        `(rows, columns, 3)` uint16, upright, so rows and columns may be swapped.

    Raises:
        KpnError: if LibRaw no longer reads the file, or it is not the one `info` describes.
    """
    rgb = _postprocess(info, planes)
    return rgb if linear else to_srgb(rgb)


def preview(info: RawInfo, planes: np.ndarray) -> np.ndarray:
    """Return a picture of planes to judge them by, not rotated.

    Args:
        info, planes: as in `develop`.

    Returns:
        `(rows, columns, 3)` uint8, sRGB; a pixel for a cell where that is large enough, in a
        tenth of the time.

    Raises:
        KpnError: as `develop`.
    """
    half = max(info.height, info.width) >= _ENOUGH_CELLS
    rgb = _postprocess(info, planes, half_size=half, user_flip=0)
    return to_srgb8(rgb)


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


def _postprocess(info: RawInfo, planes: np.ndarray, **options: Any) -> np.ndarray:
    mosaic, black, white = encode_planes(planes, info.phase, info.height, info.width)
    try:
        with open(info.path, "rb") as file, rawpy.imread(file) as raw:
            sizes = raw.sizes
            # Not raw_image_visible: LibRaw leaves out a line of an odd ActiveArea.
            if max(abs(sizes.height - info.height), abs(sizes.width - info.width)) > 1:
                raise KpnError(
                    f"{info.path}: is now {sizes.width}x{sizes.height} pixels, was "
                    f"{info.width}x{info.height}. Leave the files alone while kpn runs."
                )
            top, left = info.origin
            visible = raw.raw_image[top : top + info.height, left : left + info.width]
            visible[:] = mosaic
            del mosaic, visible  # LibRaw has it, and needs the memory
            return raw.postprocess(_parameters(info, black, white, **options))
    except (rawpy.LibRawError, OSError) as error:
        raise KpnError(
            f"{info.path}: LibRaw cannot develop it: {_reason(error)}. "
            "Check the file, or choose --format dng."
        ) from error


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
        **options,
    )
