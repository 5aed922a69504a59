"""Bursts of a sensor with defects, with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis.sensor_defects import SensorDefects, draw_defects

NOISE = NoiseModel.uniform(3e-4, 3e-6)


def surface(frames: int, size: int = 160, reach: int = 0, seed: int = 0) -> np.ndarray:
    """A scene as a lens draws it, without noise, `(frames, 4, size, size)`; moved by whole pixels.

    Light that varies slowly, and leaves, edges and branches blurred by 0.8 pixels.
    """
    rng = np.random.default_rng(seed)
    side = 2 * size + 2 * reach
    y, x = np.mgrid[:side, :side]
    scene = 0.15 + 0.1 * np.sin(x / 37 + y / 53).astype(np.float32)
    for _ in range(side // 4):
        at, radius = rng.integers(0, side, 2).tolist(), int(rng.integers(3, 20))
        cv2.circle(scene, at, radius, float(rng.uniform(0.05, 0.4)), -1)
    for _ in range(side // 8):
        ends = rng.integers(0, side, (2, 2)).tolist()
        cv2.line(scene, *ends, float(rng.uniform(0.05, 0.4)), 2)
    scene = cv2.GaussianBlur(scene, (0, 0), 0.8)
    colours = np.float32([0.6, 1, 1, 0.8])
    bursts = []
    for _ in range(frames):
        top, left = rng.integers(0, 2 * reach + 1, 2)
        seen = scene[top : top + 2 * size, left : left + 2 * size]
        planes = [seen[row::2, column::2] for row in (0, 1) for column in (0, 1)]
        bursts.append(np.stack(planes) * colours[:, None, None])
    return np.stack(bursts)


@dataclass
class DefectiveBurst:
    """A noisy burst and what it would be.

    Attributes:
        clean: without noise and defects, `(frames, 4, size, size)`.
        recorded: without noise.
        noisy: as the sensor has it.
        defects: of the sensor.
    """

    clean: np.ndarray
    recorded: np.ndarray
    noisy: np.ndarray
    defects: SensorDefects

    def frames(self) -> list[Frame]:
        return [Frame.of_planes(planes.copy()) for planes in self.noisy]

    def errors_left(self, frames: list[Frame], noise: NoiseModel = NOISE) -> np.ndarray:
        """Share of the error left at each defect that is off by more than 6 sigma of a frame."""
        at = (self.defects.plane, self.defects.row, self.defects.column)
        result = np.mean([frame.planes() for frame in frames], axis=0)[at]
        clean, recorded = (
            np.minimum(planes, 1).mean(0)[at] for planes in (self.clean, self.recorded)
        )
        error = recorded - clean
        clear = np.abs(error) > 6 * np.sqrt(noise.shot[0] * clean + noise.read[0])
        left: np.ndarray = np.abs(result - clean)[clear] / np.abs(error)[clear]
        return left


def defective(
    frames: int = 8, share: float = 4e-4, reach: int = 0, seed: int = 0, clusters: float = 0.0
) -> DefectiveBurst:
    rng = np.random.default_rng((seed, frames, reach))
    clean = surface(frames, reach=reach, seed=seed)
    defects = draw_defects(rng, *clean.shape[2:], share, clusters)
    recorded = defects.recorded(clean)
    noisy = np.minimum(NOISE.sample(recorded, rng), 1).astype(np.float32)
    return DefectiveBurst(clean, recorded, noisy, defects)
