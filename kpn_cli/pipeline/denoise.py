"""`denoise()`: one burst from its files to its outputs, stage by stage.

Read, choose the reference, align, determine the noise, predict kernels and merge tile by tile,
write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..align import alignment
from ..burst import files as burst_files
from ..burst.frame import Frame, is_mixed
from ..errors import KpnError, TakenError
from ..merge import merge
from ..merge.grain import add_grain
from ..merge.headroom import MAX_WHITE, Headroom, brighter_first
from ..merge.merge import Denoised
from ..network.engine import UNet
from ..network.kpn import KPN
from ..network.precision import in_precision
from ..network.weights import load_weights
from ..noise.selection import NoiseReport
from ..raw.info import RawInfo
from ..raw.reader import read_capture
from ..system.device import Precision, float_precision, pick_device
from ..system.distributed import local_device
from ..system.files import make_folder
from ..system.memory import (
    free_memory,
    is_out_of_memory,
    keep_freed_memory,
    memory_as_error,
    return_freed_memory,
)
from ..system.threads import limit_torch
from . import outputs
from .fingerprint import alike_digest, options_digest
from .loading import Loaded, load_burst
from .names import for_burst, has_reference
from .options import Options
from .prepare import Prepared, prepare
from .result import Clock, Result, Stage

T = TypeVar("T")

#: Told where `--headroom` changes nothing.
_NO_HEADROOM = (
    "--headroom: no frame shows anything brighter than the reference's white, so it stays"
)


class Engine:
    """A network on its device, for any number of bursts.

    Attributes:
        device: where it runs.
        config: of the network.
    """

    def __init__(self, options: Options) -> None:
        """Load the network; its arithmetic is chosen when it is needed.

        Raises:
            KpnError: if device or weights cannot be used.
        """
        keep_freed_memory()
        limit_torch()
        self.device = local_device(pick_device(options.device))
        network, _ = load_weights(options.weights)
        self.config = network.config
        self._loaded = network.to(self.device)
        self._options = options
        self._choosing = Lock()

    @property
    def network(self) -> KPN:
        """The network for large pictures, in evaluation mode, on the device."""
        return self.for_picture(None).network

    @property
    def precision(self) -> Precision:
        """Its arithmetic for large pictures, and why it was chosen."""
        return self.for_picture(None).precision

    @property
    def dtype(self) -> torch.dtype:
        """The type of its convolutions."""
        return self.precision.dtype

    def for_picture(self, pixels: int | None) -> ReadyNetwork:
        """Return the network in the arithmetic for a picture; waits for `prepare`.

        Args:
            pixels: of the picture, on the sensor; None for many.

        Raises:
            KpnError: if the precision is unknown.
        """
        if not self._options.strength:
            plain = float_precision("auto", self.device)
            return ReadyNetwork(
                self.device, self._loaded, Precision(plain.name, "strength 0 runs no network")
            )
        with self._choosing:
            network, precision = in_precision(self._loaded, self._options.precision, pixels)
            return ReadyNetwork(self.device, network, precision)

    def prepare(self, rows: int, columns: int, frames: int) -> None:
        """Do what `for_picture` and the first tile would wait for, in another thread.

        Raises nothing: what fails, fails again where the network is used.

        Args:
            rows, columns: of the planes, in cells.
            frames: that are merged, at most.
        """
        if not self._options.strength:
            return
        with suppress(Exception), self._choosing:
            pixels = 4 * rows * columns
            network, _ = in_precision(self._loaded, self._options.precision, pixels)
            if isinstance(network.engine, UNet):
                tile = self._options.tile or merge.tile_side(
                    network, free_memory(self.device), min(frames, self.config.frames)
                )
                vertical, horizontal = next(merge.tile_spans(network, rows, columns, tile))
                network.engine.prepare(
                    vertical.stop - vertical.start, horizontal.stop - horizontal.start
                )


@dataclass(frozen=True)
class ReadyNetwork:
    """A network in the arithmetic that it runs in.

    Attributes:
        device: where it runs.
        network: in evaluation mode, on the device.
        precision: its arithmetic, and why it was chosen.
    """

    device: torch.device
    network: KPN
    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        """The type of its convolutions."""
        return self.precision.dtype


def denoise(
    paths: Sequence[Path],
    options: Options,
    engine: Engine | None = None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Result:
    """Denoise one burst.

    Args:
        paths: raw files of one burst, in any order, and folders of such files.
        options: how to denoise.
        engine: a network to reuse; None to load one by the options.
        on_stage: called with the progress.

    Raises:
        KpnError: for any error that the user can fix. No output is left half-written.
    """
    files = burst_files.find_raws(paths)
    options = replace(options, name=for_burst(options.name, files, read_capture))
    with memory_as_error():
        loaded = load_burst(
            files,
            options,
            options_digest(options),
            alike_digest=alike_digest(options),
            on_stage=on_stage,
        )
        if isinstance(loaded, Result):
            return loaded
        computed = compute(loaded, options, engine or Engine(options), on_stage)
        return write_computed(computed, options, on_stage)


# --- aligning and denoising -------------------------------------------------


@dataclass(frozen=True)
class Computed:
    """A denoised burst in memory, before its outputs are written.

    Attributes:
        fingerprint: of the burst, 16 bytes; every output gets it.
        info: size, levels and exposure of the reference frame.
        denoised: its clean planes, `(4, cell_rows, cell_columns)` float32 in the order R, G1, G2,
            B, where 0 is black and 1 is white; residual noise and fallback share.
        missing: outputs to write, format -> path.
        result: the result so far: all but the time of writing.
        lift: by how many EV a developer should brighten it (`Loaded.lift`).
        reference: the noisy reference on the CPU, `(4, cell_rows, cell_columns)` samples, for the
            report; None without a report.
    """

    fingerprint: bytes
    info: RawInfo
    denoised: Denoised
    missing: dict[str, Path]
    result: Result
    lift: float = 0.0
    reference: Frame | None = None


def compute(
    loaded: Loaded,
    options: Options,
    engine: Engine,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Computed:
    """Align and merge a burst.

    Args:
        loaded: the burst; its planes are released to save memory.
        options: how to denoise; the output folder is created.
        engine: the network.
        on_stage: called with the progress.

    Raises:
        KpnError: if the noise cannot be determined or memory runs out.
    """
    limit_torch()  # in this thread: the engine may be of another one
    clock = Clock(loaded.timings)
    info = loaded.infos[0]
    pixels = 4 * math.prod(loaded.planes[0].shape[1:])
    make_folder(options.output)  # before the work, in case it is not possible
    prepared = prepare(loaded, options, engine.device, on_stage, clock.end_stage)
    noise = prepared.noise
    aligned, headroom = frames_to_merge(prepared, options, engine, info)
    ready = engine.for_picture(pixels)
    denoised = _run_network(ready, aligned, noise, options, headroom, on_stage)
    if options.grain:
        give_back_grain(denoised.planes, aligned.frames[0], noise, info, options.grain)
    if isinstance(ready.network.engine, UNet):
        ready.network.engine.release_memory()
    return_freed_memory()
    clock.end_stage("denoise")
    not_aligned = {loaded.files[n]: reason for n, reason in aligned.dropped.items()}
    result = Result(
        info.path,
        [loaded.files[n] for n in aligned.used],
        loaded.outputs,
        dropped=loaded.dropped | not_aligned,
        notes=[
            *notes_of(loaded.infos),
            *prepared.notes,
            *filter(None, [ready.precision.note]),
            *headroom_notes(options, denoised.white),
        ],
        settings=loaded.settings(aligned.used),
        noise=noise,
        repaired=prepared.repaired,
        shifts=[median_shift(shifts) for shifts in aligned.shifts],
        agreement=[round(value, 3) for value in aligned.robustness],
        exposure=[round(value, 4) for value in aligned.exposure],
        rejected=[round(value, 3) for value in aligned.rejected],
        noise_left=denoised.residual_noise,
        headroom=headroom_stops(options, denoised.white),
        grain=options.grain,
        fallback_share=round(denoised.fallback_share, 5),
        device=str(engine.device),
        precision=ready.precision.name,
        precision_reason=ready.precision.reason,
        timings=clock.timings,
        orientation=info.orientation,
        fingerprint=loaded.fingerprint,
    )
    reference = aligned.frames[0].to(torch.device("cpu")) if options.report else None
    return Computed(
        loaded.fingerprint, info, denoised, loaded.missing, result, loaded.lift, reference
    )


def frames_to_merge(
    prepared: Prepared, options: Options, engine: Engine, info: RawInfo
) -> tuple[alignment.AlignedBurst, Headroom | None]:
    """Return the frames that are merged, and the headroom.

    Args:
        prepared: the burst.
        options: how to denoise.
        engine: the network.
        info: facts of the reference.
    """
    room = options.headroom and is_mixed(prepared.aligned.frames)
    aligned = prepared.aligned.keep_best(engine.config.frames, headroom=room)
    return aligned, headroom_of(info, aligned.frames) if room else None


def notes_of(infos: Sequence[RawInfo]) -> list[str]:
    """Return the notes about the files of a burst; a note that all files share once."""
    files: dict[str, list[str]] = {}
    for info in infos:
        for note in info.notes:
            files.setdefault(note, []).append(info.frame.name)
    return [
        note if len(names) == len(infos) else f"{', '.join(names)}: {note}"
        for note, names in files.items()
    ]


def median_shift(shifts: Tensor) -> tuple[int, int]:
    """Return the median shift of a frame's tiles, (row, column) in sensor pixels.

    Args:
        shifts: `(tile_rows, tile_columns, 2)` int64, in cells of two pixels.
    """
    y, x = (2 * shifts.flatten(0, 1)).cpu().median(0).values.tolist()
    return int(y), int(x)


def headroom_stops(options: Options, white: float) -> float | None:
    """Return by how many EV a result goes beyond the reference's white; None if not asked for."""
    if not options.headroom or not options.strength:
        return None
    return round(math.log2(white), 2)


