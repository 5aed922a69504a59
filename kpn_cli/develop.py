"""Planes -> RGB: LibRaw develops our planes in place of the file's own mosaic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rawpy
import tifffile
from PIL import Image

from . import __version__
from .dng import encode_planes
from .errors import KpnError
from .icc import rgb_profile
from .srgb import srgb_encode
from .write import atomic

if TYPE_CHECKING:
    from .raw import RawInfo


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
    """Return a picture of planes to judge them by, a pixel for a cell, in a tenth of the time.

    Args:
        info, planes: as in `develop`.

    Returns:
        `(rows, columns, 3)` uint8, sRGB, half the mosaic's size and not rotated.

    Raises:
        KpnError: as `develop`.
    """
    rgb = _postprocess(info, planes, half_size=True, user_flip=0)
    return to_eight_bits(to_srgb(rgb))


def to_eight_bits(rgb: np.ndarray) -> np.ndarray:
    """Return 8 bits of 16, rounded to nearest, any shape."""
    return ((rgb.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Return 16-bit sRGB of 16-bit linear light, any shape.

    So both pictures of a burst cost one development.
    """
    table = np.rint(65535 * srgb_encode(np.arange(65536) / 65535)).astype(np.uint16)
    return table[linear]


def write_tiff(path: Path | str, rgb: np.ndarray, *, linear: bool) -> None:
    """Write a 16-bit RGB TIFF with its ICC profile. The same input gives the same bytes.

    Args:
        path: the file to create or replace, atomically.
        rgb: `(rows, columns, 3)` uint16.
        linear: whether `rgb` is linear light rather than sRGB.

    Raises:
        KpnError: if the disk refuses the file.
    """
    with atomic(path) as temporary:
        tifffile.imwrite(
            temporary,
            rgb,
            photometric="rgb",
            compression="adobe_deflate",
            # Behind the predictor, level 1 is twice as fast as 6 and no larger.
            compressionargs={"level": 1},
            predictor=True,
            iccprofile=rgb_profile(linear=linear),
            software=f"kpn {__version__}",
            metadata=None,
        )


def write_jpeg(path: Path | str, rgb: np.ndarray) -> None:
    """Write an 8-bit sRGB JPEG of good quality with its ICC profile.

    Args:
        path: the file to create or replace, atomically.
        rgb: `(rows, columns, 3)` uint16, sRGB.

    Raises:
        KpnError: if the disk refuses the file.
    """
    with atomic(path) as temporary:
        Image.fromarray(to_eight_bits(rgb)).save(
            temporary,
            "JPEG",
            quality=95,
            subsampling=0,
            icc_profile=rgb_profile(linear=False),
        )


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
