"""A pretended camera: linear planes -> DNG files with levels, noise profile and times."""

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
        """Black level in DN: four sigmas of the read noise at the protocol's gain 8.

        Clipped at zero, noisy shadows would be brighter than the truth.
        """
        return 2 ** (self.bits - 2)

    @property
    def rounding(self) -> float:
        """Variance that rounding to whole DN adds, of linear planes."""
        return 1 / (12 * (self.white - self.black) ** 2)

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
    burst: np.ndarray,
    noise: NoiseModel,
    camera: Camera,
    start: datetime,
    model: str,
) -> list[Path]:
    """Write a burst as DNG files `IMG_0000.dng` ..., with NoiseProfile and Exif times.

    Args:
        folder: where to; it is there.
        burst: `(frames, 4, rows, columns)`, linear, noisy.
        noise: what the files say of it; what rounding adds is added.
        camera: that takes it.
        start: time of the first frame; the others follow at 20 frames a second.
        model: the camera's name.

    Returns:
        The files' paths.
    """
    said = NoiseModel(noise.shot, tuple(read + camera.rounding for read in noise.read))
    paths = []
    for number, planes in enumerate(burst):
        path = folder / f"IMG_{number:04d}.dng"
        captured = start + timedelta(milliseconds=50 * number)
        write_cfa_dng(path, camera.record(planes), camera.tags(said, captured, model))
        paths.append(path)
    return paths


def write_truth(path: Path, clean: np.ndarray, camera: Camera, start: datetime, model: str) -> None:
    """Write noiseless planes `(4, rows, columns)` as a DNG of the same camera."""
    write_cfa_dng(path, camera.record(clean), replace(camera.tags(None, start, model), iso=50))
