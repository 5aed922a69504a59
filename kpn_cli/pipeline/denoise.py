"""denoise(): the story, from a burst's files to the finished pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..align import alignment
from ..burst import files as burst_files
from ..burst.frame import Frame
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..merge import merge
from ..merge.merge import Denoised
from ..network.kpn import KPN
from ..network.weights import load_weights
from ..noise.selection import (
    NoiseReport,
    choose_noise,
    first_guess,
    given_noise,
    warn_if_understated,
)
from ..raw.info import RawInfo
from ..system.device import choose_precision, pick_device
from ..system.distributed import local_device
from ..system.files import make_folder
from ..system.memory import (
    free_memory,
    is_lack_of_memory,
    keep_freed_memory,
    memory_as_error,
    return_freed_memory,
)
from . import fingerprint, outputs
from .loading import Loaded, load
from .options import Options
from .result import Clock, Result, Stage

T = TypeVar("T")


class Engine:
    """A network on its device, ready for any number of bursts."""

    def __init__(self, options: Options) -> None:
        keep_freed_memory()
        self.device = local_device(pick_device(options.device))
        self.precision = choose_precision(options.precision, self.device)
        self.dtype = self.precision.dtype
        network, _ = load_weights(options.weights)
        self.network: KPN = network.to(self.device)


def denoise(
    paths: Sequence[Path],
    options: Options,
    engine: Engine | None = None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Result:
    """Denoise one burst.

    Args:
        paths: raw files of one burst, in any order, and folders of such files.
        options: how.
        engine: a network to use again; made from the options by default.
        on_stage: told about progress.

    Raises:
        KpnError: whatever the user can mend. No output is left half-written.
    """
    files = burst_files.find_raws(paths)
    with memory_as_error():
        loaded = load(files, options, fingerprint.options_digest(options), on_stage=on_stage)
        if isinstance(loaded, Result):
            return loaded
        computed = compute(loaded, options, engine or Engine(options), on_stage)
        return write(computed, options, on_stage)


# --- aligning and denoising -------------------------------------------------


@dataclass(frozen=True)
class Computed:
    """A clean burst in memory.

    Attributes:
        mark: fingerprint of its outputs.
        info: the reference.
        done: its clean planes.
        missing: outputs to make.
        result: what is known of it so far.
        reference: its noisy frame, for a report; None where none is made.
    """

    mark: bytes
    info: RawInfo
    done: Denoised
    missing: dict[str, Path]
    result: Result
    reference: Frame | None = None


def compute(
    loaded: Loaded,
    options: Options,
    engine: Engine,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Computed:
    """Align and merge a burst, whose planes are taken from it.

    Raises:
        KpnError: if there is no telling its noise, or the memory isn't enough.
    """
    clock = Clock(loaded.timings)
    info = loaded.infos[0]
    given = given_noise(info, options.noise)
    make_folder(options.output)  # before the work: it may not be possible
    found, noise = line_up(loaded, given, engine.device, on_stage, clock.stop)
    found = found.keep_best(engine.network.config.frames)
    done = _run_network(engine, found, noise.model, options, on_stage)
    return_freed_memory()
    clock.stop("denoise")
    strangers = {loaded.files[n]: why for n, why in found.dropped.items()}
    result = Result(
        info.path,
        [loaded.files[n] for n in found.used],
        loaded.outputs,
        dropped=loaded.dropped | strangers,
        noise=noise,
        shifts=[median_shift(shift) for shift in found.shifts],
        agreement=[round(value, 3) for value in found.robustness],
        exposure=[round(value, 4) for value in found.exposure],
        rejected=[round(value, 3) for value in found.rejected],
        noise_left=done.residual_noise,
        fallen_back=round(done.fallback_share, 5),
        device=str(engine.device),
        precision=engine.precision.name,
        precision_reason=engine.precision.reason,
        timings=clock.timings,
        orientation=info.orientation,
        mark=loaded.mark,
    )
    reference = found.frames[0].to(torch.device("cpu")) if options.report else None
    return Computed(loaded.mark, info, done, loaded.missing, result, reference)


def line_up(
    loaded: Loaded,
    given: NoiseReport | None,
    device: torch.device,
    on_stage: Callable[[Stage], None] = lambda stage: None,
    on_done: Callable[[str], None] = lambda what: None,
) -> tuple[alignment.AlignedBurst, NoiseReport]:
    """Align a burst, whose planes are taken from it, and tell how noisy it is.

    Args:
        loaded: the burst.
        given: its noise, if the user has said so (`selection.given_noise`).
        device: where to.
        on_stage: told about progress.
        on_done: told when "align" and "measure noise" are done.

    Raises:
        KpnError: if there is no telling its noise.
    """
    info = loaded.infos[0]
    frames = [
        Frame(torch.from_numpy(planes), info.black, info.white).to(device)
        for info, planes in zip(loaded.infos, loaded.planes, strict=True)
    ]
    loaded.planes.clear()
    found = _aligned(frames, first_guess(info, frames[0], given), on_stage)
    return_freed_memory()
    on_done("align")
    noise = given or choose_noise(info, found.frames, found.shifts)
    noise = warn_if_understated(noise, found.frames, found.shifts)
    return_freed_memory()
    on_done("measure noise")
    return found, noise


def _aligned(
    frames: Sequence[Frame], noise: NoiseModel, on_stage: Callable[[Stage], None]
) -> alignment.AlignedBurst:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("aligning", count, len(frames) - 1))

    return alignment.align_burst(frames, noise, step)


def median_shift(shifts: Tensor) -> tuple[int, int]:
    """Return the median (row, column) of a frame's tiles, in sensor pixels; a cell is two."""
    y, x = (2 * shifts.flatten(0, 1)).cpu().median(0).values.tolist()
    return int(y), int(x)


