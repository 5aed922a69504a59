"""What is known about a raw file besides its pixels: `RawInfo`, and `Capture` for grouping."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..image.noise_model import NoiseModel

Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class RawInfo:
    """Everything about a raw file but its pixels.

    Attributes:
        path: the file.
        make, model: of the camera; "" when unknown.
        phase: CFA phase at the origin of the visible area, one of `bayer.PHASES`.
        height, width: of the visible mosaic, in sensor pixels.
        black: black level of the planes R, G1, G2, B, in DN; with fractions in a DNG.
        white: saturation in DN, the lowest channel's where the channels differ.
        iso: sensitivity; None when absent or 0.
        exposure_time: seconds; None when absent or 0.
        f_number: None when absent or 0.
        focal_length: millimetres; None when absent or 0.
        captured: local time of the exposure, with the file's fraction of a second; no zone.
        orientation: EXIF 1-8.
        white_balance: as-shot gains R, G, B with G == 1; else daylight's, else ones.
        color_matrix: XYZ (D65 where the file has it) -> camera, 3x3; None when unknown.
        noise_profile: from the DNG's NoiseProfile (tag 51041); None when absent or void.
        origin: row and column of the visible area in the whole frame, sensor pixels.
    """

    path: Path
    make: str
    model: str
    phase: str
    height: int
    width: int
    black: tuple[float, float, float, float]
    white: float
    iso: float | None
    exposure_time: float | None
    f_number: float | None
    focal_length: float | None
    captured: datetime | None
    orientation: int
    white_balance: tuple[float, float, float]
    color_matrix: Matrix | None
    noise_profile: NoiseModel | None
    origin: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What is known of a raw file without decoding it: enough to say what it belongs to.

    Attributes:
        path, make, model, height, width, iso, exposure_time, f_number, captured: as
            `RawInfo`'s; the size can be a line more where LibRaw rounds.
        serial: of the camera's body; "" when unknown.
        burst_id: the same in all frames of a burst, if the camera says so; else "".
        number: of the frame in its burst, from 1; None where the camera doesn't count.
        bracketed: whether the camera changed the exposure from frame to frame on purpose.
    """

    path: Path
    make: str
    model: str
    serial: str
    height: int
    width: int
    iso: float | None
    exposure_time: float | None
    f_number: float | None
    captured: datetime | None
    burst_id: str = ""
    number: int | None = None
    bracketed: bool = False
