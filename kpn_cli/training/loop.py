"""The training loop: batches -> annealed loss -> weights; a resumed run gives the same bits.

Patch j of batch t is a pure function of (seed, t, j). So the step and the tensors are all that a
checkpoint needs, and any number of processes sees the same data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import KpnError
from ..network.quantisation import fits_integers
from ..synthesis.patches import BatchSource, PhotoSource
from ..synthesis.photos import Scene
from ..system.device import pick_device
from ..system.distributed import launched, local_device, process_group
from ..system.files import lock_folder, make_folder
from ..system.memory import keep_freed_memory
from .activation_ranges import add_ranges, burst_number, bursts_of
from .batches import draw_batches
from .config import TrainConfig
from .run import MAX_GRADIENT_NORM, Progress, TrainingRun
from .tensorboard import TensorBoardLog, check_tensorboard
from .validation import ValidationSets, validate, validation_bursts

#: A rise of the balanced loss that is a collapse: at a rate of 0.001, one went from -7.2 to -2.5
#: (docs/log.md).
_COLLAPSE = 1.0
#: Patches of a report from which its loss is judged: fewer scatter too much.
JUDGED_PATCHES = 4000


def train(
    source: BatchSource,
    val_scenes: Sequence[Scene],
    folder: Path,
    config: TrainConfig,
    *,
    init: Path | None = None,
    minutes: float | None = None,
    tensorboard: bool = False,
    max_gradient_norm: float = MAX_GRADIENT_NORM,
    judged_patches: int = JUDGED_PATCHES,
    should_stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[int], None] = lambda patches: None,
    on_step: Callable[[int], None] = lambda patches: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Path:
    """Train a network for `config.patches`, or resume the run in `folder`.

    At the end, the ranges of the activations are recorded for arithmetic in integers, and written
    into the weight files; not if `should_stop` ends the training or the recording.

    Under `torchrun` each process draws its share of each batch; only the first process
    validates, writes files and reports.

    Args:
        source: of the training batches.
        val_scenes: photos to validate on; may be empty.
        folder: of the run; all processes must see it.
        config: settings.
        init: weights to begin with.
        minutes: time limit, after which the run is saved and stops.
        tensorboard: whether to write a TensorBoard log.
        max_gradient_norm: norm that gradients are clipped to.
        judged_patches: patches of a report from which a loss that has risen ends the run.
        should_stop: called after each step, and for each burst that ranges are recorded on; if
            true, the run is saved and stops.
        on_start: called with the number of patches trained on in earlier calls.
        on_step: called with the number of patches trained on, after each step.
        on_progress: called with each report.
        on_note: called with a line when ranges are recorded, or on why the weights lack them.

    Returns:
        Path of the best weights, or of the last ones without validation photos.

    Raises:
        KpnError: if the folder holds another run or a damaged checkpoint, the loss is not finite or
            has risen for good (nothing is saved then), or TensorBoard is asked for and not
            installed.
    """
    if tensorboard:
        check_tensorboard()
    keep_freed_memory()
    device = local_device(pick_device(config.device))
    # All batches have the same shape: cuDNN may try which of its algorithms is the fastest.
    torch.backends.cudnn.benchmark = device.type == "cuda"
    make_folder(folder)
    first = launched("RANK", 0) == 0
    with process_group(device) as processes, lock_folder(folder) if first else nullcontext():
        run = TrainingRun(
            folder, config, init, processes, source.digest, max_gradient_norm=max_gradient_norm
        )
        log = TensorBoardLog(folder) if tensorboard and processes.is_first else None
        with closing(log) if log else nullcontext():
            sets = validation_bursts(val_scenes if processes.is_first else [], config.data)
            on_start(run.patches)
            deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes

            def stop() -> bool:
                on_step(run.patches)
                return should_stop() or time.monotonic() >= deadline

            for progress in _steps(run, source, sets if val_scenes else None, stop, judged_patches):
                if not processes.is_first:
                    continue
                run.log(
                    asdict(progress)
                    | {"rate": config.rate_at(run.step)}
                    | {"precision": run.precision.name, "precision_reason": run.precision.reason}
                )
                if log:
                    log.add_report(run, progress, sets)
                run.save()
                on_progress(progress)
        if processes.is_first and not should_stop():
            with suppress(_StoppedError):
                _add_ranges(run, source, should_stop, on_note)
        processes.barrier()
    best = folder / "best.safetensors"
    return best if best.exists() else folder / "last.safetensors"


class _StoppedError(Exception):
    """The user has stopped the recording of ranges."""


def _add_ranges(
    run: TrainingRun,
    source: BatchSource,
    should_stop: Callable[[], bool],
    on_note: Callable[[str], None],
) -> None:
    """Write the ranges of the activations into the run's weight files, if that is possible.

    Raises:
        _StoppedError: if `should_stop` becomes true; a file is complete, with ranges or without.
    """
    why = ""
    if not isinstance(source, PhotoSource):
        why = "they are recorded on photos; add them with kpn train --calibrate"
    elif not fits_integers(run.average):
        why = "such networks run in floating point only"
    if why or not isinstance(source, PhotoSource):
        on_note(f"{run.folder}: the weights have no activation ranges for int8: {why}")
        return
    seed, number = run.config.seed, burst_number(run.patches)
    about = {"data": source.digest, "seed": seed}
    on_note(f"{run.folder}: recording activation ranges for int8 on {number} bursts")
    for name in ("last.safetensors", "best.safetensors"):
        if (run.folder / name).exists():
            bursts = bursts_of(source.scenes, run.config.data, seed, number)
            add_ranges(run.folder / name, _until(should_stop, bursts), about)


def _until(
    should_stop: Callable[[], bool], bursts: Iterator[tuple[Tensor, Tensor, Tensor]]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield bursts; raise `_StoppedError` once `should_stop` is true."""
    for burst in bursts:
        if should_stop():
            raise _StoppedError
        yield burst


