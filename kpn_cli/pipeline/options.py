"""The options of denoising, as the library takes them and the command line fills them in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path

from ..choices import (
    COMPRESSIONS,
    DEFAULT_FORMATS,
    DEFAULT_NAME,
    DEFECTS,
    DEVICES,
    EXPOSURES,
    FORMAT_ALIASES,
    FORMATS,
    JPEG_QUALITY,
    MAX_STRENGTH,
    MIN_JPEG_SIZE,
    MIN_TILE,
    PRECISIONS,
    formats_of,
)
from ..errors import KpnError, wrong_type
from ..image.noise_model import NoiseModel
from ..noise import calibration
from ..noise.calibration import Calibration
from .names import check_template


@dataclass(frozen=True, init=False)
class Options:
    """How to denoise; the defaults are those of the command line.

    Attributes:
        output: folder of the outputs; created if it does not exist.
        name: template of the outputs' names without their endings (`names.FIELDS`).
        formats: any of "dng", "linear" (16-bit TIFF), "srgb" (16-bit TIFF) and "jpeg".
        reference: "auto" (the sharpest frame of the middle half; of different exposures, of the
            best one), "darkest" (of the shortest exposure), "first", an index from 0 in order of
            time, or a file name.
        exposures: "same" merges frames of one exposure, and small changes of automatic exposure;
            "mixed" also brackets.
        headroom: whether highlights that the reference clips and a darker frame does not are kept
            above the reference's white.
        strength: factor of the noise sigma that the network assumes, from 0 to 4; 0 returns the
            reference as it is, but for its defects.
        grain: share of the reference's luminance noise that is given back, from 0 to 1; none of
            its colour noise (`merge/grain.py`).
        noise: the user's noise model, or a camera's calibration by ISO; replaces the file's
            profile and the estimate. None for these.
        defects: "auto" repairs defective samples of the sensor (`defects/repair.py`); "off" only
            those that the files mark.
        device: "auto", "cpu", "cuda" or "mps".
        precision: of the network's arithmetic: "auto", "fp32", "bf16" or "int8".
        tile: side of a tile in sensor pixels, at least 64; None to choose by the free memory.
        weights: a weight file; None for the bundled network.
        overwrite: whether to replace finished outputs; otherwise they are kept.
        compression: of the DNG's mosaic: "lossless" or "none".
        jpeg_quality: of the JPEG, 1 to 100; from 90 on its colours have full resolution.
        jpeg_size: long side of the JPEG in pixels, at least 16, to which larger pictures are
            reduced; None for full size.
        report: whether `kpn denoise` also writes an HTML report (`batch/report.py`).
    """

    output: Path
    name: str
    formats: tuple[str, ...]
    reference: str
    exposures: str
    headroom: bool
    strength: float
    grain: float
    noise: NoiseModel | Calibration | None
    defects: str
    device: str
    precision: str
    tile: int | None
    weights: Path | None
    overwrite: bool
    compression: str
    jpeg_quality: int
    jpeg_size: int | None
    report: bool

    def __init__(
        self,
        output: str | os.PathLike[str] = "denoised",
        *,
        name: str = DEFAULT_NAME,
        formats: str | Sequence[str] = DEFAULT_FORMATS,
        reference: str | int | os.PathLike[str] = "auto",
        exposures: str = EXPOSURES[0],
        headroom: bool = False,
        strength: float = 1.0,
        grain: float = 0.0,
        noise: NoiseModel | Calibration | str | os.PathLike[str] | None = None,
        defects: str = DEFECTS[0],
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        weights: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        compression: str = COMPRESSIONS[0],
        jpeg_quality: int = JPEG_QUALITY,
        jpeg_size: int | None = None,
        report: bool = False,
    ) -> None:
        """Check the options, and convert them to the attributes' types.

        Args:
            output, weights: paths, as text too.
            formats: one name or several, in upper or lower case; also those of
                `choices.FORMAT_ALIASES`.
            reference: an index may be an int.
            noise: may be the path of a file written by `kpn calibrate`.
            name, exposures, headroom, strength, grain, defects, device, precision, tile, overwrite,
                compression, jpeg_quality, jpeg_size, report: see above.

        Raises:
            TypeError: if an option has a wrong type.
            KpnError: if one has a wrong value, or the noise file cannot be read.
        """
        values: dict[str, object] = {
            "output": path_of("output", output),
            "name": _name(name),
            "formats": _formats(formats),
            "reference": _reference(reference),
            "exposures": _choice("exposures", exposures, EXPOSURES),
            "headroom": _flag("headroom", headroom),
            "strength": _number("strength", strength, MAX_STRENGTH),
            "grain": _number("grain", grain, 1),
            "noise": _noise(noise),
            "defects": _choice("defects", defects, DEFECTS),
            "device": _choice("device", device, DEVICES),
            "precision": _choice("precision", precision, PRECISIONS),
            "tile": _tile(tile),
            "weights": None if weights is None else path_of("weights", weights),
            "overwrite": _flag("overwrite", overwrite),
            "compression": _choice("compression", compression, COMPRESSIONS),
            "jpeg_quality": _jpeg_quality(jpeg_quality),
            "jpeg_size": _jpeg_size(jpeg_size),
            "report": _flag("report", report),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)


def path_of(argument: str, value: object) -> Path:
    """Return a path that may be given as text.

    Raises:
        TypeError: if it is neither text nor a path.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise wrong_type(argument, "a str or a Path", value)
    return Path(value)


