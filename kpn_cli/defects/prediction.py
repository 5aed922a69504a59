"""Predicts a sample from its neighbours of all colours, by a rule learned around it.

The rule is a linear model of a sample by the means of its opposite neighbours: beside it and on its
diagonals (other colours, one pixel away) and two pixels away (its own colour). It is fitted to the
48 nearest samples of the same colour, so that it follows the edges and the texture of the place.
On photos its error is half of that of a mean of neighbours (docs/log.md).
"""

from __future__ import annotations

import numpy as np

#: Reach of the windows, in sensor pixels: neighbours of the fit and their own neighbours.
REACH = 8
_NEIGHBOURS = [(y, x) for y in range(-6, 7, 2) for x in range(-6, 7, 2) if y or x]
#: Standard deviation of the neighbours' Gaussian weights, in sensor pixels.
_WEIGHT_SIGMA = 4.0
#: Pairs, or fours, of neighbours whose means predict a sample.
_REGRESSORS = (
    ((0, -1), (0, 1)),
    ((-1, 0), (1, 0)),
    ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    ((0, -2), (0, 2)),
    ((-2, 0), (2, 0)),
)
#: Samples that are predicted at a time.
CHUNK = 2048


def window_index(
    sites: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of the surroundings of samples in planes `(4, height, width)`.

    Args:
        sites: `(3, count)`: plane, row and column, in cells.
        size: height and width of the planes, in cells.

    Returns:
        Plane, row and column, `(count, 2 * REACH + 1, 2 * REACH + 1)` each, as neighbours in the
        mosaic; mirrored about its border pixels, by which each sample keeps its colour.
    """
    plane, row, column = sites
    steps = np.arange(-REACH, REACH + 1)
    y = _mirrored((2 * row + plane // 2)[:, None] + steps, 2 * size[0])[:, :, None]
    x = _mirrored((2 * column + plane % 2)[:, None] + steps, 2 * size[1])[:, None, :]
    planes, rows, columns = np.broadcast_arrays(y % 2 * 2 + x % 2, y // 2, x // 2)
    return planes, rows, columns


def _mirrored(index: np.ndarray, side: int) -> np.ndarray:
    """Mirror indices about the first and the last one, as often as needed."""
    period = 2 * (side - 1)
    index = np.abs(index) % period
    mirrored: np.ndarray = np.where(index < side, index, period - index)
    return mirrored


class Prediction:
    """The prediction of samples in the middle of windows.

    Attributes:
        values: `(count,)` float32, the predicted samples.
        scatter: `(count,)` float32, standard deviation of the fit's residuals.
        residuals: `(48, count)` float32, sizes of the residuals of the neighbours.
    """

    def __init__(
        self, windows: np.ndarray, variance: np.ndarray, usable: np.ndarray | None = None
    ) -> None:
        """Fit and predict.

        Args:
            windows: `(count, 17, 17)` float32; the middle is not used.
            variance: `(count,)`, of the noise, to which the fit must not adapt itself.
            usable: `(count, 17, 17)` bool, samples that may teach the rule; None for all.
        """
        # Relative to their level, single precision is enough.
        level = np.mean([at(windows, step) for pair in _REGRESSORS for step in pair], axis=0)
        windows = windows - level[:, None, None]
        # The middle is among its neighbours' neighbours, and may be a defect.
        own_colour = [step for group in _REGRESSORS[3:] for step in group]
        windows[:, REACH, REACH] = np.mean([at(windows, step) for step in own_colour], axis=0)
        inputs = np.stack([_regressors(windows, step) for step in _NEIGHBOURS], axis=1)
        target = np.stack([at(windows, step) for step in _NEIGHBOURS], axis=1)
        distances = np.square(_NEIGHBOURS).sum(1)
        weight = np.exp(-distances / (2 * _WEIGHT_SIGMA**2)).astype(np.float32)
        weight = np.broadcast_to(weight, target.shape)
        if usable is not None:
            taught = np.stack([at(usable, step) for step in _NEIGHBOURS], axis=1)
            weight = weight * np.maximum(taught, np.float32(1e-6))
        middle = _regressors(windows, (0, 0))
        total = weight.sum(1, keepdims=True)
        mean_input = np.einsum("nk,nkr->nr", weight, inputs) / total
        mean_target = (weight * target).sum(1, keepdims=True) / total
        inputs = inputs - mean_input[:, None]
        target = target - mean_target
        weighted = (inputs * weight[:, :, None]).swapaxes(1, 2)
        squares = (weighted @ inputs).astype(np.float64)
        products = (weighted @ target[:, :, None]).astype(np.float64)
        diagonal = np.arange(len(_REGRESSORS))
        # The noise of a mean of two; the constant keeps flat windows solvable.
        squares[:, diagonal, diagonal] += variance[:, None] * total / 2 + 1e-12
        slopes = np.linalg.solve(squares, products)[:, :, 0].astype(np.float32)
        residuals = target - np.einsum("nkr,nr->nk", inputs, slopes)
        self.values = level + mean_target[:, 0] + ((middle - mean_input) * slopes).sum(1)
        self.scatter = np.sqrt((weight * residuals**2).sum(1) / total[:, 0])
        self.residuals = np.abs(residuals).T


def at(windows: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    """Return a sample of each window, `(count,)`, by its (row, column) from the middle."""
    return windows[:, REACH + step[0], REACH + step[1]]


def _regressors(windows: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    """Return the means of the neighbours of a sample, `(count, regressors)`."""
    return np.stack(
        [
            np.mean([at(windows, (step[0] + y, step[1] + x)) for y, x in group], axis=0)
            for group in _REGRESSORS
        ],
        axis=1,
    )
