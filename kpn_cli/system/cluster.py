"""Pieces of work on the workers of a Dask cluster: the user's own, or one on this machine.

Dask (`distributed`, an optional dependency) shares the work out, and gives a dead worker's work to
another. This module adds what Dask leaves to its users: few pieces are handed in at a time, workers
that cannot do the work are named, Ctrl-C lets go what runs, and a piece that kills workers ends.
https://distributed.dask.org
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, TypeVar

from .. import __version__
from ..errors import KpnError
from .memory import free_memory
from .threads import usable_cores

T = TypeVar("T")

#: The address that stands for a cluster on this machine.
LOCAL = "local"
#: Seconds in which a scheduler must answer, also after it was restarted.
_ANSWER_SECONDS = 10
#: Seconds in which a worker must have looked at what it needs; a cold network disk is slow.
_CHECK_SECONDS = 300
#: Seconds without a worker that can do the work, after which the run ends.
PATIENCE = 600.0
#: Seconds between looks at the workers.
_LOOK_SECONDS = 2.0
#: Seconds for which other workers are preferred to one that was unfit: it may recover.
_UNFIT_SECONDS = 60.0
#: Pieces of work that are handed in: for each thread of the cluster, and at least. More than there
#: are threads, so that no worker waits, and that a cluster that grows by demand sees the demand.
_PER_THREAD, _AT_LEAST = 2, 16
#: Workers that may die at a piece of work, on a cluster of this machine; elsewhere Dask's setting.
_ALLOWED_DEATHS = 1
#: How often Dask repeats what fails by an error of Dask or of Python.
_RETRIES = 2
#: How often a piece of work is repeated that says that another try may succeed.
_TRIES_AGAIN = 1
#: Memory for a worker on this machine: two bursts of 24 megapixels (docs/scale.md).
_WORKER_BYTES = 4 << 30


@dataclass(frozen=True)
class Unfit:
    """The answer of a worker that cannot do the work, which another worker shall do.

    Attributes:
        worker: its address.
        reason: why not, and what to do, for the user.
    """

    worker: str
    reason: str


@dataclass(frozen=True)
class Again:
    """The answer to a piece of work that failed, and may succeed at another try.

    Attributes:
        answer: what to take if it fails as often as it may.
    """

    answer: object


@dataclass(frozen=True)
class Lost:
    """What became of a piece of work that no worker finished.

    Attributes:
        reason: for the user.
    """

    reason: str


# --- on a worker ----------------------------------------------------------------------


#: Runs whose remaining work is not wanted any more.
_stopped: set[str] = set()


def version_here() -> str:
    """Return the version of kpn."""
    return __version__


def worker_address() -> str:
    """Return the address of the worker that calls this."""
    from distributed import get_worker

    return str(get_worker().address)


def worker_threads() -> int:
    """Return how many threads the worker that calls this was started with: its share of cores."""
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def is_stopped(run: str) -> bool:
    """Whether the remaining work of a run is not wanted any more."""
    return run in _stopped


def _stop(run: str) -> None:
    _stopped.add(run)


def _keep_at_ctrl_c() -> None:
    """Let Ctrl-C, which a terminal sends to all processes, not end this worker."""
    with suppress(ValueError):  # not the main thread: it gets no signals
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def dask_setup(worker: object) -> None:
    """Prepare a worker of a cluster on this machine; Dask calls this (`preload`)."""
    _keep_at_ctrl_c()


# --- on the client --------------------------------------------------------------------


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


class Cluster:
    """A connection to a Dask cluster; make it by `connect`.

    Attributes:
        threads: of each worker for a piece of work; None for as many as Dask gave it.
        run: name of this run, for the workers.
    """

    def __init__(self, client: Any, address: str, threads: int | None, patience: float) -> None:
        """Take a client of `distributed`, what the user calls the cluster, and the settings."""
        self._client, self._address, self._patience = client, address, patience
        self.threads = threads
        self.run = secrets.token_hex(8)

    def workers(self) -> dict[str, int]:
        """Return the address of each worker and its number of threads.

        Raises:
            KpnError: if the scheduler is gone.
        """
        try:
            if self._client.status == "running":
                return dict(self._client.nthreads())
        except (OSError, TimeoutError):  # it goes just now
            pass
        self._wait_for_scheduler()
        return {}

    def check_versions(self, tell: Callable[[str], None]) -> None:
        """Wait for a worker, and check that all workers have this version of kpn.

        Args:
            tell: called with a line for the user, if there is no worker yet.

        Raises:
            KpnError: if one has another version or none, or no worker comes.
        """
        if not self.workers():
            tell(f"--dask {self._address}: no workers yet; waiting for the first")
            # A cluster that grows by demand starts a worker for work only.
            probe = self._client.submit(version_here, pure=False)
            begun = time.monotonic()
            while not self.workers():
                if time.monotonic() - begun > self._patience:
                    raise self._no_workers()
                time.sleep(min(0.5, self._patience))
            probe.cancel()
        for worker, answer in self._client.run(version_here, on_error="return").items():
            fault = _version_fault(answer)
            if fault:
                raise KpnError(f"--dask: worker {worker} {fault}")

    def ask_all(self, work: Callable[..., T], *args: object) -> dict[str, T]:
        """Return the answer of each present worker to a question, by its address.

        Raises:
            KpnError: if one does not answer, or fails.
        """
        asked = {
            worker: self._client.submit(
                work, *args, workers=[worker], allow_other_workers=False, pure=False
            )
            for worker in self.workers()
        }
        until = time.monotonic() + _CHECK_SECONDS
        answers: dict[str, T] = {}
        for worker, future in asked.items():
            while worker not in answers:
                try:
                    answers[worker] = future.result(timeout=_LOOK_SECONDS)
                except Exception as error:
                    if worker not in self.workers():  # gone meanwhile
                        break
                    if not isinstance(error, TimeoutError):
                        fault = f"fails: {_in_words(error)}"
                    elif time.monotonic() < until:
                        continue
                    else:
                        fault = f"has not answered for {_CHECK_SECONDS} s; is it busy?"
                    raise KpnError(f"--dask: worker {worker} {fault}") from None
        if not answers:
            raise self._no_workers()
        return answers

    def work_on(
        self,
        work: Callable[..., object],
        items: Sequence[T],
        *args: object,
        tell: Callable[[str], None] = lambda line: None,
        on_look: Callable[[int, int], None] = lambda workers, left: None,
    ) -> Generator[tuple[T, Any], None, None]:
        """Do pieces of work on any workers, in no order.

        At the first Ctrl-C, nothing more is handed in, and what waits is dropped; what runs ends.
        At the second, this ends at once.

        Args:
            work: called on a worker with an item and `args`. It may answer `Unfit` or `Again`, and
                answers None if `is_stopped`.
            items: of the work.
            args: for each call.
            tell: called with lines for the user: workers that are lost or unfit.
            on_look: called every few seconds with the number of workers and of items left.

        Yields:
            An item and the answer, or `Lost`.

        Raises:
            KpnError: if the scheduler is gone, or no worker can do the work for long.
            KeyboardInterrupt: after Ctrl-C.
        """
        batch = _Batch(self, work, items, args, tell, on_look)
        with _count_interrupts() as interrupts:
            yield from batch.results(interrupts)
        if interrupts:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Let the workers begin no more work of this run."""
        self.call_all(_stop, self.run)

    def call_all(self, function: Callable[..., object], *args: object) -> None:
        """Call a quick function on all workers that there are, whatever they do just now."""
        with suppress(Exception):  # a worker or the scheduler is gone
            if self._client.status == "running":
                self._client.run(function, *args, on_error="ignore")

    def _wait_for_scheduler(self) -> None:
        """Wait until the client has connected again.

        Raises:
            KpnError: if it gives up.
        """
        until = time.monotonic() + 2 * _ANSWER_SECONDS
        while self._client.status != "running":
            if self._client.status in ("closed", "closing") or time.monotonic() > until:
                raise KpnError(
                    f"--dask {self._address}: the scheduler is gone; what is finished stays. Start "
                    "the cluster again, then run the same command again"
                )
            time.sleep(0.1)

    def _no_workers(self) -> KpnError:
        return KpnError(
            f"--dask {self._address}: no workers for {self._patience:g} s; start some, then run "
            "the same command again"
        )


