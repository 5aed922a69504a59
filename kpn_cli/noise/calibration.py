"""The calibration file: the noise of one camera by ISO, as `kpn calibrate` writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..defects.defect_list import DefectList
from ..errors import KpnError, read_error
from ..image.noise_model import NoiseModel
from ..raw.exif import plausible_iso
from ..raw.exposure import show_iso
from ..raw.info import RawInfo
from ..system.files import atomic, check_no_pipe

_FORMAT = "noise-1"
#: A list of as many defects as there can be, of a sensor of 150 megapixels, takes 21 MB.
_MAX_FILE_BYTES = 1 << 25

_FourPlanes = tuple[float, float, float, float]


@dataclass(frozen=True)
class IsoNoise:
    """The noise at one ISO.

    Attributes:
        iso: the sensitivity, above 0.
        noise: S and O of the planes, all above 0.
        pairs: number of pairs of frames that it was measured from.
        note: what was assumed; "" if nothing.
    """

    iso: float
    noise: NoiseModel
    pairs: int
    note: str = ""


@dataclass(frozen=True)
class Calibration:
    """A camera's noise by ISO.

    Attributes:
        make, model: of the camera, as in its files.
        levels: one for each ISO, in rising order; at least one.
        path: the calibration file; None if it was not read from one.
        defects: the sensor's; None if they were not looked for.
    """

    make: str
    model: str
    levels: tuple[IsoNoise, ...]
    path: Path | None = None
    defects: DefectList | None = None

    def noise_of(self, info: RawInfo) -> NoiseModel:
        """Return the noise of a file of this camera.

        Between two ISOs, log S and log O are interpolated linearly over log ISO. Beyond the
        calibrated ones they are scaled from the nearest as amplification scales noise: S with the
        ISO, O with its square.

        Raises:
            KpnError: if the file is another camera's, states no ISO, or one so far from the
                calibrated ones that no noise model fits it.
        """
        if not same_camera(self, info):
            raise KpnError(
                f"{info.path.name}: taken with {camera_name(info)}, but {self._source} "
                f"is for {camera_name(self)}; pass a calibration of the file's camera to --noise"
            )
        if not info.iso:
            raise KpnError(
                f"{info.path.name}: states no ISO, by which {self._source} lists the noise; "
                "give --noise S,O"
            )
        try:
            return self._at_iso(info.iso)
        except KpnError as error:
            raise KpnError(
                f"{self._source}: gives no noise for {show_iso(info.iso)} of "
                f"{info.path.name} "
                f"({error}); make it with kpn calibrate"
            ) from None

    def warning(self, info: RawInfo) -> str:
        """Return what a file lacks in the calibration: its ISO, its list of defects; else ""."""
        found = (self._iso_warning(info), self._defects_warning(info))
        return "; ".join(filter(None, found))

    def _iso_warning(self, info: RawInfo) -> str:
        low, high = self.levels[0].iso, self.levels[-1].iso
        if not info.iso or low <= info.iso <= high:
            return ""
        span = show_iso(low) if low == high else f"{show_iso(low)} to {high:.8g}"
        return f"{show_iso(info.iso)} is extrapolated: {self._source} has {span}"

    def _defects_warning(self, info: RawInfo) -> str:
        if self.defects is None or not self.defects.rows or self.defects.fits(info):
            return ""
        return (
            f"{self._source} lists defects of pictures of {self.defects.width}x"
            f"{self.defects.height} pixels, and this one has {info.width}x{info.height}: not used"
        )

    def _at_iso(self, iso: float) -> NoiseModel:
        isos = [level.iso for level in self.levels]
        nearest = min(self.levels, key=lambda level: abs(np.log(iso / level.iso)))
        if nearest.iso == iso:
            return nearest.noise
        if not isos[0] < iso < isos[-1]:
            return nearest.noise.scaled(iso / nearest.iso)
        above = int(np.searchsorted(isos, iso))
        one, other = self.levels[above - 1 : above + 1]
        share = np.log(iso / one.iso) / np.log(other.iso / one.iso)
        return NoiseModel(
            _interpolated(one.noise.shot, other.noise.shot, share),
            _interpolated(one.noise.read, other.noise.read, share),
        )

    @property
    def _source(self) -> str:
        return self.path.name if self.path else "the calibration"


def _interpolated(one: Sequence[float], other: Sequence[float], share: float) -> _FourPlanes:
    """Interpolate between the values of four planes, linearly in their logarithms."""
    return _four_planes([float(a * (b / a) ** share) for a, b in zip(one, other, strict=True)])


def _four_planes(values: Sequence[float]) -> _FourPlanes:
    if len(values) != 4:
        raise ValueError(f"shot and read must be four numbers each, not {len(values)}")
    red, first_green, second_green, blue = values
    return red, first_green, second_green, blue


def same_camera(one: Calibration | RawInfo, other: Calibration | RawInfo) -> bool:
    """Return whether both have the same make and model, ignoring case and outer spaces."""
    names = [(c.make.strip().casefold(), c.model.strip().casefold()) for c in (one, other)]
    return names[0] == names[1]


def camera_name(camera: Calibration | RawInfo) -> str:
    """Return a camera's make and model for messages."""
    return f"{camera.make} {camera.model}".strip() or "an unknown camera"


