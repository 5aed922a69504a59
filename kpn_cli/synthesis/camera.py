"""A simulated camera: linear planes -> DNG files with levels, NoiseProfile and Exif times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from ..image import bayer
from ..image.noise_model import NoiseModel
from ..output.dng_tags import DngTags
from ..output.dng_writer import write_cfa_dng
from . import protocol


@dataclass(frozen=True)
class Camera:
    """A simulated camera.

    Attributes:
        phase: CFA phase, one of `bayer.PHASES`.
        bits: per sample, 10 to 16.
        neutral: camera RGB of a neutral surface, green = 1.
    """

    phase: str = "GRBG"
    bits: int = 14
    neutral: tuple[float, float, float] = protocol.NEUTRAL

    @property
    def white(self) -> int:
        """White level in DN."""
        return (1 << self.bits) - 1

    @property
    def black(self) -> int:
        """Black level in DN: four sigmas of the read noise at the protocol's gain 8.

        With less, clipping at 0 DN would brighten noisy shadows.
        """
        return 1 << (self.bits - 2)

    @property
    def rounding_variance(self) -> float:
        """Variance that rounding to whole DN adds to linear planes."""
        return 1 / (12 * (self.white - self.black) ** 2)

    def record(self, planes: np.ndarray) -> np.ndarray:
        """Return the mosaic, `(height, width)` uint16, of linear planes `(4, rows, columns)`."""
        _, rows, columns = planes.shape
        numbers = np.rint(planes * (self.white - self.black) + self.black)
        numbers = numbers.clip(0, self.white).astype(np.uint16)
        return bayer.unpack(numbers, self.phase, 2 * rows, 2 * columns)

    def tags(self, noise: NoiseModel | None, captured: datetime, model: str) -> DngTags:
        """Return the tags of this camera's DNG files.

        Args:
            noise: for the NoiseProfile; None for noiseless planes without one.
            captured: time of exposure.
            model: the camera's name.
        """
        # ISO of a phone camera with S = 1.8e-4 at ISO 100, in steps of 50.
        shot = noise.shot[1] if noise else 0.0
        iso = min(max(50 * round(shot / 0.9e-4), 50), 409_600)
        return DngTags(
            phase=self.phase,
            black=(self.black, self.black, self.black, self.black),
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
    burst: np.ndarray,
    noise: NoiseModel,
    camera: Camera,
    start: datetime,
    model: str,
) -> list[Path]:
    """Write a burst as DNG files `IMG_0000.dng` ..., with NoiseProfile and Exif times.

    Args:
        folder: an existing folder.
        burst: `(frames, 4, rows, columns)`, linear, noisy.
        noise: for the NoiseProfile; the variance of rounding is added to it.
        camera: that records the burst.
        start: time of the first frame; the others follow at 20 frames per second.
        model: the camera's name.

    Returns:
        The files' paths.
    """
    r, g1, g2, b = (read + camera.rounding_variance for read in noise.read)
    profile = NoiseModel(noise.shot, (r, g1, g2, b))
    paths = []
    for number, planes in enumerate(burst):
        path = folder / f"IMG_{number:04d}.dng"
        captured = start + timedelta(milliseconds=50 * number)
        write_cfa_dng(path, camera.record(planes), camera.tags(profile, captured, model))
        paths.append(path)
    return paths


def write_truth(path: Path, clean: np.ndarray, camera: Camera, start: datetime, model: str) -> None:
    """Write noiseless linear planes `(4, rows, columns)` as a DNG of the same camera."""
    write_cfa_dng(path, camera.record(clean), replace(camera.tags(None, start, model), iso=50))
