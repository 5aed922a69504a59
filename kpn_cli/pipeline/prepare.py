"""Prepare a burst for the network: repair the sensor's defects, align, determine the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..align import alignment
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
    warn_if_overstated,
    warn_if_understated,
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
    """

    aligned: alignment.AlignedBurst
    noise: NoiseReport
    repaired: Repaired


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
    info = loaded.infos[0]
    given = given_noise(info, options.noise)
    frames = [
        Frame(torch.from_numpy(planes), info.black, info.white)
        for info, planes in zip(loaded.infos, loaded.planes, strict=True)
    ]
    loaded.planes.clear()
    guess = first_guess(info, frames[0], given)
    repaired = repair_known_and_found(frames, loaded.infos, guess, options.noise, options.defects)
    on_done("repair")
    frames = [frame.to(device) for frame in frames]
    stated = [2 ** exposure.brighter_by(info, other) for other in loaded.infos]
    aligned = _align(frames, guess, stated, on_stage)
    aligned = aligned.leave_out(_of_another_exposure(loaded.infos, aligned))
    return_freed_memory()
    on_done("align")
    noise = given or choose_noise(info, aligned.frames, aligned.shifts)
    noise = warn_if_understated(noise, aligned.frames, aligned.shifts)
    noise = warn_if_overstated(noise, aligned.frames, aligned.shifts)
    return_freed_memory()
    on_done("measure noise")
    return Prepared(aligned, noise, repaired)


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
    for index, brightness in zip(aligned.used, aligned.exposure, strict=True):
        stated = exposure.match(infos[0], infos[index])
        if stated is exposure.Match.SAME or abs(math.log2(brightness)) < exposure.ANOTHER_EV:
            continue
        reasons[index] = (
            f"another exposure ({exposure.show(infos[index])}; the reference "
            f"{exposure.show(infos[0])}): it is {brightness:.2f} times as bright"
        )
    return reasons
