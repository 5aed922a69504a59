"""The noise of one camera by ISO, as a file that `kpn calibrate` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KpnError, read_error
from ..image.noise_model import NoiseModel
from ..raw.info import RawInfo
from ..system.files import atomic

FORMAT = "noise-1"

_LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Level:
    """The noise at one ISO.

    Attributes:
        iso: the sensitivity.
        noise: S and O of the planes, all above 0.
        pairs: of frames it was measured with.
        note: what was assumed; "" if nothing.
    """

    iso: float
    noise: NoiseModel
    pairs: int
    note: str = ""


@dataclass(frozen=True)
class Calibration:
    """A camera's noise, ISO by ISO.

    Attributes:
        make, model: of the camera, as in its files.
        levels: sorted by ISO, at least one.
        path: the file it is from; None if from none.
    """

    make: str
    model: str
    levels: tuple[Level, ...]
    path: Path | None = None

    def at(self, info: RawInfo) -> NoiseModel:
        """Return the noise of a file of this camera.

        Between two ISOs log S and log O are straight lines over log ISO. Beyond them
        they go on from the nearest as amplification has it: S with the ISO, O with its
        square.

        Raises:
            KpnError: if the file is another camera's, or doesn't say its ISO.
        """
        if not same_camera(self, info):
            raise KpnError(
                f"{info.path.name}: taken with {camera_name(info)}, but {self._source} "
                f"is of {camera_name(self)}; give that camera's own to --noise"
            )
        if not info.iso:
            raise KpnError(
                f"{info.path.name}: says no ISO, by which {self._source} would tell the noise; "
                "give --noise S,O"
            )
        return self._at_iso(info.iso)

    def warning(self, info: RawInfo) -> str:
        """Say that a file's ISO lies beyond the calibrated ones; "" if not."""
        low, high = self.levels[0].iso, self.levels[-1].iso
        if not info.iso or low <= info.iso <= high:
            return ""
        span = f"ISO {low:g}" if low == high else f"ISO {low:g} to {high:g}"
        return f"ISO {info.iso:g} is extrapolated: {self._source} has {span}"

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
            _between(one.noise.shot, other.noise.shot, share),
            _between(one.noise.read, other.noise.read, share),
        )

    @property
    def _source(self) -> str:
        return self.path.name if self.path else "the calibration"


def _between(one: Sequence[float], other: Sequence[float], share: float) -> tuple[float, ...]:
    return tuple(float(a * (b / a) ** share) for a, b in zip(one, other, strict=True))


def same_camera(one: Calibration | RawInfo, other: Calibration | RawInfo) -> bool:
    """Whether both have the same make and model, however written."""
    names = [(c.make.strip().casefold(), c.model.strip().casefold()) for c in (one, other)]
    return names[0] == names[1]


def camera_name(camera: Calibration | RawInfo) -> str:
    """Return a camera's name for messages."""
    return f"{camera.make} {camera.model}".strip() or "an unknown camera"


# --- the file ---------------------------------------------------------------


def to_json(calibration: Calibration) -> dict[str, Any]:
    """Return what a calibration's file holds."""
    return {
        "kpn": FORMAT,
        "make": calibration.make,
        "model": calibration.model,
        "levels": [
            {"iso": level.iso, "shot": level.noise.shot, "read": level.noise.read}
            | {"pairs": level.pairs}
            | ({"note": level.note} if level.note else {})
            for level in calibration.levels
        ],
    }


def save(path: Path, calibration: Calibration) -> None:
    """Write a calibration to a JSON file, atomically.

    Raises:
        KpnError: if it cannot be written.
    """
    with atomic(path) as temporary:
        text = json.dumps(to_json(calibration), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Calibration:
    """Read what `save` has written.

    Raises:
        KpnError: if the file can't be read, or is none of ours or damaged.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE)
    except OSError as error:
        raise read_error(path, error) from None
    try:
        document = json.loads(text)
        found = document.get("kpn") if isinstance(document, dict) else None
        if found != FORMAT:
            raise ValueError(f"it is {found!r}, not {FORMAT!r}" if found else "no noise in it")
        make, model = (_text(document[key]) for key in ("make", "model"))
        levels = sorted((_read_level(row) for row in document["levels"]), key=lambda lv: lv.iso)
        if not levels or len({level.iso for level in levels}) < len(levels):
            raise ValueError("no ISO in it, or one twice")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, KpnError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise KpnError(
            f"{path}: not a calibration that this kpn can read ({' '.join(reason.split())[:120]}); "
            "make it with kpn calibrate"
        ) from None
    return Calibration(make, model, tuple(levels), path)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    if not 0 < float(value) < np.inf:
        raise ValueError(f"{value!r} is not above 0")
    return float(value)


def _read_level(row: Any) -> Level:
    if not isinstance(row, dict):
        raise TypeError("a level of it is damaged")
    noise = NoiseModel(*(tuple(_number(v) for v in row[key]) for key in ("shot", "read")))
    return Level(_number(row["iso"]), noise, int(_number(row["pairs"])), _text(row.get("note", "")))
