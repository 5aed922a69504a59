"""Black and white levels of the DNGs that kpn writes, and mosaics at these levels."""

from __future__ import annotations

import numpy as np

from ..image import bayer
from ..image.bayer import unpack
from ..image.noise_model import NoiseModel
from ..raw.info import RawInfo
from ..raw.reader import read_frame

#: Levels of kpn's own 16-bit mosaics, in DN. Denoised shadows still scatter around black,
#: and clipping them there would tint them: the pedestal keeps values down to -0.067 of white,
#: which is 67 sigmas of a read noise of 0.001 of white. The steps left, 61439, are finer
#: than 14 bits'.
OUTPUT_BLACK = 4096
OUTPUT_WHITE = 65535


def encode_planes(
    planes: np.ndarray, phase: str, height: int, width: int
) -> tuple[np.ndarray, int, int]:
    """Return the 16-bit mosaic of clean planes, with its black and white levels.

    Args:
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        phase: CFA phase of the mosaic, one of `bayer.PHASES`.
        height, width: size of the mosaic in pixels, odd or even.

    Returns:
        `(height, width)` uint16, rounded to nearest and clipped at white, `OUTPUT_BLACK`
        and `OUTPUT_WHITE`; reading them back gives the planes within half a step.
    """
    mosaic = unpack(planes, phase, height, width) * np.float32(OUTPUT_WHITE - OUTPUT_BLACK)
    mosaic += np.float32(OUTPUT_BLACK)
    np.clip(np.rint(mosaic, out=mosaic), 0, OUTPUT_WHITE, out=mosaic)
    return mosaic.astype(np.uint16), OUTPUT_BLACK, OUTPUT_WHITE


def output_levels(info: RawInfo, white: float) -> tuple[float, np.ndarray]:
    """Return how many of our steps a DN of the source becomes, and our black levels, `(4,)`.

    The source's numbers are only stretched and shifted, so black levels that differ keep
    their distances. Readers divide by white minus each channel's black, or minus the highest
    (DNG chapter 5), or minus the lowest (LibRaw): thus all of them develop what they did.

    Args:
        info: the source.
        white: the source's WhiteLevel in DN, which LibRaw may have lowered for `info.white`.
    """
    source = np.asarray(info.black)
    step = (OUTPUT_WHITE - OUTPUT_BLACK) / (white - source.max())
    black = OUTPUT_BLACK + (source - source.max()) * step
    return step, np.rint(np.maximum(black, OUTPUT_BLACK / 2))


def at_levels(planes: np.ndarray, info: RawInfo, step: float, black: np.ndarray) -> np.ndarray:
    """Return planes whose 0 and 1 are `OUTPUT_BLACK` and `OUTPUT_WHITE`, as float32."""
    span = OUTPUT_WHITE - OUTPUT_BLACK
    gain = (info.white - np.asarray(info.black)) * step / span
    offset = (black - OUTPUT_BLACK) / span
    result = planes * gain.astype(np.float32)[:, None, None]
    result += offset.astype(np.float32)[:, None, None]
    return result


def scaled_noise(noise: NoiseModel, gains: np.ndarray) -> NoiseModel:
    """Return the noise of planes times gains."""
    return NoiseModel(
        tuple(float(g * s) for g, s in zip(gains, noise.shot, strict=True)),
        tuple(float(g * g * o) for g, o in zip(gains, noise.read, strict=True)),
    )


def whole_frame(
    info: RawInfo, visible: np.ndarray, size: tuple[int, int], step: float, black: np.ndarray
) -> np.ndarray | None:
    """Return the frame with its masked borders as the source has them, in our levels.

    Args:
        visible: `(height, width)` uint16, the clean mosaic.
        size: height and width of the frame as the tags say.
        step, black: of `output_levels`.

    Returns:
        `size` uint16; None where LibRaw's frame isn't that of the tags.
    """
    if visible.shape == size:
        return visible
    source = read_frame(info)
    if source.shape != size:
        return None
    top, left = info.origin
    frame = np.empty(size, np.uint16)
    for pixel, plane in enumerate(bayer.plane_order(info.phase)):
        part = (slice((top + pixel // 2) % 2, None, 2), slice((left + pixel % 2) % 2, None, 2))
        ours = (source[part] - np.float32(info.black[plane])) * np.float32(step) + black[plane]
        frame[part] = np.clip(np.rint(ours), 0, OUTPUT_WHITE)
    frame[top : top + info.height, left : left + info.width] = visible
    return frame
