"""Many pieces of work on a Dask cluster: each is done once, whatever happens to the workers."""

from __future__ import annotations

import math
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..errors import KpnError
from .cluster_task import Again, Lost, answered

if TYPE_CHECKING:
    from .cluster import Cluster

#: Seconds between looks at the workers.
_LOOK_SECONDS = 2.0
#: Seconds for which other workers are preferred to one that was unfit: it may recover.
_UNFIT_SECONDS = 60.0
#: Seconds in which an answer must arrive once a worker has it.
_FETCH_SECONDS = 60.0
#: Pieces of work that are handed in: for each thread of the cluster, and at least. More than there
#: are threads, so that no worker waits, and that a cluster that grows by demand sees the demand.
_PER_THREAD, _AT_LEAST = 2, 16
#: How often Dask repeats what fails by an error of Dask or of Python.
_RETRIES = 2
#: How often a piece of work is repeated that says that another try may succeed.
_TRIES_AGAIN = 1
#: How often a piece is done whose answer does not arrive, or cannot be unpacked.
_TRIES_UNREAD = 5
#: Workers that a kind of line names one by one; after them, each twice as many are a line.
_NAMED = 5


class Batch:
    """The state of `Cluster.work_on`."""

    def __init__(
        self,
        cluster: Cluster,
        pack: Callable[[Any], tuple[Any, ...]],
        items: Sequence[Any],
        tell: Callable[[str], None],
        on_look: Callable[[int, int], None],
    ) -> None:
        """Take the arguments of `Cluster.work_on`; `pack` makes a task of an item."""
        self._cluster, self._client = cluster, cluster.client
        self._pack, self._items = pack, items
        self._tell, self._on_look = tell, on_look
        self._waiting = deque(range(len(items)))
        #: Items at which workers died: others may be to blame, so each is tried alone at the end.
        self._suspects: list[int] = []
        self._alone = False
        self._tries: dict[int, int] = {}
        self._unread: dict[int, int] = {}
        self._begun: dict[Any, int] = {}
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._stopped = False
        self._workers: dict[str, int] = {}
        self._unfit: dict[str, float] = {}  # worker -> when it last said so
        self._fault = ""  # that the last one told
        self._looked = -math.inf
        self._idle_since: float | None = None
        self._gone = 0  # workers so far
        self._told_none = False  # that no worker is left

    def results(self, interrupts: list[int]) -> Iterator[tuple[Any, Any]]:
        """Yield each item with its answer; see `Cluster.work_on`.

        Args:
            interrupts: grows with each Ctrl-C.
        """
        try:
            while self._waiting or self._suspects or self._begun:
                if interrupts and not self._stopped:
                    self._stop()
                self._look()
                self._hand_in()
                with suppress(Empty):
                    future = self._done.get(timeout=0.2)
                    number = self._begun.pop(future, None)
                    if number is not None:
                        answer = self._answer(future, number)
                        if answer is not None:
                            yield self._items[number], answer
        finally:
            if self._begun:  # given up: what waits on the cluster is of no use to anybody
                self._cluster.stop()
                with suppress(Exception):
                    self._client.cancel(list(self._begun))

    def _stop(self) -> None:
        self._stopped = True
        self._waiting.clear()
        self._suspects.clear()
        self._tell("interrupted; waiting for the work that is begun. Ctrl-C again ends at once")
        self._cluster.stop()

    def _hand_in(self) -> None:
        """Hand in as much work as is useful; suspects one by one, when all else is done."""
        if not self._waiting and not self._begun and self._suspects:
            self._alone = True
            self._waiting.append(self._suspects.pop())
        limit = 1 if self._alone else max(_PER_THREAD * sum(self._workers.values()), _AT_LEAST)
        while self._waiting and len(self._begun) < limit:
            number = self._waiting[0]
            task = self._pack(self._items[number])
            try:
                future = self._client.submit(
                    *task,
                    key=f"kpn-{self._cluster.run}-{number}-{secrets.token_hex(4)}",
                    pure=False,
                    retries=_RETRIES,
                    **self._preference(),
                )
            except Exception:  # not connected; Dask's error for that differs by its version
                self._cluster.wait_for_scheduler()
                return
            self._waiting.popleft()
            self._begun[future] = number
            future.add_done_callback(self._done.put)

    def _preference(self) -> dict[str, Any]:
        """Return arguments by which Dask prefers the workers that are not known as unfit."""
        fit = self._fit()
        if not fit or len(fit) == len(self._workers):
            return {}
        return {"workers": fit, "allow_other_workers": True}

    def _fit(self) -> list[str]:
        since = time.monotonic() - _UNFIT_SECONDS
        return [worker for worker in self._workers if self._unfit.get(worker, -math.inf) < since]

    def _answer(self, future: Any, number: int) -> object:
        """Return the final answer to a piece of work; None if there is none (yet)."""
        if future.status == "error":
            return self._failed(future.exception(), number)
        try:
            worker, fault, answer = answered(future.result(timeout=_FETCH_SECONDS))
        except Exception as error:  # its worker died, the scheduler was restarted, or anything
            self._cluster.wait_for_scheduler()
            self._unread[number] = self._unread.get(number, 0) + 1
            if self._unread[number] < _TRIES_UNREAD or self._stopped:
                return self._repeat(number)
            return Lost(
                f"no answer of a worker can be read here ({in_words(error)}); install the same "
                "Python and packages on both"
            )
        if fault:
            self._is_unfit(worker, fault)
            return self._repeat(number)
        self._unfit.pop(worker, None)
        self._goes_on(worker)
        if isinstance(answer, Again):
            self._tries[number] = self._tries.get(number, 0) + 1
            if self._stopped or self._tries[number] > _TRIES_AGAIN:
                return answer.answer
            return self._repeat(number)
        return self._repeat(number) if answer is None else answer

    def _repeat(self, number: int) -> object:
        """Do a piece again, unless the run is stopped; return the answer until then: None."""
        if not self._stopped:
            self._waiting.append(number)
        return None

    def _is_unfit(self, worker: str, fault: str) -> None:
        is_new = worker not in self._unfit
        self._unfit[worker], self._fault = time.monotonic(), fault
        if not is_new:
            return
        line = f"worker {worker} {fault}; {self._who_goes_on()}"
        if len(self._unfit) <= _NAMED:
            self._tell(line)
        elif _is_round(len(self._unfit)):
            self._tell(f"{len(self._unfit)} workers were unfit so far, the last one: {line}")

    def _who_goes_on(self) -> str:
        """Return who does the work of a worker that is lost; remember if nobody does."""
        if self._fit():
            return "others do its work"
        self._told_none = True
        return f"no other worker is left; waiting up to {self._cluster.patience:g} s for one"

    def _tell_of_changes(self, before: Collection[str]) -> None:
        """Tell which workers have gone, and that work goes on: in few lines, however many."""
        gone = [worker for worker in before if worker not in self._workers]
        for worker in gone:
            self._gone += 1
            if self._gone <= _NAMED:
                self._tell(f"worker {worker} has gone; {self._who_goes_on()}")
            elif _is_round(self._gone) or (not self._fit() and not self._told_none):
                self._tell(f"{self._gone} workers have gone so far; {self._who_goes_on()}")
        for worker in self._workers:
            if worker not in self._unfit:
                self._goes_on(worker)

    def _goes_on(self, worker: str) -> None:
        """Tell that a worker does the work, after none was left."""
        if self._told_none:
            self._told_none = False
            self._tell(f"worker {worker} is there; the work goes on")

    def _failed(self, error: BaseException | None, number: int) -> object:
        from distributed import KilledWorker

        if not isinstance(error, KilledWorker):
            return Lost(f"a worker failed ({in_words(error)}); please report this")
        if self._alone:
            return Lost(
                "each worker that began it was killed, perhaps for lack of memory; give workers "
                "more memory, or smaller --tile"
            )
        if not self._stopped:
            self._suspects.append(number)
        return None

    def _look(self) -> None:
        """Look every few seconds which workers there are.

        Raises:
            KpnError: if there is none that can do the work, for too long.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        now = self._cluster.workers()
        self._looked = time.monotonic()
        if self._stopped and now.keys() - self._workers.keys():
            self._cluster.stop()  # new ones do not know
        before, self._workers = self._workers, now
        self._tell_of_changes(before)
        self._on_look(len(now), len(self._waiting) + len(self._begun) + len(self._suspects))
        if self._fit():
            self._idle_since = None
            return
        self._idle_since = self._idle_since or self._looked
        if self._looked - self._idle_since > self._cluster.patience:
            if now:
                raise KpnError(f"--dask: no worker can do the work: a worker {self._fault}")
            raise self._cluster.no_workers()


def _is_round(count: int) -> bool:
    """Whether a count is `_NAMED` times a power of two."""
    factor, rest = divmod(count, _NAMED)
    return rest == 0 and factor & (factor - 1) == 0


@contextmanager
def count_interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C in the list that is yielded; the second raises `KeyboardInterrupt`."""
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


def in_words(error: object) -> str:
    """Return an error of Dask or of Python in a line."""
    text = " ".join(str(error).split())[:300]
    name = type(error).__name__
    return f"{name}: {text}" if text else name
