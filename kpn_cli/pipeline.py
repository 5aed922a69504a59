"""denoise(): the story, from a burst's files to the finished pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from . import bayer, burst, denoiser, lineup, outputs
from .denoiser import Denoised
from .device import (
    free_memory,
    is_lack_of_memory,
    keep_freed_memory,
    memory_as_error,
    pick_device,
    pick_precision,
    return_freed_memory,
)
from .errors import KpnError, PassingError
from .frame import Frame
from .network import KPN
from .noise import NoiseModel
from .noise_choice import NoiseReport, choose_noise, first_guess, given_noise
from .options import Options
from .raw import RawInfo, read_raw
from .raw_checks import check_file
from .weights import load_weights
from .world import local_device
from .write import make_folder

T = TypeVar("T")

#: Reads a file: what it says, and its planes `(4, height, width)` uint16.
Reader = Callable[[Path], "tuple[RawInfo, np.ndarray]"]


@dataclass(frozen=True)
class Result:
    """What became of a burst.

    Attributes:
        reference: the reference frame's file.
        frames: the files used, the reference first.
        dropped: files of the burst that are not used -> why: damaged, of something else.
        outputs: format -> file.
        noise: model and source; None if skipped.
        shifts: median shift of each used frame, (row, column) in sensor pixels, as the
            sensor lies.
        orientation: Exif's, of the reference.
        agreement: of each used frame with the reference, 0 to 1.
        exposure: brightness of each used frame over the reference's, before it was matched.
        rejected: share of each used frame's tiles that show something else than the reference.
        noise_left: share of the noise variance that is left.
        fallen_back: share of the picture that is the reference's (`guard.guarded`).
        device: where the network ran.
        seconds: from the first file to the last.
        timings: seconds by stage.
        skipped: whether all outputs were there already.
        mark: fingerprint of the outputs.
    """

    reference: Path
    frames: list[Path]
    outputs: dict[str, Path]
    dropped: dict[Path, str] = field(default_factory=dict)
    noise: NoiseReport | None = None
    shifts: list[tuple[int, int]] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    fallen_back: float = 0.0
    noise_left: float | None = None
    device: str = ""
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    orientation: int = 1
    mark: bytes = b""

    def remarks(self) -> list[tuple[str, str]]:
        """Return what the user should know: `dropped`, `note` or `warning`, and a line each."""
        lines = [("dropped", f"{path.name}: {why}") for path, why in self.dropped.items()]
        lines += [
            ("note", f"{path.name} is {exposure:.3f} times as bright; matched")
            for path, exposure in zip(self.frames, self.exposure, strict=False)
            if abs(exposure - 1) > 0.02
        ]
        if self.fallen_back > 0.02:
            lines.append(
                ("note", f"{self.fallen_back:.0%} of the picture is left to the reference")
            )
        if self.noise is not None and self.noise.warning:
            lines.append(("warning", self.noise.warning))
        return lines


@dataclass(frozen=True)
class Stage:
    """Progress: what is being done, and how much of it.

    Attributes:
        name: for the user, such as "aligning".
        done, total: in steps.
    """

    name: str
    done: int
    total: int


class Engine:
    """A network on its device, ready for any number of bursts."""

    def __init__(self, options: Options) -> None:
        keep_freed_memory()
        self.device = local_device(pick_device(options.device))
        self.dtype = pick_precision(options.precision, self.device)
        network, _ = load_weights(options.weights)
        self.network: KPN = network.to(self.device)


def read_planes(path: Path) -> tuple[RawInfo, np.ndarray]:
    """Read a file in this process."""
    info, mosaic = read_raw(path)
    return info, bayer.pack(mosaic, info.phase)


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
    files = burst.find_raws(paths)
    with memory_as_error():
        loaded = load(files, options, outputs.options_digest(options), on_stage=on_stage)
        if isinstance(loaded, Result):
            return loaded
        computed = compute(loaded, options, engine or Engine(options), on_stage)
        return write(computed, options, on_stage)


class _Clock:
    """Tells how long each stage took."""

    def __init__(self, timings: dict[str, float] | None = None) -> None:
        self.timings = dict(timings or {})
        self._last = time.monotonic()

    def stop(self, stage: str) -> None:
        """End a stage; the next one begins."""
        now = time.monotonic()
        self.timings[stage] = round(now - self._last, 3)
        self._last = now


# --- reading ----------------------------------------------------------------


@dataclass
class Loaded:
    """A burst in memory.

    Attributes:
        mark: fingerprint of its outputs.
        infos: of the frames, the reference first.
        planes: of the frames, `(4, height, width)` uint16 each; `compute` takes them out.
        dropped: files that can't be used -> why.
        outputs: format -> file.
        missing: those of them to make.
        timings: seconds by stage.
    """

    mark: bytes
    infos: list[RawInfo]
    planes: list[np.ndarray]
    dropped: dict[Path, str]
    outputs: dict[str, Path]
    missing: dict[str, Path]
    timings: dict[str, float]

    @property
    def files(self) -> list[Path]:
        """The frames' files, the reference first."""
        return [info.path for info in self.infos]