def _steps(
    run: TrainingRun,
    source: BatchSource,
    sets: ValidationSets | None,
    stop: Callable[[], bool],
    judged_patches: int,
) -> Iterator[Progress]:
    """Train, and yield a report whenever one is due.

    `sets` is None without validation; it is empty in all processes but the first.
    """
    config, processes = run.config, run.processes
    losses: list[Tensor] = []
    if run.init and not run.step and sets and processes.is_first:
        # The initial weights are the best so far.
        run.save_best(validate(run.average, sets, run.device, run.dtype))
    processes.barrier()
    since, lowest = time.monotonic(), run.lowest_loss()
    members = processes.share(config.batch)
    steps = range(run.step, config.steps)
    for batch in draw_batches(source, config, steps, members, run.device, run.folder):
        losses.append(run.train_step(batch))
        over = processes.broadcast(stop()) or run.step >= config.steps
        validating = sets is not None and (over or _is_due(run, config.validate_every))
        if over or validating or _is_due(run, config.save_every):
            loss = float(processes.mean(torch.stack(losses).mean()))
            if not math.isfinite(loss):
                raise KpnError(f"{run.folder}: the loss is {loss}; resume with a smaller --lr")
            if config.loss.balanced and len(losses) * config.batch >= judged_patches:
                if loss > lowest + _COLLAPSE:
                    raise KpnError(
                        f"{run.folder}: the loss rose from {lowest:.2f} to {loss:.2f}, so the "
                        "training went astray; nothing was saved since: resume with a smaller --lr"
                    )
                lowest = min(lowest, loss)
            speed = len(losses) * config.batch / (time.monotonic() - since)
            table = None
            if validating and sets is not None and processes.is_first:
                table = validate(run.average, sets, run.device, run.dtype)
                run.save_best(table)
            processes.barrier()
            yield Progress(run.patches, loss, speed, table)
            losses, since = [], time.monotonic()
        if over:
            break


def _is_due(run: TrainingRun, interval: int) -> bool:
    """Whether the last step reached a multiple of `interval` patches."""
    return run.patches // interval > (run.patches - run.config.batch) // interval
