"""The parts of a data set, written by the workers of a Dask cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import KpnError
from ..system.cluster import Cluster
from ..system.cluster_task import Again, Lost, Unfit, is_stopped
from ..system.files import scratch_file
from ..system.shared import FOLDER_SECONDS, SharedPaths, shared_paths
from . import dataset
from .photos import ScenesOnDisk


@dataclass(frozen=True)
class Order:
    """What all workers of a run do alike.

    Attributes:
        run: name of the run.
        photos, folder, config: see `dataset.write_dataset`; the paths are absolute.
        paths: that each worker must see.
    """

    run: str
    photos: tuple[Path, ...]
    folder: Path
    config: dataset.DatasetConfig
    paths: SharedPaths


def write_parts(
    cluster: Cluster,
    photos: Sequence[Path],
    folder: Path,
    config: dataset.DatasetConfig,
    numbers: Sequence[int],
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Path]:
    """Write parts on the workers of a cluster; yield the path of each when it is complete.

    Args:
        cluster: the connection.
        photos, folder, config: see `dataset.write_dataset`.
        numbers: of the parts.
        tell: called with lines for the user.

    Raises:
        KpnError: before any work, if a worker is not fit for it; later, if a part cannot be
            written, or the cluster is gone.
        KeyboardInterrupt: after Ctrl-C, when the parts that were begun are done.
    """
    with scratch_file(folder / "run") as marker:
        absolute = tuple(path.absolute() for path in photos)
        order = Order(
            cluster.run, absolute, folder.absolute(), config, shared_paths(marker, absolute)
        )
        cluster.wait_for_workers(tell)
        for worker, fault in cluster.ask_all(look, order).items():
            if fault:
                raise KpnError(f"--dask: worker {worker} {fault}")
        with closing(cluster.work_on(work, list(numbers), order, tell=tell)) as answers:
            for number, answer in answers:
                path = config.part_path(folder, number)
                if answer is not True:
                    reason = answer.reason if isinstance(answer, Lost) else answer
                    raise KpnError(f"{path}: {reason}")
                yield path


# --- on a worker ----------------------------------------------------------------------

#: A worker makes one part at a time: each holds several photos.
_one = threading.Lock()
_scenes: tuple[tuple[Path, ...], ScenesOnDisk] | None = None


def look(order: Order) -> str:
    """Return why this worker is not fit for a run, for the user; "" if it is."""
    try:
        order.config.check_installed()
    except KpnError as error:
        return f"cannot write: {error}"
    return order.paths.lacking("photos")


def work(number: int, order: Order) -> bool | str | Again | Unfit | None:
    """Write a part on this worker.

    Args:
        number: of the part.
        order: of the run.

    Returns:
        True if it is written; why it cannot be; None if the run is stopped.
    """
    with _one:
        if is_stopped(order.run):
            return None
        fault = look(order)
        if fault:
            time.sleep(FOLDER_SECONDS)  # a worker that answers at once would get all other parts
            return Unfit(fault)
        torch.set_num_threads(1)
        try:
            written = _write(number, order)
        except KpnError as error:
            return Again(str(error))
        return written if order.paths.comes_back() else Unfit(order.paths.vanished)


def _write(number: int, order: Order) -> bool:
    global _scenes
    if _scenes is None or _scenes[0] != order.photos:
        _scenes = order.photos, ScenesOnDisk(order.photos, dataset.PHOTOS_PER_SHARD)
    path = order.config.part_path(order.folder, number)
    if not dataset.is_finished(path, order.config):  # by a worker that was taken for dead
        try:
            dataset.write_part(_scenes[1], order.folder, order.config, number)
        except KpnError:
            if not dataset.is_finished(path, order.config):
                raise
    return True