def _choice(argument: str, value: object, choices: tuple[str, ...]) -> str:
    """Return one of the choices."""
    name = _text(argument, value)
    if name not in choices:
        raise KpnError(f"{argument}: {name} is unknown; choose one of {', '.join(choices)}")
    return name


def _text(argument: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(argument, "a str", value)
    return value


def _flag(argument: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(argument, "True or False", value)
    return value


def _name(value: object) -> str:
    try:
        return check_template(_text("name", value))
    except KpnError as error:
        raise KpnError(f"name: {error}") from None


def _formats(value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise wrong_type("formats", "a str or a list of str", value)
    formats = formats_of(names)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not names:
        known = ", ".join((*FORMATS, *FORMAT_ALIASES))
        raise KpnError(f"formats: {', '.join(unknown) or 'none given'}; choose among {known}")
    return formats


def _reference(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, Integral, os.PathLike)):
        raise wrong_type("reference", "a str, an int or a Path", value)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _number(argument: str, value: object, most: float) -> float:
    """Return a number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong_type(argument, "a number", value)
    number = float(value)  # the fingerprint knows 2 from 2.0
    if not 0 <= number <= most:
        raise KpnError(f"{argument}: {number:g} is out of range; give 0 to {most:g}")
    return number


def _noise(value: object) -> NoiseModel | Calibration | None:
    if isinstance(value, (str, os.PathLike)):
        return calibration.load_calibration(Path(value))
    if value is not None and not isinstance(value, (NoiseModel, Calibration)):
        raise wrong_type("noise", "a NoiseModel or the path of a calibration", value)
    return value


def _tile(value: object) -> int | None:
    return None if value is None else _pixels("tile", value, MIN_TILE)


def _jpeg_size(value: object) -> int | None:
    return None if value is None else _pixels("jpeg_size", value, MIN_JPEG_SIZE)


def _pixels(argument: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise wrong_type(argument, "an int or None", value)
    if value < least:
        raise KpnError(f"{argument}: {value} is too small; give at least {least} pixels")
    return int(value)


def _jpeg_quality(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise wrong_type("jpeg_quality", "an int", value)
    quality = int(value)
    if not 1 <= quality <= 100:
        raise KpnError(f"jpeg_quality: {quality} is out of range; give 1 to 100")
    return quality