def _run_network(
    engine: Engine,
    found: alignment.AlignedBurst,
    noise: NoiseModel,
    options: Options,
    on_stage: Callable[[Stage], None],
) -> Denoised:
    """Merge the frames, in smaller tiles where the memory isn't enough."""
    if options.strength == 0:
        return Denoised(found.frames[0].planes(), 1.0)

    def work(tile: int) -> Denoised:
        return _in_tiles(engine, found, noise, options.strength, tile, on_stage)

    done = in_tiles_that_fit(work, engine, len(found.frames), options.tile)
    if not np.isfinite(done.planes).all():
        raise KpnError("the result holds values that are not numbers; check --noise and --weights")
    return done


def in_tiles_that_fit(
    work: Callable[[int], T], engine: Engine, frames: int, wanted: int | None
) -> T:
    """Return `work` of a tile's side, once more with smaller ones where the memory isn't enough.

    Args:
        work: given the side in sensor pixels.
        engine: that it uses.
        frames: how many.
        wanted: the side to begin with; None to tell from the memory there is.

    Raises:
        KpnError: if the smallest tiles are too large.
    """
    tile = wanted or merge.tile_side(free_memory(engine.device), frames)
    while True:
        try:
            return work(tile)
        except (RuntimeError, MemoryError) as error:
            if not is_lack_of_memory(error):
                raise
            if tile <= merge.SMALLEST_TILE:
                raise KpnError(
                    f"tiles of {tile} pixels need more memory than there is on "
                    f"{engine.device}; close other programs, or give --device cpu"
                ) from None
        tile = max(tile // 2, merge.SMALLEST_TILE)
        if engine.device.type == "cuda":
            torch.cuda.empty_cache()


def _in_tiles(
    engine: Engine,
    found: alignment.AlignedBurst,
    noise: NoiseModel,
    strength: float,
    tile: int,
    on_stage: Callable[[Stage], None],
) -> Denoised:
    height, width = found.frames[0].size
    total = merge.tile_count(engine.network, height, width, tile)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("denoising", count, total))

    return merge.denoise_frames(
        engine.network,
        found.frames,
        found.shifts,
        noise,
        strength=strength,
        dtype=engine.dtype,
        tile=tile,
        on_tile=step,
    )


# --- writing ----------------------------------------------------------------


def write(
    computed: Computed,
    options: Options,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Result:
    """Write what is missing of a burst's outputs.

    Raises:
        KpnError: if the disk refuses one, or the reference can't be read any more.
    """
    clock = Clock(computed.result.timings)
    total = len(computed.missing)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("writing", count, total))

    on_stage(Stage("writing", 0, total))
    noise = computed.result.noise.model
    outputs.write(
        computed.info,
        computed.done,
        noise,
        computed.missing,
        compression=options.compression,
        mark=computed.mark,
        replace=options.overwrite,
        on_file=step,
    )
    clock.stop("write")
    seconds = round(sum(clock.timings.values()), 3)
    return replace(computed.result, seconds=seconds, timings=clock.timings)
