"""A simulated camera: linear planes -> DNG files with levels, NoiseProfile and Exif times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from ..image import bayer
from ..image.noise_model import NoiseModel
from ..output.dng_images import mosaic_ifd
from ..output.dng_tags import DngTags, camera_tags, cfa_tags, exif_tags
from ..output.dng_writer import check_mosaic, write_cfa_dng, write_tree
from ..tiff import fields
from . import protocol

#: Pause between the end of an exposure and the start of the next, in seconds: as long as in
#: bursts of 1/30 s at 20 frames per second.
_READOUT = 1 / 20 - 1 / 30
#: ExposureMode: auto bracket (Exif 2.32, 4.6.5).
_AUTO_BRACKET = 2


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
    *,
    evs: Sequence[float] = (),
) -> list[Path]:
    """Write a burst as DNG files `IMG_0000.dng` ..., with NoiseProfile and Exif times.

    Args:
        folder: an existing folder.
        burst: `(frames, 4, rows, columns)`, linear, noisy.
        noise: for the NoiseProfile, of each frame as recorded; the variance of rounding is added.
        camera: that records the burst.
        start: time of the first frame; the others follow at 20 frames per second, or as soon as
            the exposure before is over.
        model: the camera's name.
        evs: exposure of each frame in EV, by time alone, for a bracket; () for equal exposures.

    Returns:
        The files' paths.
    """
    r, g1, g2, b = (read + camera.rounding_variance for read in noise.read)
    profile = NoiseModel(noise.shot, (r, g1, g2, b))
    paths = []
    captured = start
    for number, planes in enumerate(burst):
        path = folder / f"IMG_{number:04d}.dng"
        mosaic, tags = camera.record(planes), camera.tags(profile, captured, model)
        if evs:
            captured += _write_bracketed(path, mosaic, tags, evs[number])
        else:
            write_cfa_dng(path, mosaic, tags)
            captured += timedelta(milliseconds=50)
        paths.append(path)
    return paths


def _write_bracketed(path: Path, mosaic: np.ndarray, tags: DngTags, ev: float) -> timedelta:
    """Write a frame of a bracket, with the tags of automatic exposure bracketing (AEB).

    ExposureMode and ExposureBiasValue are in Exif 2.32, 4.6.5.

    Returns:
        The time from the start of its exposure to that of the next one.
    """
    seconds = (tags.exposure_time or 0.0) * 2**ev
    tags = replace(tags, exposure_time=seconds)
    bracketing = (
        fields.signed_rational_field(37380, ev),  # ExposureBiasValue
        fields.integer_field(41986, _AUTO_BRACKET),  # ExposureMode
    )
    exif = fields.ifd_field(34665, fields.merge(exif_tags(tags), bracketing))
    check_mosaic(path, mosaic, tags)
    picture = mosaic_ifd(mosaic, "none")
    write_tree(path, [fields.merge(picture, cfa_tags(tags), camera_tags(tags), (exif,))])
    return timedelta(seconds=seconds + _READOUT)


def write_truth(path: Path, clean: np.ndarray, camera: Camera, start: datetime, model: str) -> None:
    """Write noiseless linear planes `(4, rows, columns)` as a DNG of the same camera."""
    write_cfa_dng(path, camera.record(clean), replace(camera.tags(None, start, model), iso=50))
