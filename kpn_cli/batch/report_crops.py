"""Which parts of a picture show best what denoising did to it.

Judged by blocks of 16x16 sensor pixels, a band at a time: no copy of the picture is made.
What is judged is what the eye sees: brightness and detail of the result, and how far it is from
the reference. `inspection.points` judges what the network did: its weights, and detail over noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..burst.frame import Frame
from ..image.noise_model import NoiseModel
from ..output.develop import Box

#: Side of a block, in cells and in sensor pixels; rows of blocks that are looked at together.
_BLOCK, _PIXELS, _BAND = 8, 16, 8
#: From here on a sample counts as clipped; of a part that is shown, no more may be.
_CLIPPED, _MOST_CLIPPED = 0.97, 0.2
#: A part beside another that is shown begins at least this share of its side further on.
_APART = 0.5
#: A part that changed by less than this, relative to the median, is left to the reference.
_UNCHANGED = 0.6
#: Quantiles of brightness: shadows lie below the first, tones that show noise between the others.
_SHADOWS, _DARK, _LIGHT = 0.1, 0.25, 0.9


@dataclass(frozen=True)
class Place:
    """A part of a picture.

    Attributes:
        name: what it shows.
        box: top, left, height, width in sensor pixels; top and left are even.
    """

    name: str
    box: Box


@dataclass(frozen=True)
class _Blocks:
    """What is known of each block, `(rows, columns)` float64 each.

    Attributes:
        signal: mean, 1 is white.
        detail: mean gradient of the companded brightness.
        clipped: share of cells with a clipped sample.
        change: mean square of result minus reference, over the noise's variance.
    """

    signal: np.ndarray
    detail: np.ndarray
    clipped: np.ndarray
    change: np.ndarray


def choose(
    reference: Frame,
    clean: np.ndarray,
    noise: NoiseModel | None,
    picture: tuple[int, int],
    size: tuple[int, int],
) -> list[Place]:
    """Choose up to four parts: detail, shadows, smooth tones, what is left to the reference.

    Args:
        reference: the noisy frame.
        clean: the result, `(4, cell_rows, cell_columns)` float32.
        noise: of the reference; without, nothing is said about what is left to it.
        picture: height and width of the mosaic in sensor pixels.
        size: height and width of a part, in sensor pixels.

    Returns:
        The parts, the most telling first; all of a picture that isn't larger than one.
    """
    height, width = (min(side, most) for side, most in zip(size, picture, strict=True))
    if (height, width) == tuple(picture):
        return [Place("Whole picture", (0, 0, height, width))]
    blocks = _blocks(reference, clean, noise)
    window = max(height // _PIXELS, 1), max(width // _PIXELS, 1)
    blocks = _Blocks(*(_window_means(grid, window) for grid in vars(blocks).values()))
    usable = blocks.clipped <= _MOST_CLIPPED
    if not usable.any():
        usable[...] = True
    places = []
    for name, score in _scores(blocks, usable, noise is not None):
        if np.isneginf(score := np.where(usable, score, -np.inf)).all():
            continue
        row, column = np.unravel_index(score.argmax(), score.shape)
        top = min(int(row) * _PIXELS, (picture[0] - height) // 2 * 2)
        left = min(int(column) * _PIXELS, (picture[1] - width) // 2 * 2)
        places.append(Place(name, (top, left, height, width)))
        rows, columns = np.indices(score.shape)
        usable &= (abs(rows - row) >= _APART * window[0]) | (
            abs(columns - column) >= _APART * window[1]
        )
    return places


def _scores(blocks: _Blocks, usable: np.ndarray, noise_known: bool) -> list[tuple[str, np.ndarray]]:
    """Return what is looked for and how much of it there is at each place; -inf where none."""
    levels = np.quantile(blocks.signal[usable], (_SHADOWS, _DARK, _LIGHT))
    shadows, dark, light = levels
    found = [
        ("Most detail", blocks.detail),
        ("Shadows", np.where(blocks.signal <= shadows, blocks.detail, -np.inf)),
        (
            "Smooth tones",
            np.where((blocks.signal > dark) & (blocks.signal <= light), -blocks.detail, -np.inf),
        ),
    ]
    if noise_known:
        least = _UNCHANGED * np.median(blocks.change[usable])
        unchanged = np.where(blocks.change < least, -blocks.change, -np.inf)
        found.append(("Closest to the reference", unchanged))
    return found


def _blocks(reference: Frame, clean: np.ndarray, noise: NoiseModel | None) -> _Blocks:
    """Look at all blocks; of what is left over at the right and at the bottom, none is made."""
    rows, columns = (max(side // _BLOCK, 1) for side in clean.shape[1:])
    bands = []
    for top in range(0, rows, _BAND):
        part = slice(top * _BLOCK, min(top + _BAND, rows) * _BLOCK)
        after = clean[:, part, : columns * _BLOCK]
        before = reference.linear(reference.samples[:, part, : columns * _BLOCK]).numpy()
        # Of 2x2 cells, for less of the noise that is left.
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
    down = np.abs(np.diff(picture, axis=0, append=picture[-1:]))
    return down + np.abs(np.diff(picture, axis=1, append=picture[:, -1:]))


def _reduced(picture: np.ndarray, times: int) -> np.ndarray:
    """Return means over squares of so many samples."""
    rows, columns = (max(side // times, 1) for side in picture.shape)
    return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)


def _window_means(grid: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Return the mean over each window of a grid, by its top left corner."""
    rows, columns = (min(side, most) for side, most in zip(window, grid.shape, strict=True))
    total = np.pad(grid.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    right = total[:, columns:] - total[:, :-columns]
    return (right[rows:] - right[:-rows]) / (rows * columns)