def load(
    files: Sequence[Path],
    options: Options,
    options_digest: str,
    *,
    read: Reader = read_planes,
    should_stop: Callable[[], bool] = lambda: False,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Loaded | Result:
    """Read a burst, unless all its outputs are there.

    A damaged frame is left out, as is a copy of another.

    Args:
        files: of one burst.
        options: how; `options.output` is the burst's own folder.
        options_digest: of `outputs.options_digest`.
        read: reads a file.
        should_stop: asked before each frame.
        on_stage: told about progress.

    Returns:
        The burst, or, if there is nothing to do, its result.

    Raises:
        KpnError: if no frame can be used, the frames are no burst, or an output is in the way.
    """
    clock = _Clock()
    digests = {path: _digest(path, alone=len(files) == 1) for path in files}
    mark = outputs.fingerprint(list(digests.values()), options_digest)
    done = None
    if not options.overwrite:
        done = outputs.finished(files, options.output, options.formats, mark)
    if done is not None:
        there = outputs.paths_of(done, options.output, options.formats)
        others = [path for path in files if path != done]
        return Result(done, [done, *others], there, skipped=True, mark=mark)
    frames, dropped = _read_all(files, digests, read, should_stop, on_stage)
    infos = burst.sort_by_time([info for info, _ in frames])
    burst.check_same(infos)
    planes = {info.path: planes for info, planes in frames}
    sharp = [burst.sharpness(planes[info.path]) for info in infos]
    first = burst.pick_reference(options.reference, infos, sharp)
    infos.insert(0, infos.pop(first))
    paths = outputs.paths_of(infos[0].path, options.output, options.formats)
    outputs.check_inputs(list(paths.values()), frozenset(path.resolve() for path in files))
    clock.stop("read")
    return Loaded(
        mark,
        infos,
        [planes[info.path] for info in infos],
        dropped,
        paths,
        paths if options.overwrite else outputs.missing(paths, mark),
        clock.timings,
    )


def _digest(path: Path, alone: bool) -> str:
    """Digest of a file; of one among others that can't be read, a word that says so."""
    try:
        check_file(path)
        return outputs.digest(path)
    except KpnError:
        if alone:
            raise
        return f"unreadable: {path.name}"


def _read_all(
    files: Sequence[Path],
    digests: dict[Path, str],
    read: Reader,
    should_stop: Callable[[], bool],
    on_stage: Callable[[Stage], None],
) -> tuple[list[tuple[RawInfo, np.ndarray]], dict[Path, str]]:
    """Return the frames that can be read, and why the others can't."""
    frames: list[tuple[RawInfo, np.ndarray]] = []
    dropped: dict[Path, str] = {}
    originals: dict[str, Path] = {}
    for number, path in enumerate(files):
        on_stage(Stage("reading", number, len(files)))
        if should_stop():
            raise KpnError("stopped")
        # Twice the same noise would pass for a part of the picture.
        original = originals.setdefault(digests[path], path)
        if original != path:
            dropped[path] = f"a copy of {original.name}"
            continue
        try:
            frames.append(read(path))
            if len(frames) == 1:
                _check_memory(frames[0][1].nbytes, len(files))
        except PassingError:  # else the next time would give another picture
            raise
        except KpnError as error:
            if len(files) == 1:
                raise
            dropped[path] = str(error).removeprefix(f"{path.name}: ")
    if not frames:
        path, why = next(iter(dropped.items()))
        raise KpnError(f"{path.name}: {why} No other frame can be read either.")
    return frames, dropped


def _check_memory(frame_bytes: int, count: int) -> None:
    """Refuse a burst whose frames alone are more than the memory that is free."""
    free = free_memory(torch.device("cpu"))
    if count > 8 and frame_bytes * (count - 1) > free:
        raise PassingError(
            f"its {count} frames need {frame_bytes * count / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} are free; make bursts of fewer with --burst-size"
        )


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
    clock = _Clock(loaded.timings)
    info = loaded.infos[0]
    given = given_noise(info, options.noise)
    make_folder(options.output)  # before the work: it may not be possible
    found, noise = line_up(loaded, given, engine.device, on_stage, clock.stop)
    found = found.best(engine.network.config.frames)
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
        agreement=[round(value, 3) for value in found.agreement],
        exposure=[round(value, 4) for value in found.exposure],
        rejected=[round(value, 3) for value in found.rejected],
        noise_left=done.noise_left,
        fallen_back=round(done.fallen_back, 5),
        device=str(engine.device),
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
) -> tuple[lineup.LineUp, NoiseReport]:
    """Align a burst, whose planes are taken from it, and tell how noisy it is.

    Args:
        loaded: the burst.
        given: its noise, if the user has said so (`noise_choice.given_noise`).
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
    return_freed_memory()
    on_done("measure noise")
    return found, noise


def _aligned(
    frames: Sequence[Frame], noise: NoiseModel, on_stage: Callable[[Stage], None]
) -> lineup.LineUp:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("aligning", count, len(frames) - 1))

    return lineup.line_up(frames, noise, step)


def median_shift(shifts: Tensor) -> tuple[int, int]:
    """Return the median (row, column) of a frame's tiles, in sensor pixels; a cell is two."""
    y, x = (2 * shifts.flatten(0, 1)).cpu().median(0).values.tolist()
    return int(y), int(x)