def headroom_notes(options: Options, white: float) -> list[str]:
    """Return what `--headroom` did, a line for the user."""
    stops = headroom_stops(options, white)
    if stops is None:
        return []
    if white == 1:
        return [_NO_HEADROOM]
    return [f"--headroom: the DNG reaches {stops:.1f} EV beyond the reference's white"]


def headroom_of(info: RawInfo, frames: Sequence[Frame]) -> Headroom | None:
    """Return how far the frames reach beyond the reference's clipping point; None if none does.

    Args:
        info: the reference's facts.
        frames: the reference first.
    """
    clip = frames[0].clip
    white = min(max(frame.clip for frame in frames) / clip, MAX_WHITE)
    if brighter_first(frames) is None:
        return None
    red, green, blue = info.white_balance
    balance = np.array([red, green, green, blue])
    r, g1, g2, b = (clip * (balance.max() / balance).clip(max=white)).tolist()
    return Headroom(white, (r, g1, g2, b))


def give_back_grain(
    planes: np.ndarray, reference: Frame, noise: NoiseReport, info: RawInfo, share: float
) -> None:
    """Add a share of the reference's luminance noise to clean planes, in place (`merge/grain.py`).

    Args:
        planes: `(4, rows, columns)`, of the picture or a part of it.
        reference: the same part of the frame.
        noise: its noise.
        info: its facts.
        share: 0 to 1.
    """
    observed = 1.0 if noise.observed is None else noise.observed
    add_grain(planes, reference, noise.model, info.white_balance, share, observed)


