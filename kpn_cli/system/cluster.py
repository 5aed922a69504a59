"""A connection to a Dask cluster: the user's own, or one on this machine.

Dask (`distributed`, an optional dependency) shares the work out, and gives a dead worker's work to
another. kpn adds what Dask leaves to its users: few pieces are handed in at a time, workers that
cannot do the work are named, Ctrl-C lets go what runs, and a piece that kills workers ends
(`cluster_work.py`; `cluster_task.py` is on a worker). https://distributed.dask.org
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..errors import KpnError
from . import cluster_task
from .cluster_here import LocalSize, local_cluster, local_size
from .cluster_task import answered, task
from .cluster_work import Batch, count_interrupts, in_words
from .memory import free_memory
from .threads import usable_cores

T = TypeVar("T")

#: The address that stands for a cluster on this machine.
LOCAL = "local"
#: Of a scheduler: "host:8786", with or without "tcp://" or the like before.
_ADDRESS = re.compile(r"(\w+://)?[^/\s]*:\d+(/\S*)?")
#: Seconds in which a scheduler must answer, also after it was restarted.
_ANSWER_SECONDS = 10
#: Seconds in which a worker must have looked at what it needs; a cold network disk is slow.
_CHECK_SECONDS = 300
#: Seconds without a worker that can do the work, after which the run ends; on this machine, where
#: no other workers can come, and dead ones start again at once.
PATIENCE, _PATIENCE_HERE = 600.0, 60.0
#: Seconds between looks at a worker that has not answered yet.
_LOOK_SECONDS = 2.0


class Cluster:
    """A connection to a Dask cluster; make it by `connect`.

    Attributes:
        client: of `distributed`.
        address: what the user calls the cluster.
        threads: of each worker for a piece of work; None for as many as Dask gave it.
        patience: seconds to wait for a worker that can do the work.
        run: name of this run, for the workers.
    """

    def __init__(self, client: Any, address: str, threads: int | None, patience: float) -> None:
        """Take the attributes."""
        self.client, self.address = client, address
        self.threads, self.patience = threads, patience
        self.run = secrets.token_hex(8)

    def workers(self) -> dict[str, int]:
        """Return the address of each worker and its number of threads.

        Raises:
            KpnError: if the scheduler is gone.
        """
        while True:
            self.wait_for_scheduler()
            with suppress(OSError, TimeoutError):  # it goes just now
                return dict(self.client.nthreads())
            time.sleep(0.1)

    def wait_for_workers(self, tell: Callable[[str], None]) -> None:
        """Wait for a worker.

        Args:
            tell: called with a line for the user, if there is none yet.

        Raises:
            KpnError: if none comes.
        """
        if self.workers():
            return
        tell(f"--dask {self.address}: no workers yet; waiting for the first")
        # A cluster that grows by demand starts a worker for work only.
        probe = self.client.submit(*task(cluster_task.worker_threads), pure=False)
        begun = time.monotonic()
        while not self.workers():
            if time.monotonic() - begun > self.patience:
                raise self.no_workers()
            time.sleep(min(0.5, self.patience))
        probe.cancel()

    def ask_all(self, work: Callable[..., T], *args: object) -> dict[str, T]:
        """Return the answer of each present worker to a question, by its address.

        Raises:
            KpnError: if one does not answer, fails, or has another version of kpn or none.
        """
        asked = {
            worker: self.client.submit(
                *task(work, *args),
                workers=[worker],
                allow_other_workers=False,
                pure=False,
                priority=1,  # before the bursts of other runs
            )
            for worker in self.workers()
        }
        until = time.monotonic() + _CHECK_SECONDS
        answers: dict[str, T] = {}
        for worker, future in asked.items():
            while worker not in answers:
                try:
                    _, fault, answers[worker] = answered(future.result(timeout=_LOOK_SECONDS))
                except Exception as error:
                    if worker not in self.workers():  # gone meanwhile
                        break
                    if not isinstance(error, TimeoutError):
                        fault = f"fails: {in_words(error)}"
                    elif time.monotonic() < until:
                        continue
                    else:
                        fault = f"has not answered for {_CHECK_SECONDS} s; is it busy?"
                if fault:
                    raise KpnError(f"--dask: worker {worker} {fault}")
        if not answers:
            raise self.no_workers()
        return answers

    def work_on(
        self,
        work: Callable[..., object],
        items: Sequence[T],
        *args: object,
        as_sent: Callable[[T], object] = lambda item: item,
        tell: Callable[[str], None] = lambda line: None,
        on_look: Callable[[int, int], None] = lambda workers, left: None,
    ) -> Generator[tuple[T, Any], None, None]:
        """Do pieces of work on any workers, in no order. Close the generator if it is not used up.

        At the first Ctrl-C, nothing more is handed in, and what waits is dropped; what runs ends.
        At the second, this ends at once.

        Args:
            work: called on a worker with an item and `args`. It may answer `Unfit` or `Again`, and
                answers None if `is_stopped`.
            items: of the work.
            args: for each call.
            as_sent: makes of an item what a worker gets, when it gets it.
            tell: called with lines for the user: workers that are lost or unfit.
            on_look: called every few seconds with the number of workers and of items left.

        Yields:
            An item and the answer, or `Lost`.

        Raises:
            KpnError: if the scheduler is gone, or no worker can do the work for long.
            KeyboardInterrupt: after Ctrl-C.
        """
        batch = Batch(self, lambda item: task(work, as_sent(item), *args), items, tell, on_look)
        with count_interrupts() as interrupts:
            yield from batch.results(interrupts)
        if interrupts:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Let the workers begin no more work of this run."""
        self.call_all(cluster_task.stop, self.run)

    def call_all(self, function: Callable[..., object], *args: object) -> None:
        """Call a quick function on all workers that there are, whatever they do just now."""
        with suppress(Exception):  # a worker or the scheduler is gone
            if self.client.status == "running":
                self.client.run(function, *args, on_error="ignore")

    def wait_for_scheduler(self) -> None:
        """Wait until the client is connected.

        Raises:
            KpnError: if it gives up.
        """
        until = time.monotonic() + 2 * _ANSWER_SECONDS
        while self.client.status != "running":
            if self.client.status in ("closed", "closing") or time.monotonic() > until:
                raise KpnError(
                    f"--dask {self.address}: the scheduler is gone; what is finished stays. Start "
                    "the cluster again, then run the same command again"
                )
            time.sleep(0.1)

    def no_workers(self) -> KpnError:
        """Return the error to raise without workers."""
        remedy = "start some, then run the same command again"
        if self.address == LOCAL:
            remedy = "they die, perhaps for lack of memory; free some, or leave out --dask"
        return KpnError(f"--dask {self.address}: no workers for {self.patience:g} s; {remedy}")