class _Batch:
    """The state of `Cluster.work_on`."""

    def __init__(
        self,
        cluster: Cluster,
        work: Callable[..., object],
        items: Sequence[Any],
        args: tuple[object, ...],
        tell: Callable[[str], None],
        on_look: Callable[[int, int], None],
    ) -> None:
        self._cluster, self._client = cluster, cluster._client
        self._work, self._items, self._args = work, items, args
        self._tell, self._on_look = tell, on_look
        self._waiting = deque(range(len(items)))
        #: Items at which workers died: others may be to blame, so each is tried alone at the end.
        self._suspects: list[int] = []
        self._alone = False
        self._tries: dict[int, int] = {}
        self._begun: dict[Any, int] = {}
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._workers: dict[str, int] = {}
        self._unfit: dict[str, float] = {}  # worker -> when it said so
        self._looked = 0.0
        self._trouble: tuple[float, str] | None = None  # since when, and which

    def results(self, interrupts: list[int]) -> Iterator[tuple[Any, Any]]:
        """Yield each item with its answer; see `Cluster.work_on`."""
        stopped = False
        try:
            while True:
                if interrupts and not stopped:
                    stopped = True
                    self._waiting.clear()
                    self._suspects.clear()
                    self._tell("interrupted; waiting for the bursts that are begun. Ctrl-C again "
                               "ends at once")  # fmt: skip
                    self._cluster.stop()
                if len(interrupts) > 1:
                    return
                self._look()
                self._hand_in()
                if not self._begun:
                    return
                with suppress(Empty):
                    future = self._done.get(timeout=0.2)
                    number = self._begun.pop(future, None)
                    if number is not None:
                        answer = self._answer(future, number, stopped)
                        if answer is not None:
                            yield self._items[number], answer
        finally:
            if self._begun:  # given up: what waits on the cluster is of no use to anybody
                self._cluster.stop()
                with suppress(Exception):
                    self._client.cancel(list(self._begun))

    def _hand_in(self) -> None:
        """Hand in as much work as is useful; suspects one by one, when all else is done."""
        if not self._waiting and not self._begun and self._suspects:
            self._alone = True
            self._waiting.append(self._suspects.pop())
        limit = 1 if self._alone else max(_PER_THREAD * sum(self._workers.values()), _AT_LEAST)
        while self._waiting and len(self._begun) < limit:
            number = self._waiting.popleft()
            try:
                future = self._client.submit(
                    self._work,
                    self._items[number],
                    *self._args,
                    key=f"kpn-{self._cluster.run}-{number}-{secrets.token_hex(4)}",
                    pure=False,
                    retries=_RETRIES,
                    **self._preference(),
                )
            except (OSError, TimeoutError, RuntimeError, ValueError):  # not connected
                self._waiting.appendleft(number)
                self._cluster._wait_for_scheduler()
                return
            self._begun[future] = number
            future.add_done_callback(self._done.put)

    def _preference(self) -> dict[str, Any]:
        """Return arguments by which Dask prefers the workers that are not known as unfit."""
        now = time.monotonic()
        fit = [w for w in self._workers if now - self._unfit.get(w, -math.inf) > _UNFIT_SECONDS]
        if not fit or len(fit) == len(self._workers):
            return {}
        return {"workers": fit, "allow_other_workers": True}

    def _answer(self, future: Any, number: int, stopped: bool) -> object:
        """Return the answer to a piece of work; None if it is to be repeated, or not wanted."""
        if future.status == "finished":
            try:
                return self._judge(future.result(), number, stopped)
            except Exception:  # the worker that had the answer died
                answer: object = None
        elif future.status == "error":
            answer = self._failed(future.exception(), number)
        else:  # the scheduler has forgotten it: it was restarted
            answer = None
            self._cluster._wait_for_scheduler()
        if answer is None and not stopped and number not in self._suspects:
            self._waiting.append(number)
        return answer

    def _judge(self, answer: object, number: int, stopped: bool) -> object:
        if isinstance(answer, Unfit):
            self._has_trouble(answer.reason)
            told = answer.worker in self._unfit
            self._unfit[answer.worker] = time.monotonic()
            if not told:
                self._tell(f"worker {answer.worker} {answer.reason}; others do its work")
            if not stopped:
                self._waiting.append(number)
            return None
        if isinstance(answer, Again):
            self._tries[number] = self._tries.get(number, 0) + 1
            if stopped or self._tries[number] > _TRIES_AGAIN:
                return answer.answer
            self._waiting.append(number)
            return None
        if answer is None and not stopped:  # stopped there, but not here
            self._waiting.append(number)
        if answer is not None:
            self._trouble = None
        return answer

    def _failed(self, error: BaseException | None, number: int) -> object:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            if self._alone:
                return Lost(
                    "each worker that began it was killed, perhaps for lack of memory; give "
                    "workers more memory, or smaller --tile"
                )
            self._suspects.append(number)
            return None
        if isinstance(error, (ImportError, AttributeError)):
            self._has_trouble(f"lacks what the work needs: {_in_words(error)}")
            self._tries[number] = self._tries.get(number, 0) + 1
            if self._tries[number] <= _TRIES_AGAIN:
                return None
        return Lost(f"a worker failed ({_in_words(error)}); please report this")

    def _has_trouble(self, reason: str) -> None:
        since = self._trouble[0] if self._trouble else time.monotonic()
        self._trouble = since, reason

    def _look(self) -> None:
        """Look every few seconds which workers there are.

        Raises:
            KpnError: if there is none that can do the work, for too long.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        now = self._cluster.workers()
        self._looked = time.monotonic()
        for worker in self._workers.keys() - now.keys():
            self._tell(f"worker {worker} has gone; others do its work")
        self._workers = now
        self._on_look(len(now), len(self._waiting) + len(self._begun) + len(self._suspects))
        if not now:
            self._has_trouble("")
        elif self._trouble and not self._trouble[1]:
            self._trouble = None
        if self._trouble and time.monotonic() - self._trouble[0] > self._cluster._patience:
            reason = self._trouble[1]
            raise (
                KpnError(f"--dask: no worker can do the work: a worker {reason}")
                if reason
                else self._cluster._no_workers()
            )


@contextmanager
def connect(
    address: str,
    threads: int | None = None,
    *,
    one_worker: bool = False,
    patience: float = PATIENCE,
) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the block lasts.

    Args:
        address: of a scheduler ("tcp://host:8786"), the path of its scheduler file, or "local" to
            start workers on this machine, which end with the block.
        threads: of each worker for a piece of work; None for its share.
        one_worker: whether to start no more than one on this machine, for its GPU.
        patience: seconds to wait for a worker that can do the work.

    Raises:
        KpnError: if Dask is not installed, or the scheduler does not answer.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise KpnError("--dask: Dask is not installed; pip install 'kpn[dask]'") from None
    _silence()
    with ExitStack() as stack:
        where: dict[str, Any] = {"address": address}
        if address == LOCAL:
            size = local_size(threads, usable_cores(), free_memory())
            if one_worker:
                size = LocalSize(1, threads or usable_cores())
            threads = size.threads
            where = {"address": stack.enter_context(_local_cluster(size))}
        elif address.endswith(".json"):
            if not os.path.isfile(address):
                raise KpnError(f"--dask {address}: no such scheduler file; start the scheduler")
            where = {"scheduler_file": address}
        try:
            client = distributed.Client(**where, timeout=_ANSWER_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError, TimeoutError, ImportError) as error:
            raise KpnError(
                f"--dask {address}: no scheduler answers there ({_in_words(error)}); give the "
                "address that it prints, such as tcp://host:8786, or local"
            ) from None
        stack.callback(_close, client)
        yield Cluster(client, address, threads, patience)


def _silence() -> None:
    """Hide the messages of Dask, which are for those who look after a cluster; kpn has its own."""
    for name in list(logging.Logger.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _close(client: Any) -> None:
    with suppress(Exception):
        client.close(timeout=1)


@contextmanager
def _local_cluster(size: LocalSize) -> Iterator[Any]:
    """Start workers on this machine.

    A worker reads one burst while it denoises another, unless it has a single core.
    """
    dask: Any = import_module("dask")
    distributed: Any = import_module("distributed")
    settings = {
        "distributed.scheduler.allowed-failures": _ALLOWED_DEATHS,
        "distributed.worker.daemon": True,
    }
    with dask.config.set(settings):
        try:
            cluster = distributed.LocalCluster(
                n_workers=size.workers,
                threads_per_worker=1 if size.threads == 1 else 2,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                memory_limit=0,  # kpn keeps freed memory, which Dask would take for a leak
                preload=[__name__],
                env={"DASK_LOGGING__DISTRIBUTED": "critical"},
            )
        except (OSError, RuntimeError, TimeoutError) as error:
            raise KpnError(
                f"--dask local: no workers can be started ({_in_words(error)})"
            ) from None
        try:
            yield cluster
        finally:
            with suppress(Exception):
                cluster.close(timeout=1)


@contextmanager
def _count_interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C in the list that is yielded; the third raises `KeyboardInterrupt`."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield caught  # other threads get no signals
        return
    before = signal.signal(signal.SIGINT, catch)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)


def _version_fault(answer: object) -> str:
    """Return what is wrong with a worker by its answer to `version_here`; "" for nothing."""
    if answer == __version__:
        return ""
    if isinstance(answer, str):
        return f"has kpn {answer}, here is {__version__}; install the same on both"
    return f"has no kpn, or an older one than here ({__version__}); install the same on both"


def _in_words(error: object) -> str:
    text = " ".join(str(error).split())[:300]
    name = type(error).__name__
    return f"{name}: {text}" if text else name
