"""Prepare a burst for the network: repair the sensor's defects, align, determine the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median_high, median_low

import numpy as np
import torch

from ..align import alignment
from ..burst import brightness
from ..burst.brightness import MAX_TAG_ERROR
from ..burst.frame import Frame
from ..defects.repair import plane_sites, repair_burst
from ..defects.repaired import Repaired
from ..image.noise_model import NoiseModel
from ..noise.calibration import Calibration
from ..noise.selection import (
    NoiseReport,
    choose_noise,
    first_guess,
    given_noise,
    noise_of_frames,
    raise_if_understated,
    warn_if_overstated,
)
from ..raw import exposure
from ..raw.info import RawInfo
from ..system.memory import return_freed_memory
from .loading import Loaded
from .options import Options
from .result import Stage


@dataclass(frozen=True)
class Prepared:
    """A burst that is ready for the network.

    Attributes:
        aligned: its frames, without defects, aligned.
        noise: of the reference.
        repaired: the defects.
        notes: what its tags say wrongly, a line for the user each.
    """

    aligned: alignment.AlignedBurst
    noise: NoiseReport
    repaired: Repaired
    notes: list[str]


def prepare(
    loaded: Loaded,
    options: Options,
    device: torch.device,
    on_stage: Callable[[Stage], None] = lambda stage: None,
    on_done: Callable[[str], None] = lambda stage: None,
) -> Prepared:
    """Repair the defects of a burst, align it and determine its noise.

    Args:
        loaded: the burst; its planes are released to save memory.
        options: how to repair, and the noise if the user gives it.
        device: device of the aligned frames.
        on_stage: called with the progress.
        on_done: called with "repair", "align" and "measure noise" after these stages.

    Raises:
        KpnError: if the noise cannot be determined.
    """
    infos = loaded.infos
    given = given_noise(infos[0], options.noise)
    frames = [
        Frame(torch.from_numpy(planes), info.black, info.white)
        for info, planes in zip(infos, loaded.planes, strict=True)
    ]
    loaded.planes.clear()
    guess = first_guess(infos[0], frames[0], given)
    mixed = loaded.brightness.mixed
    if mixed:
        roughly = given or NoiseReport("profile", guess)
        frames = _with_own_noise(frames, infos, roughly, options)
    repaired = _repair(frames, loaded, guess, options)
    on_done("repair")
    frames = [frame.to(device) for frame in frames]
    aligned = _align(frames, guess, loaded.stated, on_stage)
    notes = []
    if mixed:
        notes = exposure_notes(infos, aligned, loaded.stated)
    else:
        aligned = aligned.leave_out(_of_another_exposure(infos, aligned))
    return_freed_memory()
    on_done("align")
    noise = _determine_noise(infos, aligned, given)
    if mixed:
        used = [infos[n] for n in aligned.used]
        own = _with_own_noise(aligned.frames, used, noise, options)
        aligned = replace(aligned, frames=own)
    stated = noise.model
    noise, aligned = _checked_noise(noise, aligned)
    if noise.model != stated and not mixed:  # by which frames would seem to be of other scenes
        aligned = _align(frames, noise.model, loaded.stated, on_stage)
        aligned = aligned.leave_out(_of_another_exposure(infos, aligned))
    return_freed_memory()
    on_done("measure noise")
    return Prepared(aligned, noise, repaired, notes)


def _with_own_noise(
    frames: Sequence[Frame], infos: Sequence[RawInfo], noise: NoiseReport, options: Options
) -> list[Frame]:
    """Return frames with their noise models and clipping points."""
    models = noise_of_frames(infos, noise, options.noise)
    return [
        replace(frame, noise=model, saturation=info.clipped_share)
        for frame, info, model in zip(frames, infos, models, strict=True)
    ]


def _determine_noise(
    infos: Sequence[RawInfo], aligned: alignment.AlignedBurst, given: NoiseReport | None
) -> NoiseReport:
    """Return the noise of the reference, as it is given or as the frames of its exposure show."""
    alike = _of_one_exposure(aligned)
    frames, shifts = [aligned.frames[i] for i in alike], [aligned.shifts[i] for i in alike]
    return given or choose_noise(infos[0], frames, shifts)


def _checked_noise(
    noise: NoiseReport, aligned: alignment.AlignedBurst
) -> tuple[NoiseReport, alignment.AlignedBurst]:
    """Return noise as the frames show it where it is understated, with warnings."""
    noise, raised = raise_if_understated(noise, aligned.frames, aligned.shifts)
    aligned = replace(aligned, frames=raised)
    alike = _of_one_exposure(aligned)
    frames, shifts = [aligned.frames[i] for i in alike], [aligned.shifts[i] for i in alike]
    return warn_if_overstated(noise, frames, shifts), aligned


def _of_one_exposure(aligned: alignment.AlignedBurst) -> list[int]:
    """Return the indices of the frames that show the reference's exposure and have its noise."""
    first = aligned.frames[0].noise
    return [
        i
        for i, (frame, ratio) in enumerate(zip(aligned.frames, aligned.exposure, strict=True))
        if frame.noise is None
        or (frame.noise == first and abs(math.log2(ratio)) < exposure.ANOTHER_EV)
    ]


