"""The JSON of results and failures: of `--json`, and of the lines of the report's list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..noise.selection import NoiseReport
    from ..pipeline.result import Failure, LeftOut, Result


def noise_json(noise: NoiseReport, show: Callable[[Path], str] = str) -> dict[str, Any]:
    """Return the JSON of a noise model and its source; `show` returns a path as text."""
    return {
        "source": noise.source,
        "shot": noise.model.shot,
        "read": noise.model.read,
        "warning": noise.warning,
        "file": noise.file and show(noise.file),
    }


def burst_json(result: Result, show: Callable[[Path], str] = str) -> dict[str, Any]:
    """Return a burst's entry in the JSON of `kpn denoise`; `show` returns a path as text.

    `noise` has S and O of the planes R, G1, G2, B. `noise_left` is a share of the noise variance,
    without grain; `grain` is the share of the luminance noise's sigma that was given back. `shifts`
    are (row, column) in sensor pixels. `exposures` has the settings of each frame and its EV over
    the reference, where they differ. `headroom` is in EV beyond the reference's white, times are in
    seconds. `fingerprint` is that of the outputs, in hexadecimal digits. What was not measured is
    None.
    """
    noise = result.noise
    return {
        "reference": show(result.frames[0] if result.frames else result.reference),
        "frames": [show(path) for path in result.frames],
        "dropped": {show(path): why for path, why in result.dropped.items()},
        "notes": result.notes,
        "outputs": {name: show(path) for name, path in result.outputs.items()},
        "fingerprint": result.fingerprint.hex(),
        "noise": noise and noise_json(noise, show),
        "noise_left": result.noise_left,
        "grain": result.grain,
        "defects": asdict(result.repaired),
        "shifts": result.shifts,
        "agreement": result.agreement,
        "exposure": result.exposure,
        "exposures": [
            setting_json(settings, stops)
            for settings, stops in zip(result.settings, result.stops, strict=False)
        ],
        "headroom": result.headroom,
        "rejected": result.rejected,
        "fallen_back": None if result.skipped else result.fallback_share,
        "device": result.device,
        "precision": result.precision,
        "precision_reason": result.precision_reason,
        "seconds": result.seconds,
        "timings": result.timings,
        "skipped": result.skipped,
    }


def failure_json(failure: Failure, show: Callable[[Path], str] = str) -> dict[str, Any]:
    """Return the JSON of a burst or file that failed; `show` returns a path as text."""
    return {"files": [show(path) for path in failure.files], "error": failure.error}


def left_out_json(burst: LeftOut, show: Callable[[Path], str] = str) -> dict[str, Any]:
    """Return the JSON of a burst that is not to be merged: a bracket, or one of few frames."""
    return {"files": [show(path) for path in burst.files], "reason": burst.reason}


def setting_json(settings: str, stops: float | None) -> dict[str, Any]:
    """Return the JSON of an exposure: its settings, and its EV over another, None if not known."""
    return {"settings": settings, "ev": None if stops is None else round(stops, 2)}
