"""How bright a frame is, how much of it is clipped, and whether it shows anything at all."""

from __future__ import annotations

import numpy as np

from ..raw.info import RawInfo

#: A frame is white if more than this share of its cells is clipped.
_WHITE_SHARE = 0.99
#: Side of the blocks, in cells, one of which must be brighter than black, and the share of the
#: brightest ones that may be stray light or defects.
_BLOCK_SIDE, _STRAY_SHARE = 16, 0.005
#: A block is brighter than black if its median is so by this many of its standard errors, and by
#: this much in DN: black levels are off by that.
_BRIGHT_ERRORS, _BRIGHT_DN = 5.0, 0.5
#: Standard error of a median over that of a mean, and sigma over the mean difference of two
#: samples, of normal noise.
_MEDIAN_ERROR, _SIGMA_OF_DIFFERENCE = (np.pi / 2) ** 0.5, np.pi**0.5 / 2


def mean_signal(info: RawInfo, planes: np.ndarray) -> float:
    """Return the mean of a frame over its white level.

    Args:
        info: of the frame.
        planes: `(4, height, width)` in DN.
    """
    means = planes[:, ::2, ::2].mean((1, 2))
    return float(np.mean((means - info.black) / (info.white - np.asarray(info.black))))


def clipped_share(info: RawInfo, planes: np.ndarray) -> float:
    """Return the share of a frame's cells of which any plane is clipped, on every second cell."""
    return float((planes[:, ::2, ::2] >= info.clipped_from).any(0).mean())


def blank(info: RawInfo, planes: np.ndarray) -> str:
    """Return "black" or "white" for a frame that shows nothing else, or "".

    Args:
        info: of the frame.
        planes: `(4, height, width)` in DN.
    """
    if clipped_share(info, planes) > _WHITE_SHARE:
        return "white"
    return "" if _is_brighter_than_black(info, planes) else "black"


def _is_brighter_than_black(info: RawInfo, planes: np.ndarray) -> bool:
    """Whether blocks of a frame are brighter than its black level; medians ignore hot pixels."""
    green = planes[1:3, ::2, ::2].astype(np.float32).mean(0) - sum(info.black[1:3]) / 2
    side = min(_BLOCK_SIDE, *green.shape)
    rows, columns = (length // side for length in green.shape)
    blocks = green[: rows * side, : columns * side].reshape(rows, side, columns, side)
    medians = np.median(blocks.swapaxes(1, 2).reshape(rows * columns, -1), 1)
    brightest = np.sort(medians)[-1 - int(_STRAY_SHARE * len(medians))]
    # Detail counts as noise too; where there is any, the blocks are brighter than that.
    sigma = _SIGMA_OF_DIFFERENCE * np.abs(np.diff(green, axis=0)).mean() if len(green) > 1 else 0
    return bool(brightest > max(_BRIGHT_ERRORS * _MEDIAN_ERROR * sigma / side, _BRIGHT_DN))