def exposure_notes(
    infos: Sequence[RawInfo], aligned: alignment.AlignedBurst, stated: Sequence[float]
) -> list[str]:
    """Return a note for each merged frame whose tags contradict its brightness, or do not tell it.

    The brightness is used. If most frames contradict the reference, it is the reference whose tags
    are wrong.

    Args:
        infos: the reference first.
        aligned: the merged frames.
        stated: `Loaded.stated` of all frames: those that are not merged tell whose tags are wrong.
    """
    merged = dict(zip(aligned.used, map(math.log2, aligned.exposure), strict=True))
    shown = dict(enumerate(map(math.log2, stated))) | merged
    told = [n for n in shown if infos[n].exposure_time is not None]
    off = {n: shown[n] - exposure.brighter_by(infos[told[0]], infos[n]) for n in told}
    if 0 in off:
        usual = min(median_low(off.values()), median_high(off.values()), key=abs)
    else:
        usual = median_low(off.values()) if off else 0.0
    notes = []
    for n, measured in merged.items():
        name = infos[n].frame.name
        if n not in off:
            notes.append(_untold(name, measured) if n else _untold_reference(name))
        elif abs(off[n] - usual) > MAX_TAG_ERROR:
            stops = off[n] - usual
            notes.append(
                f"{name} is {abs(stops):.1f} EV {'brighter' if stops > 0 else 'darker'} "
                f"than its tags say ({exposure.show(infos[n])}); what it shows is used"
            )
    return notes


def _untold(name: str, stops: float) -> str:
    where = (
        "as bright as"
        if abs(stops) < 0.05
        else (f"{abs(stops):.1f} EV {'above' if stops > 0 else 'below'}")
    )
    return f"no exposure time in {name}: its brightness was measured: {where} the reference"


def _untold_reference(name: str) -> str:
    return f"no exposure time in {name}, the reference: the others were measured against it"


def _repair(
    frames: Sequence[Frame], loaded: Loaded, noise: NoiseModel, options: Options
) -> Repaired:
    """Repair the defects of a burst; frames of each exposure apart, as hot samples grow with it."""
    infos = loaded.infos
    if not loaded.brightness.mixed:
        return repair_known_and_found(frames, infos, noise, options.noise, options.defects)
    repaired = Repaired()
    for alike in brightness.alike(infos, loaded.brightness.stops):
        part = repair_known_and_found(
            [frames[n] for n in alike],
            [infos[n] for n in alike],
            frames[alike[0]].noise or noise,
            options.noise,
            options.defects,
        )
        repaired = repaired.most(part)
    return repaired


def repair_known_and_found(
    frames: Sequence[Frame],
    infos: Sequence[RawInfo],
    noise: NoiseModel,
    given: NoiseModel | Calibration | None,
    defects: str,
) -> Repaired:
    """Repair the defects of a burst in place, by its files' marks and the user's options.

    Args:
        frames, infos: the burst, on the CPU.
        noise: of the reference; roughly is enough.
        given: the user's `Options.noise`: a calibration lists the camera's defects.
        defects: of `choices.DEFECTS`.
    """
    find = defects == "auto"
    listed = None
    if find and isinstance(given, Calibration) and given.defects is not None:
        rows, columns = given.defects.in_file(infos[0])
        listed = plane_sites(infos[0], rows, columns)
    marked = [plane_sites(info, *map(np.array, info.marked)) for info in infos]
    return repair_burst(frames, noise, marked=marked, listed=listed, find=find)


def _align(
    frames: Sequence[Frame],
    noise: NoiseModel,
    stated: Sequence[float],
    on_stage: Callable[[Stage], None],
) -> alignment.AlignedBurst:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("aligning", count, len(frames) - 1))

    return alignment.align_burst(frames, noise, step, stated)


def _of_another_exposure(
    infos: Sequence[RawInfo], aligned: alignment.AlignedBurst
) -> dict[int, str]:
    """Return the frames of another exposure than the reference's: index -> why.

    Where the tags do not tell, the brightness that the frames show decides.
    """
    reasons = {}
    for index, ratio in zip(aligned.used, aligned.exposure, strict=True):
        stated = exposure.match(infos[0], infos[index])
        if stated is exposure.Match.SAME or abs(math.log2(ratio)) < exposure.ANOTHER_EV:
            continue
        reasons[index] = (
            f"another exposure ({exposure.show(infos[index])}; the reference "
            f"{exposure.show(infos[0])}): it is {ratio:.2f} times as bright"
        )
    return reasons
