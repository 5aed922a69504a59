"""The JSON documents that commands print with `--json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.result_json import (
    burst_json,
    failure_json,
    left_out_json,
    noise_json,
    setting_json,
)

if TYPE_CHECKING:
    from ..batch.outlook import Outlook
    from ..batch.plan import Job, Plan
    from ..batch.read_ahead import Summary
    from ..defects.repaired import Repaired
    from ..inspection.inspect import Inspection
    from ..inspection.kernels import KernelView
    from ..inspection.points import Point
    from ..noise.selection import NoiseReport
    from ..raw.info import RawInfo


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return the JSON of `kpn denoise`, with iterators for long lists."""
    document: dict[str, Any] = {
        "bursts": map(burst_json, summary.results),
        "failed": map(failure_json, summary.failures),
        "left_out": map(left_out_json, summary.left_out),
    }
    return document | ({"report": str(summary.report)} if summary.report else {})


def plan_json(plan: Plan, outlook: Outlook | None, unseen: str) -> dict[str, Any]:
    """Return the JSON of `kpn denoise --dry-run`, with iterators for long lists.

    Args:
        plan: the bursts.
        outlook: the time and the space that they will take; None if that is not estimated.
        unseen: what a plan does not know.
    """
    return {
        "bursts": map(_job_json, plan.jobs),
        "failed": map(failure_json, plan.failures),
        "left_out": map(left_out_json, plan.left_out),
        "estimate": outlook and _outlook_json(outlook),
        "note": unseen,
    }


def _outlook_json(outlook: Outlook) -> dict[str, Any]:
    """Return the JSON of what a run will take: seconds and bytes, None for what is unknown."""
    return {
        "seconds": outlook.seconds if outlook.seconds is None else round(outlook.seconds),
        "source": outlook.source,
        "finished": outlook.finished,
        "disks": [
            {"folder": str(disk.folder), "needed": disk.needed, "free": disk.free}
            for disk in outlook.disks
        ],
        "warnings": outlook.warnings(),
    }


def _job_json(job: Job) -> dict[str, Any]:
    """Return the JSON of a planned burst; EV are over the middle frame: the reference is open."""
    return {
        "frames": [str(path) for path in job.files],
        "output": str(job.folder),
        "name": job.name,
        "why": job.why,
        "exposures": [setting_json(each.text, each.stops) for each in job.settings],
    }


def info_json(
    info: RawInfo, noise: NoiseReport | None, repaired: Repaired | None
) -> dict[str, Any]:
    """Return a file's entry in the JSON of `kpn info`; None for what is unknown."""
    return {
        "file": str(info.path),
        "make": info.make,
        "model": info.model,
        "cfa": info.phase,
        "width": info.width,
        "height": info.height,
        "black": info.black,
        "white": info.white,
        "saturation": info.saturation,
        "iso": info.iso,
        "iso_source": info.iso_source,
        "gain": info.gain,
        "exposure_time": info.exposure_time,
        "f_number": info.f_number,
        "focal_length": info.focal_length,
        "lens": info.lens,
        "drive_mode": info.drive_mode,
        "captured": info.captured and info.captured.isoformat(),
        "orientation": info.orientation,
        "noise": noise and noise_json(noise),
        "defects": None if repaired is None else asdict(repaired),
        "notes": info.notes,
        "images": info.images,
    }


def inspection_json(inspection: Inspection, files: dict[str, Path]) -> dict[str, Any]:
    """Return the JSON of `kpn inspect`: the numbers behind its figures.

    Args:
        inspection: the inspected burst.
        files: name -> path of each figure.
    """
    maps = inspection.maps
    return {
        "reference": str(inspection.info.frame),
        "frames": [str(info.frame) for info in inspection.infos],
        "dropped": {str(path): why for path, why in inspection.dropped.items()},
        "noise": noise_json(inspection.noise),
        "strength": inspection.strength,
        "upright_shifts": inspection.median_shifts,
        "agreement": [round(value, 3) for value in inspection.robustness],
        "exposure": [round(value, 4) for value in inspection.exposure],
        "exposures": [
            setting_json(settings, stops)
            for settings, stops in zip(inspection.settings, inspection.stops, strict=False)
        ],
        "mean_weights": maps.weights.mean((1, 2)).tolist(),
        "noise_left": maps.noise_left,
        "fallen_back": maps.fallback_share,
        "places": [_place_json(inspection, place) for place in inspection.views],
        "device": inspection.device,
        "precision": inspection.precision.name,
        "precision_reason": inspection.precision.reason,
        "outputs": {name: str(path) for name, path in files.items()},
    }


def _place_json(inspection: Inspection, place: Point) -> dict[str, Any]:
    return {
        "x": place.x,
        "y": place.y,
        "why": place.why,
        **_kernels_json(inspection.views[place]),
        "noise_scales": [
            {"scale": look.scale, **_kernels_json(look)} for look in inspection.scaled_views[place]
        ],
    }


def _kernels_json(look: KernelView) -> dict[str, Any]:
    return {
        "weights": look.weights.tolist(),
        "kernels": look.kernels.tolist(),
        "wide": None if look.dilated is None else look.dilated.tolist(),
        "kernels_share": look.kernel_share,
        "radius": look.radius,
        "noise_left": look.noise_left,
    }
