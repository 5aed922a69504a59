"""Whole bursts as a hand takes them, before any alignment, and as a camera writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from . import bayer, protocol
from .dng import DngTags, write_cfa_dng
from .motion import draw_object
from .noise import NoiseModel
from .photos import Scene

_TRIPOD = 0.15  # chance
_TURNING, _DEGREES = 0.3, 0.2  # chance, and the most
_MOVING = 0.25  # chance
_PHOTO_PIXELS_PER_CELL = 4


def draw_handheld(
    scenes: Sequence[Scene], number: int, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Return the noiseless frames of a whole photo.

    A tripod now and then; else the protocol's shifts (`protocol.draw_shifts`), small
    turns, and sometimes an object that moves by itself.

    Args:
        scenes: photos; `scenes[number]` is the one taken, another lends the object.
        number: which.
        rng: where all chances come from.
        count: number of frames, the reference first.

    Returns:
        `(count, 4, rows, columns)` float32 in [0, 1], linear with the photo's white
        balance, of all the photo but a margin.
    """
    scene = scenes[number]
    shifts = protocol.draw_shifts(rng, count) * (rng.random() >= _TRIPOD)
    angles = np.zeros(count)
    if shifts.any() and rng.random() < _TURNING:
        angles[1:] = np.radians(rng.uniform(-_DEGREES, _DEGREES, count - 1))
    frames = protocol.whole_planes(scene, shifts, angles).astype(np.float32) / 65535
    if rng.random() < _MOVING:
        size = protocol.whole_size(scene)
        way, mask = draw_object(rng, count, size)
        steps = np.round(way[:, ::-1] * _PHOTO_PIXELS_PER_CELL).astype(int)
        other = scenes[int(rng.integers(len(scenes)))].fitted(scene.height, scene.width)
        layer = protocol.whole_planes(other, shifts - steps, angles).astype(np.float32) / 65535
        frames += mask * (layer - frames)
    return frames


@dataclass(frozen=True)
class Camera:
    """A pretended camera.

    Attributes:
        phase: CFA phase, one of `bayer.PHASES`.
        bits: of its samples, 10 to 16.
        neutral: camera RGB of a neutral surface.
    """

    phase: str = "GRBG"
    bits: int = 14
    neutral: tuple[float, float, float] = protocol.NEUTRAL

    @property
    def white(self) -> int:
        """White level in DN."""
        return 2**self.bits - 1

    @property
    def black(self) -> int:
        """Black level in DN: three sigmas of the read noise at the protocol's gain 8.

        Clipped at zero, noisy shadows would be brighter than the truth.
        """
        return 2 ** (self.bits - 2)

    def record(self, planes: np.ndarray) -> np.ndarray:
        """Return the mosaic of linear planes, `(height, width)` uint16: rounded and clipped."""
        _, rows, columns = planes.shape
        numbers = np.rint(planes * (self.white - self.black) + self.black)
        numbers = numbers.clip(0, self.white).astype(np.uint16)
        return bayer.unpack(numbers, self.phase, 2 * rows, 2 * columns)

    def tags(self, noise: NoiseModel | None, captured: datetime, model: str) -> DngTags:
        """Return what its files say."""
        # As of a phone's camera with S = 1.8e-4 at ISO 100, in steps that cameras have.
        shot = noise.shot[1] if noise else 0.0
        iso = min(max(50 * round(shot / 0.9e-4), 50), 409_600)
        return DngTags(
            phase=self.phase,
            black=(self.black,) * 4,
            white=self.white,
            make="kpn",
            model=model,
            as_shot_neutral=self.neutral,
            noise=noise,
            iso=iso,
            exposure_time=1 / 30,
            f_number=1.8,
            captured=captured,
        )


def write_frames(
    folder: Path,
    clean: np.ndarray,
    noise: NoiseModel,
    rng: np.random.Generator,
    camera: Camera,
    start: datetime,
    model: str,
) -> list[Path]:
    """Write a burst as DNG files `IMG_0000.dng` ..., with NoiseProfile and Exif times.

    Args:
        folder: where to; it is there.
        clean: `(frames, 4, rows, columns)`, linear, noiseless.
        noise: that is added.
        rng: of the noise.
        camera: that takes it.
        start: time of the first frame; the others follow at 20 frames a second.
        model: the camera's name.

    Returns:
        The files' paths.
    """
    paths = []
    for number, planes in enumerate(clean):
        path = folder / f"IMG_{number:04d}.dng"
        captured = start + timedelta(milliseconds=50 * number)
        mosaic = camera.record(noise.sample(planes, rng))
        write_cfa_dng(path, mosaic, camera.tags(noise, captured, model))
        paths.append(path)
    return paths


def write_truth(path: Path, clean: np.ndarray, camera: Camera, start: datetime, model: str) -> None:
    """Write noiseless planes `(4, rows, columns)` as a DNG of the same camera."""
    write_cfa_dng(path, camera.record(clean), replace(camera.tags(None, start, model), iso=50))
