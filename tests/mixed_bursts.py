"""Bursts whose frames differ in exposure, with their truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pictures import planes

from kpn_cli.align.warp import TILE
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel

NOISE = NoiseModel.uniform(1e-3, 1e-5)
#: Signal over the reference's, which is first.
BRACKET = (1.0, 0.25, 4.0)


def expose(
    scene: np.ndarray | Sequence[np.ndarray],
    gains: Sequence[float] = BRACKET,
    noise: NoiseModel = NOISE,
    seed: int = 0,
    saturation: float = 1.0,
) -> list[Frame]:
    """Return what a camera records of a scene, at exposures that differ in time.

    Args:
        scene: `(4, rows, columns)` in the reference's exposure; or one for each frame.
        gains: signal of each frame over the reference's.
        noise: as recorded, of every frame.
        saturation: signal at which the sensor clips.
    """
    scenes = [scene] * len(gains) if isinstance(scene, np.ndarray) else scene
    rng = np.random.default_rng(seed)
    frames = []
    for part, gain in zip(scenes, gains, strict=True):
        samples = np.minimum(noise.sample(part * np.float32(gain), rng), np.float32(saturation))
        frames.append(Frame(torch.from_numpy(samples), noise=noise, saturation=saturation))
    return frames


def matched(frames: Sequence[Frame], gains: Sequence[float] = BRACKET) -> list[Frame]:
    """Return frames in the exposure of the reference."""
    return [
        Frame(frame.samples, gain=1 / gain, noise=frame.noise, saturation=frame.saturation)
        for frame, gain in zip(frames, gains, strict=True)
    ]


def still(frames: Sequence[Frame]) -> list[torch.Tensor]:
    """Return the shifts of frames that did not move."""
    rows, columns = (-(-side // TILE) for side in frames[0].size)
    return [torch.zeros(rows, columns, 2, dtype=torch.int64) for _ in frames]


def dim_scene(seed: int, height: int, width: int, brightest: float = 0.22) -> np.ndarray:
    """Texture that does not clip at four times the reference's exposure."""
    return np.float32(brightest) * planes(seed, height, width)
