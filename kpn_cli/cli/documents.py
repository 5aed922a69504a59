"""The JSON documents that commands print with `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..batch.overlap import Summary
    from ..batch.plan import Plan
    from ..noise.selection import NoiseReport
    from ..pipeline.result import Failure, Result
    from ..raw.info import RawInfo


def noise_json(noise: NoiseReport) -> dict[str, Any]:
    """Return the JSON of a noise model and where it came from."""
    return {
        "source": noise.source,
        "shot": noise.model.shot,
        "read": noise.model.read,
        "warning": noise.warning,
        "file": noise.file and str(noise.file),
    }


def burst_json(result: Result) -> dict[str, Any]:
    """Return a burst's entry in the JSON of `kpn denoise`."""
    noise = result.noise
    return {
        "reference": str(result.reference),
        "frames": [str(path) for path in result.frames],
        "dropped": {str(path): why for path, why in result.dropped.items()},
        "outputs": {name: str(path) for name, path in result.outputs.items()},
        "noise": noise and noise_json(noise),
        "noise_left": result.noise_left,
        "shifts": result.shifts,
        "agreement": result.agreement,
        "exposure": result.exposure,
        "rejected": result.rejected,
        "fallen_back": None if result.skipped else result.fallback_share,
        "device": result.device,
        "precision": result.precision,
        "precision_reason": result.precision_reason,
        "seconds": result.seconds,
        "timings": result.timings,
        "skipped": result.skipped,
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the JSON of `kpn denoise`."""
    document = {
        "bursts": [burst_json(result) for result in summary.results],
        "failed": [failure_json(failure) for failure in summary.failures],
    }
    return document | ({"report": str(summary.report)} if summary.report else {})


def failure_json(failure: Failure) -> dict[str, Any]:
    """Return the JSON of what could not be done."""
    return {"files": [str(path) for path in failure.files], "error": failure.error}


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the JSON of `kpn denoise --dry-run`."""
    bursts = [
        {
            "frames": [str(path) for path in job.files],
            "output": str(job.folder),
            "why": job.why,
        }
        for job in plan.jobs
    ]
    return {"bursts": bursts, "failed": [failure_json(failure) for failure in plan.failures]}


def info_json(found: RawInfo, noise: NoiseReport | None) -> dict[str, Any]:
    """Return a file's entry in the JSON of `kpn info`, its noise included if it can be told."""
    return {
        "file": str(found.path),
        "make": found.make,
        "model": found.model,
        "cfa": found.phase,
        "width": found.width,
        "height": found.height,
        "black": found.black,
        "white": found.white,
        "iso": found.iso,
        "exposure_time": found.exposure_time,
        "f_number": found.f_number,
        "focal_length": found.focal_length,
        "captured": found.captured and found.captured.isoformat(),
        "orientation": found.orientation,
        "noise": noise and noise_json(noise),
    }
