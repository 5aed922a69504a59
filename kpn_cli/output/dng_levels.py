"""Black and white levels of the DNGs that kpn writes: linear planes -> 16-bit mosaic, and back.

DNG specification 1.4: BlackLevel (tag 50714) and WhiteLevel (50717) in chapter 4, their use by
readers in chapter 5 ("Mapping Raw Values to Linear Reference Values").
"""

from __future__ import annotations

import numpy as np

from ..image import bayer
from ..image.bayer import unpack
from ..image.noise_model import NoiseModel
from ..raw.info import RawInfo
from ..raw.reader import read_frame

#: Levels of kpn's 16-bit mosaics, in DN. Denoised shadows still scatter around black, and
#: clipping them there would tint them. The pedestal keeps values down to -0.067 of white, or
#: 67 sigmas of a read noise of 0.001 of white. The remaining 61439 steps are finer than 14 bits.
OUTPUT_BLACK = 4096
OUTPUT_WHITE = 65535
#: Rows of cells that are encoded at a time: they stay in the processor's cache.
_ENCODED_ROWS = 16


def encode_planes(
    planes: np.ndarray, phase: str, height: int, width: int
) -> tuple[np.ndarray, int, int]:
    """Return the 16-bit mosaic of clean planes, with its black and white levels.

    Args:
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        phase: CFA phase of the mosaic, one of `bayer.PHASES`.
        height, width: size of the mosaic in pixels, odd or even.

    Returns:
        The mosaic, `(height, width)` uint16, rounded to nearest and clipped to 0 and white;
        `OUTPUT_BLACK`; `OUTPUT_WHITE`. Decoding the mosaic gives the planes within half a step.
    """
    steps = np.empty(planes.shape, np.uint16)
    for top in range(0, planes.shape[1], _ENCODED_ROWS):
        rows = slice(top, top + _ENCODED_ROWS)
        part = planes[:, rows] * np.float32(OUTPUT_WHITE - OUTPUT_BLACK)
        part += np.float32(OUTPUT_BLACK)
        np.clip(np.rint(part, out=part), 0, OUTPUT_WHITE, out=part)
        steps[:, rows] = part
    mosaic = np.ascontiguousarray(unpack(steps, phase, height, width))
    return mosaic, OUTPUT_BLACK, OUTPUT_WHITE


def output_levels(info: RawInfo, white: float) -> tuple[float, np.ndarray]:
    """Return the scale and the black levels that map a source frame to kpn's levels.

    The map is affine with one scale, so differences between black levels are kept. Readers
    divide by white minus each channel's black level, minus the highest one (DNG 1.4, chapter 5)
    or minus the lowest one (LibRaw): with one scale, all of them develop the same picture.

    Args:
        info: the source.
        white: the highest level to encode, in DN: WhiteLevel of a DNG, and of other formats
            `info.highest`.

    Returns:
        Output steps for one DN of the source; black levels of R, G1, G2, B, `(4,)` in steps.
    """
    source = np.asarray(info.black)
    step = (OUTPUT_WHITE - OUTPUT_BLACK) / (white - source.max())
    black = OUTPUT_BLACK + (source - source.max()) * step
    return step, np.rint(np.maximum(black, OUTPUT_BLACK / 2))


def output_white(info: RawInfo, step: float) -> tuple[int, float]:
    """Return the WhiteLevel of the output for a source that is no DNG.

    It is where the sensor saturates, so that readers, which clip there, keep highlights neutral;
    larger samples, of colours that saturate later, stay in the file. Where this is not
    `info.white`, which the source is developed by, BaselineExposure makes up for it.

    Args:
        info: the source.
        step: from `output_levels`.

    Returns:
        WhiteLevel in steps; BaselineExposure in EV.
    """
    level = min(round(OUTPUT_BLACK + (info.clipped_from - max(info.black)) * step), OUTPUT_WHITE)
    return level, float(np.log2(info.clipped_share))


def source_white_in_output(info: RawInfo) -> float:
    """Return where `info.white` lies in the DNG made from a source that is no DNG, in steps."""
    step, _ = output_levels(info, info.highest)
    return OUTPUT_BLACK + (info.white - max(info.black)) * step


def planes_at_output_levels(
    planes: np.ndarray, info: RawInfo, step: float, black: np.ndarray
) -> np.ndarray:
    """Rescale planes for `encode_planes`, whose black and white are the same for all planes.

    Args:
        planes: `(4, cell_rows, cell_columns)` float32; 0 and 1 are the black and white of `info`.
        info: the source.
        step: output steps for one DN of the planes.
        black: from `output_levels`.

    Returns:
        The same shape, float32; 0 and 1 are `OUTPUT_BLACK` and `OUTPUT_WHITE`.
    """
    span = OUTPUT_WHITE - OUTPUT_BLACK
    gain = (info.white - np.asarray(info.black)) * step / span
    offset = (black - OUTPUT_BLACK) / span
    result = planes * gain.astype(np.float32)[:, None, None]
    result += offset.astype(np.float32)[:, None, None]
    return result


def scale_noise(noise: NoiseModel, gains: np.ndarray) -> NoiseModel:
    """Return the noise of `gains * planes`: S grows with the gain, O with its square.

    Args:
        noise: of the planes.
        gains: one for each of R, G1, G2, B, `(4,)`.
    """
    shot_r, shot_g1, shot_g2, shot_b = (gains * np.asarray(noise.shot)).tolist()
    read_r, read_g1, read_g2, read_b = (gains * gains * np.asarray(noise.read)).tolist()
    return NoiseModel((shot_r, shot_g1, shot_g2, shot_b), (read_r, read_g1, read_g2, read_b))


def with_masked_borders(
    info: RawInfo, visible: np.ndarray, size: tuple[int, int], step: float, black: np.ndarray
) -> np.ndarray | None:
    """Return the whole frame: the clean mosaic, and the source's masked borders around it.

    So the tags that give positions (ActiveArea, 50829; MaskedAreas, 50830) stay valid.

    Args:
        info: the source, which is read again.
        visible: `(height, width)` uint16, the clean mosaic.
        size: height and width of the frame by its tags, in sensor pixels.
        step: output steps for one DN of the source.
        black: from `output_levels`.

    Returns:
        Of shape `size`, uint16, at the output's levels; None if LibRaw's frame has another size.

    Raises:
        KpnError: if the source cannot be read any more.
    """
    if visible.shape == size:
        return visible
    source = read_frame(info)
    if source.shape != size:
        return None
    top, left = info.origin
    frame = np.empty(size, np.uint16)
    for pixel, plane in enumerate(bayer.plane_order(info.phase)):
        samples = slice((top + pixel // 2) % 2, None, 2), slice((left + pixel % 2) % 2, None, 2)
        above_black = source[samples] - np.float32(info.black[plane])
        steps = above_black * np.float32(step) + black[plane]
        frame[samples] = np.clip(np.rint(steps), 0, OUTPUT_WHITE)
    frame[top : top + info.height, left : left + info.width] = visible
    return frame