def _run_network(
    engine: ReadyNetwork,
    aligned: alignment.AlignedBurst,
    noise: NoiseReport,
    options: Options,
    headroom: Headroom | None,
    on_stage: Callable[[Stage], None],
) -> Denoised:
    """Merge the frames tile by tile, in smaller tiles if memory runs out."""
    if options.strength == 0:
        return Denoised(aligned.frames[0].planes(), 1.0)

    def merge_in_tiles(tile: int) -> Denoised:
        return _merge(engine, aligned, noise, options.strength, tile, headroom, on_stage)

    denoised = retry_with_smaller_tiles(merge_in_tiles, engine, len(aligned.frames), options.tile)
    if not np.isfinite(denoised.planes).all():
        raise KpnError("the result holds values that are not numbers; check --noise and --weights")
    return denoised


def retry_with_smaller_tiles(
    work: Callable[[int], T], engine: ReadyNetwork, frames: int, first: int | None
) -> T:
    """Return `work(tile)`, repeated with half the tile as long as memory runs out.

    Args:
        work: takes the side of a tile in sensor pixels.
        engine: the network that it uses.
        frames: number of frames.
        first: side of the tiles to begin with; None to choose by the free memory.

    Raises:
        KpnError: if memory runs out with tiles of `merge.SMALLEST_TILE` pixels.
    """
    tile = first or merge.tile_side(engine.network, free_memory(engine.device), frames)
    while True:
        try:
            return work(tile)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if tile <= merge.SMALLEST_TILE:
                raise KpnError(
                    f"tiles of {tile} pixels need more memory than is free on "
                    f"{engine.device}; close other programs, or use --device cpu"
                ) from None
        tile = max(tile // 2, merge.SMALLEST_TILE)
        if engine.device.type == "cuda":
            torch.cuda.empty_cache()


def _merge(
    engine: ReadyNetwork,
    aligned: alignment.AlignedBurst,
    noise: NoiseReport,
    strength: float,
    tile: int,
    headroom: Headroom | None,
    on_stage: Callable[[Stage], None],
) -> Denoised:
    height, width = aligned.frames[0].size
    total = merge.tile_count(engine.network, height, width, tile)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("denoising", count, total))

    return merge.denoise_frames(
        engine.network,
        aligned.frames,
        aligned.shifts,
        noise.model,
        strength=strength,
        dtype=engine.dtype,
        tile=tile,
        observed=noise.observed,
        headroom=headroom,
        on_tile=step,
    )