# --- the file ---------------------------------------------------------------


def to_json(calibration: Calibration) -> dict[str, Any]:
    """Return the JSON document of a calibration's file."""
    document: dict[str, Any] = {
        "kpn": _FORMAT,
        "make": calibration.make,
        "model": calibration.model,
        "levels": [
            {"iso": level.iso, "shot": level.noise.shot, "read": level.noise.read}
            | {"pairs": level.pairs}
            | ({"note": level.note} if level.note else {})
            for level in calibration.levels
        ],
    }
    if calibration.defects is not None:
        document["defects"] = asdict(calibration.defects)
    return document


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration to a JSON file, atomically.

    Raises:
        KpnError: if it cannot be written.
    """
    document = to_json(calibration)
    defects = document.pop("defects", None)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if defects is not None:  # in one line: a number a line would hide the rest
        text = f'{text[:-2]},\n  "defects": {json.dumps(defects)}\n}}'
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def is_replaceable(path: Path) -> bool:
    """Whether nothing but a calibration, of any version, or an empty file would be lost.

    Args:
        path: where a calibration is to be written; it need not exist.
    """
    try:
        if not path.exists():
            return True
        if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            return False
        data = path.read_bytes()
        document = json.loads(data) if data else {"kpn": _FORMAT}
    except (OSError, ValueError, RecursionError):
        return False
    found = document.get("kpn") if isinstance(document, dict) else None
    return isinstance(found, str) and found.startswith(_FORMAT.rstrip("0123456789"))


def load_calibration(path: Path) -> Calibration:
    """Read what `save_calibration` wrote.

    Raises:
        KpnError: if the file cannot be read, is damaged or something else.
    """
    check_no_pipe(path, "give a file written by kpn calibrate")
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise read_error(path, error) from None
    try:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("it is no JSON, or damaged") from None
        found = document.get("kpn") if isinstance(document, dict) else None
        if found != _FORMAT:
            raise ValueError(f"it is {found!r}, not {_FORMAT!r}" if found else "it holds no noise")
        make, model = (_text(document[key]) for key in ("make", "model"))
        levels = sorted(
            (_read_level(row) for row in document["levels"]), key=lambda level: level.iso
        )
        if not levels or len({level.iso for level in levels}) < len(levels):
            raise ValueError("it holds no ISO, or one twice")
        # Files of earlier versions have none.
        defects = _read_defects(document["defects"]) if "defects" in document else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, KpnError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise KpnError(
            f"{path}: not a calibration that this kpn can read ({' '.join(reason.split())[:120]}); "
            "make it with kpn calibrate"
        ) from None
    return Calibration(make, model, tuple(levels), path, defects)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    if not 0 < float(value) < np.inf:
        raise ValueError(f"{value!r} is not above 0")
    return float(value)


def _read_defects(document: Any) -> DefectList:
    if not isinstance(document, dict):
        raise TypeError("its list of defects is damaged")
    height, width = _integers([document[key] for key in ("height", "width")])
    if height <= 0 or width <= 0:
        raise ValueError("its list of defects is of a sensor without size")
    rows, columns = (_integers(document[key]) for key in ("rows", "columns"))
    return DefectList(height, width, rows, columns)


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise TypeError("its list of defects holds something else than numbers")
    return tuple(values)


def _read_level(row: Any) -> IsoNoise:
    if not isinstance(row, dict):
        raise TypeError("one of its levels is damaged")
    shot, read = (_four_planes([_number(v) for v in row[key]]) for key in ("shot", "read"))
    noise = NoiseModel(shot, read)
    iso = _number(row["iso"])
    if not plausible_iso(iso):
        raise ValueError(f"ISO {iso:g} is not that of a camera")
    return IsoNoise(iso, noise, int(_number(row["pairs"])), _text(row.get("note", "")))
