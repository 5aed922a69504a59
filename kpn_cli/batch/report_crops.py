"""Choose the crops of a picture that show best what denoising did to it.

The choice is by blocks of 16x16 sensor pixels: their brightness and detail in the result, and the
difference from the reference. Blocks are computed band by band, without a copy of the picture.
`inspection/points.py` chooses by what the network did instead: its weights, and detail over noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..burst.frame import Frame
from ..image.noise_model import NoiseModel
from ..output.develop import Box

#: Side of a block, in cells and in sensor pixels; rows of blocks in a band.
_BLOCK, _PIXELS, _BAND = 8, 16, 8
#: Level from which a sample is clipped; largest share of cells with clipped samples in a crop.
_CLIPPED, _MAX_CLIPPED = 0.97, 0.2
#: Smallest distance between corners of two crops, as a share of their side.
_MIN_DISTANCE = 0.5
#: A crop is close to the reference if its change is below this share of the median change.
_CLOSE_TO_REFERENCE = 0.6
#: Quantiles of brightness: shadows are below the first; smooth tones, between the other two.
_SHADOWS, _DARK, _LIGHT = 0.1, 0.25, 0.9


@dataclass(frozen=True)
class Crop:
    """A crop of a picture.

    Attributes:
        name: what it shows, for the user.
        box: top, left, height, width in sensor pixels; top and left are even.
    """

    name: str
    box: Box


@dataclass(frozen=True)
class _Blocks:
    """Statistics of each block (or crop), `(rows, columns)` float64 each.

    Attributes:
        signal: mean level of the result; 0 is black, 1 is white.
        detail: mean gradient of the companded brightness of the result.
        clipped: share of cells with a clipped sample in the reference.
        change: mean square of result minus reference, divided by the variance of the noise.
    """

    signal: np.ndarray
    detail: np.ndarray
    clipped: np.ndarray
    change: np.ndarray


def choose_crops(
    reference: Frame,
    clean: np.ndarray,
    noise: NoiseModel | None,
    picture: tuple[int, int],
    size: tuple[int, int],
) -> list[Crop]:
    """Choose up to four crops: most detail, shadows, smooth tones, closest to the reference.

    Args:
        reference: the noisy frame.
        clean: the result, `(4, cell_rows, cell_columns)` float32; 0 is black, 1 is white.
        noise: of the reference; None to leave out the crop closest to the reference.
        picture: height and width of the mosaic in sensor pixels.
        size: height and width of a crop, in sensor pixels.

    Returns:
        The crops in that order; the whole picture if it is no larger than a crop.
    """
    height, width = (min(side, most) for side, most in zip(size, picture, strict=True))
    if (height, width) == tuple(picture):
        return [Crop("Whole picture", (0, 0, height, width))]
    blocks = _blocks(reference, clean, noise)
    window = max(height // _PIXELS, 1), max(width // _PIXELS, 1)
    blocks = _Blocks(*(_window_means(grid, window) for grid in vars(blocks).values()))
    usable = blocks.clipped <= _MAX_CLIPPED
    if not usable.any():
        usable[...] = True
    crops = []
    for name, score in _scores(blocks, usable, noise is not None):
        if np.isneginf(score := np.where(usable, score, -np.inf)).all():
            continue
        row, column = np.unravel_index(score.argmax(), score.shape)
        top = min(int(row) * _PIXELS, (picture[0] - height) // 2 * 2)
        left = min(int(column) * _PIXELS, (picture[1] - width) // 2 * 2)
        crops.append(Crop(name, (top, left, height, width)))
        rows, columns = np.indices(score.shape)
        usable &= (abs(rows - row) >= _MIN_DISTANCE * window[0]) | (
            abs(columns - column) >= _MIN_DISTANCE * window[1]
        )
    return crops


def _scores(blocks: _Blocks, usable: np.ndarray, noise_known: bool) -> list[tuple[str, np.ndarray]]:
    """Return names of crops and the score of each position; -inf where it does not qualify."""
    levels = np.quantile(blocks.signal[usable], (_SHADOWS, _DARK, _LIGHT))
    shadows, dark, light = levels
    scores = [
        ("Most detail", blocks.detail),
        ("Shadows", np.where(blocks.signal <= shadows, blocks.detail, -np.inf)),
        (
            "Smooth tones",
            np.where((blocks.signal > dark) & (blocks.signal <= light), -blocks.detail, -np.inf),
        ),
    ]
    if noise_known:
        limit = _CLOSE_TO_REFERENCE * np.median(blocks.change[usable])
        close = np.where(blocks.change < limit, -blocks.change, -np.inf)
        scores.append(("Closest to the reference", close))
    return scores


def _blocks(reference: Frame, clean: np.ndarray, noise: NoiseModel | None) -> _Blocks:
    """Return the statistics of all whole blocks; a rest at the right or bottom is left out."""
    rows, columns = (max(side // _BLOCK, 1) for side in clean.shape[1:])
    bands = []
    for top in range(0, rows, _BAND):
        part = slice(top * _BLOCK, min(top + _BAND, rows) * _BLOCK)
        after = clean[:, part, : columns * _BLOCK]
        before = reference.linear(reference.samples[:, part, : columns * _BLOCK]).numpy()
        # Means of 2x2 cells, to lower the residual noise.
        light = _reduced(after.mean(0), 2)
        companded = np.sqrt(np.maximum(light, 0) + 1e-3)
        change = np.square(after - before)
        if noise is not None:
            change /= np.maximum(noise.variance(after), 1e-10)
        bands.append(
            (
                _reduced(light, _BLOCK // 2),
                _reduced(_gradient(companded), _BLOCK // 2),
                _reduced((before.max(0) >= _CLIPPED).astype(np.float32), _BLOCK),
                _reduced(change.mean(0), _BLOCK),
            )
        )
    return _Blocks(
        *(np.concatenate(grids).astype(np.float64) for grids in zip(*bands, strict=True))
    )


def _gradient(picture: np.ndarray) -> np.ndarray:
    """Return the sum of the absolute differences to the next row and column."""
    down = np.abs(np.diff(picture, axis=0, append=picture[-1:]))
    return down + np.abs(np.diff(picture, axis=1, append=picture[:, -1:]))


def _reduced(picture: np.ndarray, times: int) -> np.ndarray:
    """Return the means over squares of `times` by `times` samples."""
    rows, columns = (max(side // times, 1) for side in picture.shape)
    return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)


def _window_means(grid: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Return the mean over each window of a grid, at the window's top left corner."""
    rows, columns = (min(side, most) for side, most in zip(window, grid.shape, strict=True))
    total = np.pad(grid.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    right = total[:, columns:] - total[:, :-columns]
    means: np.ndarray = (right[rows:] - right[:-rows]) / (rows * columns)
    return means