def _run_network(
    engine: Engine,
    found: lineup.LineUp,
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
    tile = wanted or denoiser.tile_for(free_memory(engine.device), frames)
    while True:
        try:
            return work(tile)
        except (RuntimeError, MemoryError) as error:
            if not is_lack_of_memory(error):
                raise
            if tile <= denoiser.SMALLEST_TILE:
                raise KpnError(
                    f"tiles of {tile} pixels need more memory than there is on "
                    f"{engine.device}; close other programs, or give --device cpu"
                ) from None
        tile = max(tile // 2, denoiser.SMALLEST_TILE)
        if engine.device.type == "cuda":
            torch.cuda.empty_cache()


def _in_tiles(
    engine: Engine,
    found: lineup.LineUp,
    noise: NoiseModel,
    strength: float,
    tile: int,
    on_stage: Callable[[Stage], None],
) -> Denoised:
    height, width = found.frames[0].size
    total = denoiser.tile_count(engine.network, height, width, tile)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("denoising", count, total))

    return denoiser.denoise_frames(
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
    clock = _Clock(computed.result.timings)
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
        options.compression,
        computed.mark,
        options.overwrite,
        step,
    )
    clock.stop("write")
    seconds = round(sum(clock.timings.values()), 3)
    return replace(computed.result, seconds=seconds, timings=clock.timings)
