"""denoise(): the story, from a burst's files to the finished pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import bayer, burst, denoiser, develop, dng_result, lineup, noise_estimate, rendering
from .calibration import Calibration
from .denoiser import Denoised
from .device import keep_freed_memory, pick_device, pick_precision
from .dng_copy import is_kept_whole
from .dng_pictures import COMPRESSIONS
from .errors import KpnError
from .frame import Frame
from .network import KPN
from .noise import NoiseModel, typical_read
from .raw import RawInfo, read_info, read_mosaic
from .tiff_tree import read_tree
from .weights import load_weights
from .write import make_folder

#: Format -> what follows the reference's name in the output's.
SUFFIXES = {
    "dng": "_kpn.dng",
    "linear": "_kpn_linear.tif",
    "srgb": "_kpn_srgb.tif",
    "jpeg": "_kpn.jpg",
}
DEFAULT_FORMATS = ("dng", "linear", "srgb")

#: Beyond this factor between two estimates of sigma, one of them is wrong.
_DISAGREEMENT = 2.0


@dataclass(frozen=True)
class Options:
    """How to denoise; the defaults of the command line.

    Attributes:
        output: folder of the results; made when it isn't there.
        formats: of `SUFFIXES`.
        reference: `auto`, `first`, an index from 0 or a file name.
        strength: multiplies the sigma the network is told; 0 gives the reference itself.
        noise: the user's model, or a camera's by ISO, which overrules all others.
        device, precision: see `device.py`.
        tile: side of a tile in sensor pixels.
        weights: a weight file; None for the network that ships.
        overwrite: replace finished outputs instead of keeping them.
        compression: of the DNG's mosaic, of `COMPRESSIONS`.
    """

    output: Path = Path("denoised")
    formats: tuple[str, ...] = DEFAULT_FORMATS
    reference: str = "auto"
    strength: float = 1.0
    noise: NoiseModel | Calibration | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int = denoiser.DEFAULT_TILE
    weights: Path | None = None
    overwrite: bool = False
    compression: str = "lossless"

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in SUFFIXES]
        if unknown or not self.formats:
            raise KpnError(f"--format {','.join(unknown)}: choose among {', '.join(SUFFIXES)}")
        if not 0 <= self.strength <= 4:
            raise KpnError(f"--strength {self.strength:g}: give a number from 0 to 4")
        if self.compression not in COMPRESSIONS:
            raise KpnError(
                f"--compression {self.compression}: choose among {', '.join(COMPRESSIONS)}"
            )
        if self.tile < 64:
            raise KpnError(f"--tile {self.tile}: give at least 64 pixels")


@dataclass(frozen=True)
class NoiseReport:
    """A noise model and where it came from.

    Attributes:
        source: `given`, `profile`, `iso` or `measured`.
        model: the one that is used.
        warning: what the user should know about it; "" if nothing.
        file: the calibration it is from, if any.
    """

    source: str
    model: NoiseModel
    warning: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class Result:
    """What became of a burst.

    Attributes:
        reference: the reference frame's file.
        frames: the files used, the reference first.
        dropped: files of the burst that are not used -> why.
        outputs: format -> file.
        noise: model and source; None if skipped.
        shifts: median shift of each used frame, (row, column) in sensor pixels.
        agreement: of each used frame with the reference, 0 to 1.
        exposure: brightness of each used frame over the reference's, before it was matched.
        noise_left: share of the noise variance that is left.
        fallen_back: share of the picture that is the reference's (`guard.guarded`).
        device: where the network ran.
        seconds: from the first file to the last.
        timings: seconds by stage.
        skipped: whether all outputs were there already.
    """

    reference: Path
    frames: list[Path]
    outputs: dict[str, Path]
    dropped: dict[Path, str] = field(default_factory=dict)
    noise: NoiseReport | None = None
    shifts: list[tuple[int, int]] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    fallen_back: float = 0.0
    noise_left: float | None = None
    device: str = ""
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    skipped: bool = False


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
        self.device = pick_device(options.device)
        self.dtype = pick_precision(options.precision, self.device)
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
    clock = _Clock()
    infos = _read_infos(burst.find_raws(paths), on_stage)
    burst.check_same(infos)
    mosaics = _read_mosaics(infos, on_stage)
    clock.stop("read")
    sharp = [burst.sharpness(planes) for planes in mosaics]
    first = burst.pick_reference(options.reference, infos, sharp)
    info = infos[first]
    outputs = output_paths(info.path, options, inputs=[i.path for i in infos])
    files = [info.path, *(i.path for n, i in enumerate(infos) if n != first)]
    missing = {n: path for n, path in outputs.items() if options.overwrite or not path.exists()}
    if not missing:
        return Result(info.path, files, outputs, skipped=True)
    given = given_noise(info, options.noise)
    engine = engine or Engine(options)
    make_folder(options.output)  # before the work: it may not be possible
    clock.stop("load network")
    order = [first, *(n for n in range(len(infos)) if n != first)]
    frames = [_frame(infos[n], mosaics[n]).to(engine.device) for n in order]
    aligned = _align(frames, files, _first_guess(info, frames[0], given), on_stage)
    clock.stop("align")
    noise = given or choose_noise(info, aligned)
    clock.stop("measure noise")
    done = _run_network(engine, aligned, noise.model, options, on_stage)
    clock.stop("denoise")
    _write(info, done, noise.model, missing, options.compression, on_stage)
    clock.stop("write")
    return Result(
        info.path,
        aligned.files,
        outputs,
        dropped=aligned.dropped,
        noise=noise,
        shifts=[_median_shift(shift) for shift in aligned.shifts],
        agreement=[round(value, 3) for value in aligned.agreement],
        exposure=[round(value, 4) for value in aligned.exposure],
        noise_left=done.noise_left,
        fallen_back=round(done.fallen_back, 5),
        device=str(engine.device),
        seconds=round(sum(clock.timings.values()), 3),
        timings={name: round(seconds, 3) for name, seconds in clock.timings.items()},
    )


class _Clock:
    """Tells how long each stage took."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}
        self._last = time.monotonic()

    def stop(self, stage: str) -> None:
        """End a stage; the next one begins."""
        now = time.monotonic()
        self.timings[stage] = now - self._last
        self._last = now