@contextmanager
def connect(
    address: str,
    threads: int | None = None,
    *,
    one_worker: bool = False,
    patience: float | None = None,
) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the block lasts.

    Args:
        address: of a scheduler ("tcp://host:8786"), the path of its scheduler file, or "local" to
            start workers on this machine, which end with the block.
        threads: of each worker for a piece of work; None for its share.
        one_worker: whether to start no more than one on this machine, for its GPU.
        patience: seconds to wait for a worker that can do the work; None for the default.

    Raises:
        KpnError: if Dask is not installed, or the scheduler does not answer.
    """
    try:
        import_module("distributed")
    except ImportError:
        raise KpnError("--dask: Dask is not installed; pip install 'kpn[dask]'") from None
    _silence()
    patience = patience or (_PATIENCE_HERE if address == LOCAL else PATIENCE)
    with ExitStack() as stack:
        where: dict[str, Any] = {"address": address}
        if address == LOCAL:
            size = local_size(threads, usable_cores(), free_memory())
            if one_worker:
                size = LocalSize(1, threads or usable_cores())
            threads = size.threads
            where = {"address": stack.enter_context(local_cluster(size))}
        elif address.endswith(".json") or os.path.isfile(address):
            where = {"address": _address_in(address)}
        elif not _ADDRESS.fullmatch(address):
            raise _no_scheduler(address, "that is no address")
        client = _client(address, where)
        stack.callback(_close, client)
        yield Cluster(client, address, threads, patience)


def _address_in(path: str) -> str:
    """Return the address in a scheduler file.

    Raises:
        KpnError: if there is none.
    """
    if not os.path.isfile(path):
        raise KpnError(f"--dask {path}: no such scheduler file; start the scheduler")
    try:
        with open(path, encoding="utf-8") as file:
            address = json.load(file)["address"]
        if _ADDRESS.fullmatch(address):
            return str(address)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    raise _no_scheduler(path, "that is no scheduler file")


def _client(address: str, where: dict[str, Any]) -> Any:
    """Return a connected `distributed.Client`.

    Dask has a limit for each step, but waits for ever for what listens and does not answer. So the
    client is made in a thread, which is left alone then.

    Args:
        address: as the user gave it.
        where: arguments of the client.

    Raises:
        KpnError: if there is no scheduler, or it does not answer in time.
    """
    distributed: Any = import_module("distributed")
    limit = _ANSWER_SECONDS
    made: SimpleQueue[Any] = SimpleQueue()
    late = threading.Event()

    def make() -> None:
        try:
            client = distributed.Client(**where, timeout=limit, set_as_default=False)
            made.put(client)
            if late.is_set():
                _close(client)
        except Exception as error:  # for what is no scheduler, Dask raises anything
            made.put(error)

    threading.Thread(target=make, daemon=True).start()
    try:
        client = made.get(timeout=limit)
    except Empty:
        client = TimeoutError()
        late.set()
    if isinstance(client, OSError):  # a TimeoutError too
        raise _no_scheduler(address, f"no scheduler answers there within {limit:g} s")
    if isinstance(client, ValueError):
        raise _no_scheduler(address, "that is no address")
    if isinstance(client, Exception):
        if address.startswith("tls:"):  # the settings of TLS
            raise _no_scheduler(address, f"no connection ({in_words(client)})")
        version = distributed.__version__
        raise _no_scheduler(
            address, f"no scheduler, or one whose Dask does not fit the one here ({version})"
        )
    return client


def _no_scheduler(address: str, why: str) -> KpnError:
    return KpnError(
        f"--dask {address or repr(address)}: {why}; give the address that the scheduler prints, "
        "such as tcp://host:8786, its scheduler file, or local"
    )


def _silence() -> None:
    """Hide the messages of Dask, which are for those who look after a cluster; kpn has its own."""
    for name in list(logging.Logger.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "asyncio", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # it logs tracebacks so too
    # A table of versions, in several lines; those that matter to kpn are checked by `task`.
    versions = import_module("distributed.versions")
    warnings.filterwarnings("ignore", category=versions.VersionMismatchWarning)


def _close(client: Any) -> None:
    with suppress(Exception):
        client.close(timeout=1)
