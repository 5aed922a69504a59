"""A Dask cluster on this machine, for as long as a run lasts."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import resource_tracker
from typing import Any

from ..errors import KpnError
from . import cluster_task

#: Workers that may die at a piece of work; on a cluster of the user's, it is Dask's setting.
_ALLOWED_DEATHS = 1
#: Memory for a worker: two bursts of 24 megapixels (docs/scale.md).
_WORKER_BYTES = 4 << 30
#: Seconds in which a worker must start.
_START_SECONDS = 120


@dataclass(frozen=True)
class LocalSize:
    """Workers of a cluster on this machine.

    Attributes:
        workers: number of processes.
        threads: for a piece of work in each.
    """

    workers: int
    threads: int


def local_size(threads: int | None, cores: int, memory: int) -> LocalSize:
    """Return the size of a cluster on this machine.

    A worker for each core does the most work in all, but each takes memory: there are as many as
    fit, and they share the cores.

    Args:
        threads: of each worker, as the user wants them; None for a share of the cores.
        cores: that may be used.
        memory: that is free, in bytes.
    """
    fit = max(memory // _WORKER_BYTES, 1)
    if threads is not None:
        return LocalSize(max(min(cores // threads, fit), 1), threads)
    workers = max(min(cores, fit), 1)
    return LocalSize(workers, max(cores // workers, 1))


@contextmanager
def local_cluster(size: LocalSize) -> Iterator[Any]:
    """Start workers on this machine, a `distributed.LocalCluster` that ends with the block.

    A worker reads one burst while it denoises another, unless it has a single core.

    Raises:
        KpnError: if no worker starts.
    """
    dask: Any = import_module("dask")
    distributed: Any = import_module("distributed")
    settings = {
        "distributed.scheduler.allowed-failures": _ALLOWED_DEATHS,
        "distributed.worker.daemon": True,
    }
    with dask.config.set(settings):
        try:
            with _no_ctrl_c():  # for the thread that starts workers, and so for them
                cluster = distributed.LocalCluster(
                    n_workers=0,
                    threads_per_worker=1 if size.threads == 1 else 2,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                    memory_limit=0,  # kpn keeps freed memory, which Dask would take for a leak
                    preload=[cluster_task.__name__],
                    env={"DASK_LOGGING__DISTRIBUTED": "critical"},
                )
        except (OSError, RuntimeError, TimeoutError) as error:
            raise _not_started(str(error)) from None
        try:
            cluster.scale(size.workers)
            wait_for(cluster, size.workers)
            yield cluster
        finally:
            cluster.shutdown_on_close = False  # or Dask closes it again at the end, with errors
            with suppress(Exception):
                cluster.close(timeout=1)


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """Let the threads and processes that the block starts get no Ctrl-C; it comes after the block.

    On Windows without effect; there, `cluster_task.dask_setup` does it.
    """
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is None:
        yield
        return
    # Python starts this with the first process, and lets Ctrl-C through again in that thread.
    resource_tracker.ensure_running()
    before = mask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)


def wait_for(cluster: Any, workers: int) -> None:
    """Wait until the workers have started; go on with fewer if some do not.

    Raises:
        KpnError: if none does.
    """
    until = time.monotonic() + _START_SECONDS
    while len(cluster.scheduler.workers) < workers:
        nannies = list(cluster.workers.values())
        dead = sum(nanny.status.name in ("failed", "closed") for nanny in nannies)
        started = len(cluster.scheduler.workers)
        if started + dead >= workers or time.monotonic() > until:
            if started:
                return
            raise _not_started("they end while they start")
        time.sleep(0.05)


def _not_started(reason: str) -> KpnError:
    return KpnError(
        f"--dask local: no workers can be started ({' '.join(reason.split())[:300]}); free some "
        "memory, or leave out --dask"
    )
