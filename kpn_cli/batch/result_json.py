"""The JSON of results and failures: of `--json`, and of the lines of the report's list."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..noise.selection import NoiseReport
    from ..pipeline.result import Failure, LeftOut, Result


def noise_json(noise: NoiseReport) -> dict[str, Any]:
    """Return the JSON of a noise model and its source."""
    return {
        "source": noise.source,
        "shot": noise.model.shot,
        "read": noise.model.read,
        "warning": noise.warning,
        "file": noise.file and str(noise.file),
    }


def burst_json(result: Result) -> dict[str, Any]:
    """Return a burst's entry in the JSON of `kpn denoise`.

    `noise` has S and O of the planes R, G1, G2, B. `noise_left` is a share of the noise variance,
    without grain; `grain` is the share of the luminance noise's sigma that was given back. `shifts`
    are (row, column) in sensor pixels. `exposures` has the settings of each frame and its EV over
    the reference, where they differ. `headroom` is in EV beyond the reference's white, times are in
    seconds. What was not measured is None.
    """
    noise = result.noise
    return {
        "reference": str(result.frames[0] if result.frames else result.reference),
        "frames": [str(path) for path in result.frames],
        "dropped": {str(path): why for path, why in result.dropped.items()},
        "notes": result.notes,
        "outputs": {name: str(path) for name, path in result.outputs.items()},
        "noise": noise and noise_json(noise),
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


def failure_json(failure: Failure) -> dict[str, Any]:
    """Return the JSON of a burst or file that failed."""
    return {"files": [str(path) for path in failure.files], "error": failure.error}


def left_out_json(burst: LeftOut) -> dict[str, Any]:
    """Return the JSON of a burst that is not to be merged: a bracket, or one of few frames."""
    return {"files": [str(path) for path in burst.files], "reason": burst.reason}


def setting_json(settings: str, stops: float | None) -> dict[str, Any]:
    """Return the JSON of an exposure: its settings, and its EV over another, None if not known."""
    return {"settings": settings, "ev": None if stops is None else round(stops, 2)}
