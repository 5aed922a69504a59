"""Training: bursts -> the annealed loss -> weights; resumable to the bit.

Patch j of batch t is a pure function of (seed, t, j), so that nothing but the step and
the tensors has to be kept to go on where a run was cut, and any number of processes
sees the same data.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import KpnError
from ..synthesis.patches import Batch, Source
from ..synthesis.photos import Scene
from ..system.device import pick_device
from ..system.distributed import ProcessGroup, local_device, process_group
from ..system.files import lock_folder, make_folder
from ..system.memory import keep_freed_memory
from .config import TrainConfig
from .run import Progress, Run
from .tensorboard import Board
from .validation import validate, validation_bursts


def train(
    source: Source,
    val_scenes: Sequence[Scene],
    folder: Path,
    config: TrainConfig,
    *,
    init: Path | None = None,
    minutes: float | None = None,
    board: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[int], None] = lambda patches: None,
    on_step: Callable[[int], None] = lambda patches: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train until `config.patches` are seen, or `minutes` have passed; resume what is in `folder`.

    Under `torchrun` every process draws and works on its share of each batch; the
    first alone validates, writes and reports.

    Args:
        source: of the bursts.
        val_scenes: photos to validate on; may be none.
        folder: of the run; all processes have to see it.
        config: what to train.
        init: weights to begin with.
        minutes: when to stop, wherever the run is then.
        board: whether to write TensorBoard's files.
        should_stop: asked after each step; the run is then saved and over for now.
        on_start: called with the number of patches seen in earlier calls.
        on_step: called with the number of patches seen.
        on_progress: called with each report.

    Returns:
        The path of the best weights (the last ones, without validation photos).

    Raises:
        KpnError: if the folder holds another run or a damaged checkpoint, or the
            loss is no longer a number.
    """
    keep_freed_memory()
    device = local_device(pick_device(config.device))
    make_folder(folder)
    first = int(os.environ.get("RANK", "0")) == 0
    with process_group(device) as processes, lock_folder(folder) if first else nullcontext():
        run = Run(folder, config, init, processes, source.digest)
        with closing(Board(folder)) if board and processes.is_first else nullcontext() as pictures:
            sets = validation_bursts(val_scenes if processes.is_first else [], config.data)
            on_start(run.patches)
            deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes

            def over() -> bool:
                on_step(run.patches)
                return should_stop() or time.monotonic() >= deadline

            for progress in _steps(run, source, sets if val_scenes else None, over):
                if not processes.is_first:
                    continue
                run.log(
                    asdict(progress)
                    | {"rate": config.rate_at(run.step)}
                    | {"precision": run.precision.name, "precision_reason": run.precision.reason}
                )
                if pictures:
                    pictures.show(run, progress, sets)
                run.save()
                on_progress(progress)
        processes.barrier()
    best = folder / "best.safetensors"
    return best if best.exists() else folder / "last.safetensors"


def _steps(
    run: Run,
    source: Source,
    sets: dict[str, dict[int, list[Batch]]] | None,
    stop: Callable[[], bool],
) -> Iterator[Progress]:
    """Train; yield a report each time one is due. The first process has the validation sets."""
    config, processes = run.config, run.processes
    losses: list[Tensor] = []
    if run.init and not run.step and sets and processes.is_first:
        # The best so far are those it begins with.
        run.save_best(validate(run.average, sets, run.device, run.dtype))
    processes.barrier()
    since = time.monotonic()
    for batch in _batches(run, source):
        losses.append(run.train_step(batch))
        over = processes.broadcast(stop()) or run.step >= config.steps
        validating = sets is not None and (over or _crossed(run, config.validate_every))
        if over or validating or _crossed(run, config.save_every):
            loss = float(processes.mean(torch.stack(losses).mean()))
            if not math.isfinite(loss):
                raise KpnError(f"{run.folder}: the loss is {loss}; resume with a smaller --lr")
            speed = len(losses) * config.batch / (time.monotonic() - since)
            table = None
            if validating and processes.is_first:
                table = validate(run.average, sets, run.device, run.dtype)
                run.save_best(table)
            processes.barrier()
            yield Progress(run.patches, loss, speed, table)
            losses, since = [], time.monotonic()
        if over:
            break


def _crossed(run: Run, interval: int) -> bool:
    return run.patches // interval > (run.patches - run.config.batch) // interval


def _batches(run: Run, source: Source) -> Iterator[Batch]:
    """Share of this process in every batch that is left."""
    config = run.config
    members = run.processes.share(config.batch)
    aside = run.device.type != "cpu"
    workers = _workers(run.processes, aside) if config.workers is None else config.workers

    def draw(step: int) -> Batch:
        return source.draw((config.seed, step), members, config.data, each)

    if workers < 2 and not aside:
        each = map
        yield from map(draw, range(run.step, config.steps))
        return
    with ThreadPoolExecutor(max(workers, 1)) as pool, ThreadPoolExecutor(1) as ahead:
        each = pool.map
        coming = None
        for step in range(run.step, config.steps):
            batch = draw(step) if coming is None else coming.result()
            # While another device computes, the processor draws what comes next; on the
            # processor itself the two would only fight for it.
            coming = ahead.submit(draw, step + 1) if aside and step + 1 < config.steps else None
            yield batch


def _workers(processes: ProcessGroup, aside: bool) -> int:
    if aside:
        return max((os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1, 1)
    return torch.get_num_threads()
