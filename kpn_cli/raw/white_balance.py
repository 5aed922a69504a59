"""The white balance that pictures are developed with: as shot, daylight's, or an estimate."""

from __future__ import annotations

import numpy as np
import rawpy

from ..image import bayer
from .exif import positive
from .tags import Metadata, Tag

#: Gains R, G, B with G == 1.
Gains = tuple[float, float, float]

#: Exponent of the mean: between grey world (1), which one large coloured surface leads astray,
#: and the brightest patch (infinity), which noise does. Finlayson and Trezzi, "Shades of Gray and
#: Colour Constancy", CIC 2004, found 6 best.
_EXPONENT = 6.0
#: Share of the range between which cells are used: the darkest are mostly noise.
_DARKEST, _BRIGHTEST = 0.01, 0.95
#: Fewest cells that tell anything.
_MIN_CELLS = 100
#: Side of the squares of cells that are averaged first, against noise and hot pixels.
_SQUARE = 4
#: Daylight to tungsten and back: no camera's gains are beyond this factor of green's.
_LARGEST_GAIN = 4.0

_MISSING = "states no usable white balance; TIFF, JPEG and preview are balanced"


def as_recorded(raw: rawpy.RawPy, metadata: Metadata, has_matrix: bool) -> tuple[Gains | None, str]:
    """Return the gains that the file states, or else those of daylight for its camera.

    Args:
        raw: the decoded file.
        metadata: its tags.
        has_matrix: whether the camera's colours are known; without them LibRaw's daylight is ones.

    Returns:
        Gains, None where nothing is known; a line for the user where they are not as shot.
    """
    gains = _relative(raw.camera_whitebalance)
    if gains is not None:
        return gains, ""
    gains = _relative(raw.daylight_whitebalance)
    if gains is None or (not has_matrix and gains == (1.0, 1.0, 1.0)):
        return None, ""
    # LibRaw applies AsShotWhiteXY to its daylight.
    white_xy = metadata.numbers(Tag.AS_SHOT_WHITE_XY) if has_matrix else ()
    as_shot = len(white_xy) == 2 and all(map(positive, white_xy))
    return gains, "" if as_shot else f"{_MISSING} for daylight"


def estimated(
    mosaic: np.ndarray, phase: str, black: tuple[float, ...], white: float
) -> tuple[Gains, str]:
    """Return gains that make the picture grey on average, for files that state none.

    Args:
        mosaic: `(height, width)` DN.
        phase: its CFA phase, one of `bayer.PHASES`.
        black: levels of R, G1, G2, B, DN.
        white: the level from which on samples are clipped, DN.

    Returns:
        Gains; a line for the user. Ones where the picture is too dark or too bright to tell.
    """
    levels = np.asarray(black, np.float32)[:, None, None]
    planes = bayer.pack(mosaic, phase)
    rows, columns = (size // _SQUARE * _SQUARE for size in planes.shape[1:])
    cells = planes[:, :rows, :columns].reshape(4, rows // _SQUARE, _SQUARE, -1, _SQUARE)
    brightest = cells.max((2, 4)).astype(np.float32) - levels
    means = cells.mean((2, 4), dtype=np.float32) - levels
    span = np.float32(white) - levels
    used = (brightest < _BRIGHTEST * span).all(0) & (means > _DARKEST * span).all(0)
    if np.count_nonzero(used) < _MIN_CELLS:
        return (1.0, 1.0, 1.0), (
            "states no usable white balance, and is too dark or too bright to estimate one; TIFF, "
            "JPEG and preview are not balanced"
        )
    bright = (means / span)[:, used].astype(float)
    # An exponent of 6 of 0.01 is no trouble for 64 bits.
    norm = np.mean(bright**_EXPONENT, axis=1) ** (1 / _EXPONENT)
    green = (norm[1] + norm[2]) / 2
    red, blue = np.clip(green / norm[[0, 3]], 1 / _LARGEST_GAIN, _LARGEST_GAIN).tolist()
    return (red, 1.0, blue), f"{_MISSING} by the average colour of the picture"


def _relative(gains: list[float]) -> Gains | None:
    """Return LibRaw's gains of R and B over green's; None unless all are above 0."""
    red, green, blue = (positive(gain) for gain in gains[:3])
    return (red / green, 1.0, blue / green) if red and green and blue else None
