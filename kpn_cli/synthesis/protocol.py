"""The evaluation protocol: noise levels and test bursts; `evaluation` has its metrics.

Ours, after the KPN paper's (section 5), on the planes of a Bayer mosaic. Its
figures can be compared only with figures of this same protocol.
"""

from __future__ import annotations

import numpy as np

from ..image.noise_model import NoiseModel
from .photos import PIXELS_PER_CELL, Scene

#: Names the protocol in results; changes whenever figures stop being comparable.
NAME = "kpn-planes-1"

#: gain -> (S, O), variance coefficients. 1 to 8 are the paper's, whose training
#: range ends between 2 and 4; 0 is the median of mirrorless cameras at ISO 3200.
GAINS: dict[int, tuple[float, float]] = {
    0: (6.7e-5, 2.7e-7),
    1: (2.704e-3, 4.672e-5),
    2: (6.219e-3, 2.472e-4),
    4: (1.430e-2, 1.3075e-3),
    8: (3.290e-2, 6.917e-3),
}
#: One step further than any training goes (`SynthConfig.shot_range`): S grows by 2.3 and
#: O by 5.29 with each doubling of the paper's gains.
BEYOND: dict[int, tuple[float, float]] = {16: (7.567e-2, 3.659e-2)}

#: White levels of the scenes, in turn.
WHITE_LEVELS = (1.0, 0.5, 0.25)
#: White-balance gains that are undone: typical of daylight (red, blue).
_RED_GAIN, _BLUE_GAIN = 2.0, 1.6
#: White as the pretended camera sees it (R, G, B).
NEUTRAL = (1 / _RED_GAIN, 1.0, 1 / _BLUE_GAIN)
_SMALL, _LARGE = 4, 32  # photo pixels: 2 and 16 mosaic pixels


def noise_of_gain(gain: int) -> NoiseModel:
    """The noise model of a gain of `GAINS` or `BEYOND`."""
    return NoiseModel.uniform(*(GAINS | BEYOND)[gain])


def expose(planes: np.ndarray, white: float) -> np.ndarray:
    """Undo the white balance and scale white to `white`: `(..., 4, h, w)` uint16 -> float32."""
    gains = np.array([NEUTRAL[0], 1, 1, NEUTRAL[2]]) * white / 65535
    return planes * gains.astype(np.float32)[:, None, None]


def draw_shifts(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Shift of each frame in photo pixels, (x, y); the reference's is zero.

    Within 2 mosaic pixels, and for a share min(Poisson(1.5) / 8, 1) of the frames
    within 16, as in the paper (section 4).
    """
    reach = np.full(frames, _SMALL)
    reach[rng.random(frames) < min(rng.poisson(1.5) / 8, 1)] = _LARGE
    shifts = np.stack([rng.integers(-r, r + 1, 2) for r in reach])
    shifts[0] = 0
    return shifts


def whole_size(scene: Scene) -> tuple[int, int]:
    """Rows and columns of the cells that all of a photo but a margin makes."""
    return (scene.height - 2 * _LARGE) // PIXELS_PER_CELL, (
        scene.width - 2 * _LARGE
    ) // PIXELS_PER_CELL


def whole_planes(scene: Scene, shifts: np.ndarray, angles: np.ndarray | None = None) -> np.ndarray:
    """Photograph all of a photo but a margin.

    Args:
        scene: the photo.
        shifts: of each frame in photo pixels, (x, y).
        angles: by which each frame is turned about the middle, in radians; None for 0.

    Returns:
        `(frames, 4, rows, columns)` of the scene's type, noiseless, 65535 = white.
    """
    rows, columns = whole_size(scene)
    middle = np.array([columns - 1, rows - 1]) / 2
    frames = []
    for shift, angle in zip(
        shifts, np.zeros(len(shifts)) if angles is None else angles, strict=True
    ):
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = PIXELS_PER_CELL * np.array([[cos, -sin], [sin, cos]])
        offset = _LARGE + shift + PIXELS_PER_CELL * middle - matrix @ middle
        frames.append(scene.planes(np.column_stack([matrix, offset]), rows, columns))
    return np.stack(frames)


def whole_scene(scene: Scene, shifts: np.ndarray, white: float) -> np.ndarray:
    """Photograph all of a photo but a margin: noiseless `(frames, 4, rows, columns)` float32."""
    return expose(whole_planes(scene, shifts), white)
