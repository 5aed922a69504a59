"""Defective samples of a simulated sensor, and stars, which must not be taken for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Shares of the kinds of defects; the rest is stuck at a value of its own.
_HOT, _DEAD = 0.6, 0.3
#: log10 of the glow of hot samples, in units of white.
_GLOW = (-2.2, 0.0)
#: Where a defect's neighbour is defective too, in sensor pixels from it.
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))


@dataclass(frozen=True)
class SensorDefects:
    """Defective samples: each records `response * signal + glow`.

    Attributes:
        plane, row, column: `(defects,)` int64, in cells.
        response: `(defects,)` float32, 1 for hot ones, 0 to 0.3 for dead and stuck ones.
        glow: `(defects,)` float32, in units of white.
    """

    plane: np.ndarray
    row: np.ndarray
    column: np.ndarray
    response: np.ndarray
    glow: np.ndarray

    def recorded(self, signal: np.ndarray) -> np.ndarray:
        """Return a copy of noiseless planes `(..., 4, height, width)` as the sensor has them."""
        out: np.ndarray = signal.copy()
        at = (..., self.plane, self.row, self.column)
        out[at] = signal[at] * self.response + self.glow
        return out

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return where the defects are, `(4, height, width)` bool."""
        mask = np.zeros((4, height, width), bool)
        mask[self.plane, self.row, self.column] = True
        return mask


def draw_defects(
    rng: np.random.Generator, height: int, width: int, share: float, clusters: float = 0.15
) -> SensorDefects:
    """Return random hot, dead and stuck samples.

    Args:
        rng: source of all randomness.
        height, width: of the planes, in cells.
        share: of the samples that are defective.
        clusters: share of the defects with a defective neighbour.
    """
    number = round(share * 4 * height * width)
    y, x = rng.integers(0, 2 * height, number), rng.integers(0, 2 * width, number)
    kind = rng.random(number)
    twins = rng.random(number) < clusters
    steps = np.array(_NEIGHBOURS)[rng.integers(0, len(_NEIGHBOURS), number)]
    y = np.concatenate([y, (y + steps[:, 0])[twins]]).clip(0, 2 * height - 1)
    x = np.concatenate([x, (x + steps[:, 1])[twins]]).clip(0, 2 * width - 1)
    kind = np.concatenate([kind, kind[twins]])
    hot, dead = kind < _HOT, (kind >= _HOT) & (kind < _HOT + _DEAD)
    weak = np.where(rng.random(len(y)) < 0.3, rng.uniform(0, 0.3, len(y)), 0)
    response = np.where(hot, 1, np.where(dead, weak, 0))
    glow = np.where(
        hot, 10 ** rng.uniform(*_GLOW, len(y)), np.where(dead, 0, rng.uniform(0, 1, len(y)))
    )
    return SensorDefects(
        plane=y % 2 * 2 + x % 2,
        row=y // 2,
        column=x // 2,
        response=response.astype(np.float32),
        glow=glow.astype(np.float32),
    )


def add_stars(
    signal: np.ndarray,
    positions: np.ndarray,
    shifts: np.ndarray,
    peaks: np.ndarray,
    sigma: float | np.ndarray,
) -> np.ndarray:
    """Return noiseless planes with stars: Gaussian spots, sampled at the middle of each pixel.

    Args:
        signal: `(frames, 4, height, width)`, linear.
        positions: `(stars, 2)`, (y, x) in sensor pixels.
        shifts: `(frames, 2)`, of the camera, likewise.
        peaks: `(stars,)` or `(stars, 4)` by plane, linear.
        sigma: of the spots, sensor pixels; one for all or one each.
    """
    out: np.ndarray = signal.copy()
    count, _, height, width = signal.shape
    sigmas = np.broadcast_to(sigma, len(positions))
    peaks = np.broadcast_to(peaks[:, None] if peaks.ndim == 1 else peaks, (len(positions), 4))
    reach = np.arange(-5, 6)
    for frame in range(count):
        for (y, x), peak, spread in zip(positions - shifts[frame], peaks, sigmas, strict=True):
            rows, columns = int(np.rint(y)) + reach, int(np.rint(x)) + reach
            rows = rows[(rows >= 0) & (rows < 2 * height)]
            columns = columns[(columns >= 0) & (columns < 2 * width)]
            spot = np.exp(
                -((rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2) / (2 * spread**2)
            )
            plane = rows[:, None] % 2 * 2 + columns[None, :] % 2
            # Each pixel is there once, so that += adds to all of them.
            out[frame, plane, rows[:, None] // 2, columns[None, :] // 2] += peak[plane] * spot
    return out