# --- writing ----------------------------------------------------------------


def write_computed(
    computed: Computed,
    options: Options,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Result:
    """Write the missing outputs of a denoised burst.

    Args:
        computed: the burst.
        options: how to write: compression, whether to overwrite.
        on_stage: called with the progress.

    Returns:
        Its final result.

    Raises:
        KpnError: if a file cannot be written, or the reference cannot be read any more.
    """
    clock = Clock(computed.result.timings)
    total = len(computed.missing)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        on_stage(Stage("writing", count, total))

    on_stage(Stage("writing", 0, total))
    missing, notes = computed.missing, []
    while missing:
        try:
            notes = _write(computed, missing, options, step)
            break
        except TakenError as taken:
            # Another batch denoises the same burst: what it has written is not written again.
            try:
                missing = outputs.missing_outputs(computed.result.outputs, computed.fingerprint)
            except KpnError:  # it is another burst
                raise taken from None
    clock.end_stage("write")
    seconds = round(sum(clock.timings.values()), 3)
    notes = [*computed.result.notes, *notes]
    return replace(computed.result, notes=notes, seconds=seconds, timings=clock.timings)


def _write(
    computed: Computed, missing: dict[str, Path], options: Options, on_file: Callable[[], None]
) -> list[str]:
    """Write some outputs of a burst; see `write_computed`. Returns notes."""
    noise = computed.result.noise
    return outputs.write_outputs(
        computed.info,
        computed.denoised,
        None if noise is None else noise.model,
        missing,
        compression=options.compression,
        jpeg=outputs.Jpeg(options.jpeg_quality, options.jpeg_size),
        fingerprint=computed.fingerprint,
        replace=options.overwrite,
        strength=options.strength,
        grain=options.grain,
        lift=computed.lift,
        precision=computed.result.precision if options.strength else "",
        document="" if has_reference(options.name) else computed.info.path.name,
        on_file=on_file,
    )
