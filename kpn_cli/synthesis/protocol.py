"""The evaluation protocol: noise levels and test bursts; its metrics are in `evaluation`.

It follows the KPN paper (Mildenhall et al., CVPR 2018, section 5) but works on the planes of a
Bayer mosaic. Compare its figures only with figures of the same protocol.
"""

from __future__ import annotations

import numpy as np

from ..image.noise_model import NoiseModel
from .photos import PIXELS_PER_CELL, Scene
from .shake import smeared

#: Name of the protocol in results; changes whenever figures stop being comparable.
NAME = "kpn-planes-1"

#: Gain -> (S, O), variance coefficients. Gains 1 to 8 are the paper's, whose training range
#: ends between 2 and 4; gain 0 is the median of mirrorless cameras at ISO 3200.
GAINS: dict[int, tuple[float, float]] = {
    0: (6.7e-5, 2.7e-7),
    1: (2.704e-3, 4.672e-5),
    2: (6.219e-3, 2.472e-4),
    4: (1.430e-2, 1.3075e-3),
    8: (3.290e-2, 6.917e-3),
}
#: Beyond the training range (`SynthConfig.shot_range`): with each doubling of the paper's gains
#: S grows by 2.3 and O by 5.29.
BEYOND_GAINS: dict[int, tuple[float, float]] = {16: (7.567e-2, 3.659e-2)}

#: White level of the scenes, in turn.
WHITE_LEVELS = (1.0, 0.5, 0.25)
#: White-balance gains that are undone, typical of daylight.
_RED_GAIN, _BLUE_GAIN = 2.0, 1.6
#: Camera RGB of a neutral surface.
NEUTRAL = (1 / _RED_GAIN, 1.0, 1 / _BLUE_GAIN)
#: Largest shifts, in photo pixels: 2 and 16 mosaic pixels. The larger is the photo's margin.
_SMALL_SHIFT, _LARGE_SHIFT = 4, 32


def noise_of_gain(gain: int) -> NoiseModel:
    """Return the noise model of a gain of `GAINS` or `BEYOND_GAINS`."""
    return NoiseModel.uniform(*(GAINS | BEYOND_GAINS)[gain])


def to_raw_signal(planes: np.ndarray, white: float) -> np.ndarray:
    """Convert planes of a photo to raw signal: undo the white balance, set the white level.

    Args:
        planes: `(..., 4, height, width)`, linear, 65535 = white.
        white: signal of white, 0 to 1.

    Returns:
        float32 of the same shape.
    """
    gains = np.array([NEUTRAL[0], 1, 1, NEUTRAL[2]]) * white / 65535
    signal: np.ndarray = planes * gains.astype(np.float32)[:, None, None]
    return signal


def draw_camera_shifts(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Return a random shift for each frame.

    Within 2 mosaic pixels; for a share min(Poisson(1.5) / 8, 1) of the frames within 16, as in
    the paper (section 4).

    Returns:
        `(frames, 2)` int64, (x, y) in photo pixels; zero for the reference, which is first.
    """
    reach = np.full(frames, _SMALL_SHIFT)
    reach[rng.random(frames) < min(rng.poisson(1.5) / 8, 1)] = _LARGE_SHIFT
    shifts = np.stack([rng.integers(-r, r + 1, 2) for r in reach])
    shifts[0] = 0
    return shifts


def frame_size(scene: Scene) -> tuple[int, int]:
    """Return rows and columns, in cells, of frames of the whole photo less a margin."""
    rows, columns = (
        (side - 2 * _LARGE_SHIFT) // PIXELS_PER_CELL for side in (scene.height, scene.width)
    )
    return rows, columns


def photograph_planes(
    scene: Scene,
    shifts: np.ndarray,
    angles: np.ndarray | None = None,
    shake: np.ndarray | None = None,
) -> np.ndarray:
    """Return noiseless frames of the whole photo less a margin.

    Args:
        scene: the photo.
        shifts: `(frames, 2)`, (x, y) in photo pixels.
        angles: `(frames,)`, rotation about the middle in radians; None for 0.
        shake: `(frames, 2)`, (x, y): path of the scene during each exposure, in photo pixels;
            None for none.

    Returns:
        `(frames, 4, rows, columns)` of the scene's type, 65535 = white.
    """
    rows, columns = frame_size(scene)
    middle = np.array([columns - 1, rows - 1]) / 2
    frames = []
    angles = np.zeros(len(shifts)) if angles is None else angles
    shake = np.zeros((len(shifts), 2)) if shake is None else shake
    for shift, angle, path in zip(shifts, angles, shake, strict=True):
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = PIXELS_PER_CELL * np.array([[cos, -sin], [sin, cos]])
        offset = _LARGE_SHIFT + shift + PIXELS_PER_CELL * middle - matrix @ middle
        moved = smeared(scene, path)
        frames.append(moved.planes(np.column_stack([matrix, offset]), rows, columns))
    return np.stack(frames)


def photograph(scene: Scene, shifts: np.ndarray, white: float) -> np.ndarray:
    """Return noiseless raw frames of the whole photo less a margin.

    Args:
        scene: the photo.
        shifts: `(frames, 2)`, (x, y) in photo pixels.
        white: signal of white, 0 to 1.

    Returns:
        `(frames, 4, rows, columns)` float32.
    """
    return to_raw_signal(photograph_planes(scene, shifts), white)
