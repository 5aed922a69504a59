"""Training batches in the order of the steps, drawn beside an accelerator by worker processes.

Patch j of batch t is a pure function of (seed, t, j), so it does not matter which process draws it.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader, Dataset

from ..errors import KpnError
from ..synthesis.mapped_scenes import MappedScenes
from ..synthesis.patches import BatchSource, MapFunction, PhotoSource, TrainingBatch
from ..system.distributed import launched
from ..system.files import scratch_file
from .config import TrainConfig

#: Batches that each worker draws ahead.
_AHEAD = 3


def draw_batches(
    source: BatchSource,
    config: TrainConfig,
    steps: range,
    members: range,
    device: torch.device,
    folder: Path,
) -> Iterator[TrainingBatch]:
    """Yield the bursts at the indices `members` of the batch of each step, on the CPU.

    On the CPU the training itself needs the cores: there, threads draw a batch when it is due.
    Beside an accelerator, processes draw ahead, because Python's threads would wait for each
    other.

    Args:
        source: of the bursts.
        config: of the run; its `workers` is the number of threads or processes.
        steps: numbers of the steps.
        members: of each batch.
        device: that trains.
        folder: of the run. Processes share the photos by a temporary file in it: the system's
            folder for such files may be small, or in memory.

    Raises:
        KpnError: if a process is killed, or the temporary file cannot be written.
    """
    draw = _Batches(source, config, members)
    workers = _default_workers(device) if config.workers is None else config.workers
    if device.type == "cpu":
        yield from _in_threads(draw, steps, workers)
    elif workers == 0:
        yield from (draw[step] for step in steps)
    else:
        yield from draw_in_processes(draw.source, config, steps, members, workers, folder)


def _default_workers(device: torch.device) -> int:
    if device.type == "cpu":
        return torch.get_num_threads()
    return max((os.cpu_count() or 1) // max(launched("LOCAL_WORLD_SIZE", 1), 1) - 1, 1)


@dataclass(frozen=True)
class _Batches:
    """Batches by step."""

    source: BatchSource
    config: TrainConfig
    members: range

    def __getitem__(self, step: int) -> TrainingBatch:
        return self.draw(step, map)

    def draw(self, step: int, map_function: MapFunction) -> TrainingBatch:
        config = self.config
        return self.source.draw((config.seed, step), self.members, config.data, map_function)


class _BatchesOrErrors(Dataset["TrainingBatch | KpnError"]):
    """Batches by step for `DataLoader`, which would turn an error's line into a traceback."""

    def __init__(self, batches: _Batches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> TrainingBatch | KpnError:
        try:
            return self._batches[step]
        except KpnError as error:
            return error


def _in_threads(batches: _Batches, steps: range, workers: int) -> Iterator[TrainingBatch]:
    if workers < 2:
        yield from (batches[step] for step in steps)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from (batches.draw(step, pool.map) for step in steps)


def draw_in_processes(
    source: BatchSource,
    config: TrainConfig,
    steps: range,
    members: range,
    workers: int,
    folder: Path,
) -> Iterator[TrainingBatch]:
    """Yield batches as `draw_batches` does, drawn by worker processes.

    Args:
        source, config, steps, members, folder: as for `draw_batches`.
        workers: number of processes, at least 1.

    Raises:
        KpnError: if a process is killed, or the temporary file cannot be written.
    """
    with scratch_file(folder / "scenes") as file:
        if isinstance(source, PhotoSource):  # one copy of the photos for all processes
            source = replace(source, scenes=MappedScenes(source.scenes, file))
        loader = DataLoader(
            _BatchesOrErrors(_Batches(source, config, members)),
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=_AHEAD,
            # Spawned, not forked: the threads of torch and OpenCV do not survive a fork.
            multiprocessing_context="spawn",
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
        )
        try:
            for batch in loader:
                if isinstance(batch, KpnError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):  # a bug in one says "process"
                raise
            raise KpnError(
                "a process that draws training data was killed, perhaps for lack of memory; run "
                "the same command again, with fewer --workers"
            ) from None


def _start_worker(number: int) -> None:
    # Ctrl-C reaches all processes of the terminal: the first one saves the run and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # There is a worker for each core. OpenBLAS alone would start that many threads in each of them,
    # which wait in busy loops.
    threadpool_limits(1)
    cv2.setNumThreads(1)
    # When training ends, a thread of this process still sends batches that were drawn ahead. As
    # Python ends, it stops that thread in the middle of torch's code, and the process is aborted.
    atexit.register(os._exit, 0)