def output_paths(reference: Path, options: Options, inputs: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the outputs of a burst by format, without writing them.

    Raises:
        KpnError: if an output would replace an input.
    """
    outputs = {
        name: options.output / f"{reference.stem}{SUFFIXES[name]}" for name in options.formats
    }
    taken = {path.resolve() for path in inputs}
    for path in outputs.values():
        if path.resolve() in taken:
            raise KpnError(f"{path}: would replace an input; choose another folder with -o")
    return outputs


# --- reading ----------------------------------------------------------------


def _read_infos(paths: Sequence[Path], on_stage: Callable[[Stage], None]) -> list[RawInfo]:
    infos = []
    for number, path in enumerate(paths):
        on_stage(Stage("reading", number, 2 * len(paths)))
        infos.append(read_info(path))
    return burst.sort_by_time(infos)


def _read_mosaics(infos: Sequence[RawInfo], on_stage: Callable[[Stage], None]) -> list[np.ndarray]:
    planes = []
    for number, info in enumerate(infos):
        on_stage(Stage("reading", len(infos) + number, 2 * len(infos)))
        planes.append(bayer.pack(read_mosaic(info), info.phase))
    return planes


def _frame(info: RawInfo, planes: np.ndarray) -> Frame:
    return Frame(torch.from_numpy(planes), info.black, info.white)


# --- noise and alignment ----------------------------------------------------


@dataclass(frozen=True)
class Aligned:
    """The frames that are used, the reference first, and how they lie over it."""

    files: list[Path]
    frames: list[Frame]
    shifts: list[Tensor]
    agreement: list[float]
    exposure: list[float]
    dropped: dict[Path, str]


def _linear(frame: Frame) -> np.ndarray:
    return frame.linear(frame.samples).cpu().numpy()


def given_noise(info: RawInfo, noise: NoiseModel | Calibration | None) -> NoiseReport | None:
    """Return the user's noise model for a file; None if there is none.

    Raises:
        KpnError: if it is a calibration of another camera, or the file says no ISO.
    """
    if isinstance(noise, Calibration):
        return NoiseReport("given", noise.at(info), noise.warning(info), noise.path)
    return noise and NoiseReport("given", noise)


def _first_guess(info: RawInfo, frame: Frame, given: NoiseReport | None) -> NoiseModel:
    """A noise model good enough to align by."""
    stated = given.model if given else info.noise_profile
    if stated is not None:
        return stated
    try:
        return noise_estimate.measure_frame(_linear(frame))
    except KpnError as error:
        if info.iso:
            return noise_estimate.from_iso(info.iso)
        raise KpnError(f"{info.path.name}: no noise profile, no ISO, and {error}") from None


def _align(
    frames: Sequence[Frame],
    files: Sequence[Path],
    noise: NoiseModel,
    on_stage: Callable[[Stage], None],
) -> Aligned:
    """Line up the frames with the reference."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("aligning", count, len(frames) - 1))

    found = lineup.line_up(frames, noise, step)
    return Aligned(
        [files[n] for n in found.used],
        found.frames,
        found.shifts,
        found.agreement,
        found.exposure,
        {files[n]: why for n, why in found.dropped.items()},
    )


def choose_noise(info: RawInfo, aligned: Aligned) -> NoiseReport:
    """Return the noise model of a burst for which the user gave none.

    In order: the file's NoiseProfile, the table for its ISO, what the
    frames themselves show. The table is an average of cameras, and single ones lie
    several times off; it counts only where the frames do not contradict it.
    """
    measured, failure = None, ""
    try:
        measured = _measure(aligned)
    except KpnError as error:  # nothing but clipped or black samples
        failure = str(error)
    if info.noise_profile is not None:
        profile = _with_read_noise(info.noise_profile, measured)
        return NoiseReport("profile", profile, _disagreement(info.noise_profile, measured))
    table = noise_estimate.from_iso(info.iso) if info.iso else None
    if table is not None and not _disagreement(table, measured):
        return NoiseReport("iso", table)
    if measured is None:
        raise KpnError(f"{info.path.name}: no noise profile, and {failure}")
    return NoiseReport("measured", measured)


def _measure(aligned: Aligned) -> NoiseModel:
    reference = _linear(aligned.frames[0])
    if len(aligned.frames) == 1:
        return noise_estimate.measure_frame(reference)
    rows, columns = (slice(0, side) for side in aligned.frames[0].size)
    others = (
        lineup.aligned_part([frame], [shift], rows, columns)[0].cpu().numpy()
        for frame, shift in zip(aligned.frames[1:], aligned.shifts[1:], strict=True)
    )
    return noise_estimate.measure_burst(reference, others)


def _with_read_noise(profile: NoiseModel, measured: NoiseModel | None) -> NoiseModel:
    """Replace read noise of 0, which some phones state: shadows would pass for noiseless."""
    typical = 10 ** typical_read(np.log10(np.maximum(profile.shot, 1e-12)))
    likely = typical if measured is None else measured.read
    read = tuple(o or float(other) for o, other in zip(profile.read, likely, strict=True))
    return NoiseModel(profile.shot, read)


def _disagreement(stated: NoiseModel, measured: NoiseModel | None) -> str:
    """Say by how much two models differ, in the shadows or at middle grey; "" if little."""
    if measured is None:
        return ""
    for signal, where in ((0.18, "middle grey"), (0.005, "deep shadow")):
        ratio = noise_estimate.sigma_ratio(measured, stated, signal)
        if not 1 / _DISAGREEMENT <= ratio <= _DISAGREEMENT:
            return f"the frames show {ratio:.2g} times the sigma it states in {where}; see --noise"
    return ""


def _median_shift(shifts: Tensor) -> tuple[int, int]:
    """In sensor pixels; a cell is two."""
    y, x = (2 * shifts.flatten(0, 1)).cpu().median(0).values.tolist()
    return int(y), int(x)


# --- network and results ----------------------------------------------------


def _run_network(
    engine: Engine,
    aligned: Aligned,
    noise: NoiseModel,
    options: Options,
    on_stage: Callable[[Stage], None],
) -> Denoised:
    if options.strength == 0:
        return Denoised(_linear(aligned.frames[0]), 1.0)
    height, width = aligned.frames[0].size
    total = denoiser.tile_count(engine.network, height, width, options.tile)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("denoising", count, total))

    try:
        done = denoiser.denoise_frames(
            engine.network,
            aligned.frames,
            aligned.shifts,
            noise,
            strength=options.strength,
            dtype=engine.dtype,
            tile=options.tile,
            on_tile=step,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise KpnError(
            f"tiles of {options.tile} pixels need more memory than there is on "
            f"{engine.device}; give a smaller --tile, or --device cpu"
        ) from None
    if not np.isfinite(done.planes).all():
        raise KpnError("the result holds values that are not numbers; check --noise and --weights")
    return done


def _now() -> datetime:
    """The time of modification; SOURCE_DATE_EPOCH where the same bytes are wanted every day.

    See https://reproducible-builds.org/specs/source-date-epoch/
    """
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    if seconds.isdecimal():
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(int(seconds), timezone.utc)
    return datetime.now().astimezone()


def _write(
    info: RawInfo,
    done: Denoised,
    noise: NoiseModel,
    outputs: dict[str, Path],
    compression: str,
    on_stage: Callable[[Stage], None],
) -> None:
    """Write all formats of a burst; one development serves all that need it.

    Pictures are large: the DNG is written before there is one, and each lives as long as some
    format needs it.
    """
    now, tree = _now(), read_tree(info.path, is_kept_whole)
    stages = (Stage("writing", number, len(outputs)) for number in range(len(outputs)))
    if "dng" in outputs:
        on_stage(next(stages))
        share = done.noise_left
        dng_result.write_result(
            outputs["dng"],
            info,
            tree,
            done.planes,
            develop.preview(info, done.planes),
            noise=None if share is None else noise.with_strength(share**0.5),
            compression=compression,
            modified=now,
        )
    if set(outputs) <= {"dng"}:
        return
    rgb = develop.develop(info, done.planes, linear=True)
    for name in ("linear", "jpeg", "srgb"):
        if name not in outputs:
            continue
        on_stage(next(stages))
        tags = rendering.photo_tags(
            info, tree, rgb, linear=name == "linear", jpeg=name == "jpeg", modified=now
        )
        if name == "jpeg":
            rendering.write_jpeg(outputs[name], develop.to_srgb8(rgb), tags)
            continue
        if name == "srgb":  # the last one: linear light is needed no more
            rgb = develop.to_srgb(rgb)
        rendering.write_tiff(outputs[name], rgb, linear=name == "linear", tags=tags)
