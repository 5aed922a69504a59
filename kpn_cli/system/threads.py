"""Work in threads: how many cores kpn may use, and a map whose parts run on one core each.

PyTorch shares each operation among its threads, which then wait for each other. Where operations
are small, or other programs use the cores, the waiting takes longer than the work. So where there
are several equal pieces of work, such as frames, each piece gets one thread and its operations one
core: there is one wait for each piece instead of thousands. And a sum is then the same, whatever
the number of threads.

PyTorch is imported when it is needed: what only reads files must not wait for it.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import islice
from typing import TypeVar

from .control_groups import control_groups

T = TypeVar("T")
R = TypeVar("R")

#: Threads that the user allows.
_allowed = sys.maxsize
#: Where libraries look for the number of their threads: OpenMP (PyTorch, LibRaw), the libraries for
#: linear algebra, OpenCV, tifffile.
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "OPENCV_FOR_THREADS_NUM", "TIFFFILE_NUM_THREADS"),
)


def usable_cores() -> int:
    """Return how many cores this process may use, at least 1.

    Those that it is bound to (`taskset`), or fewer where a control group limits its time
    (containers, batch systems). https://docs.kernel.org/admin-guide/cgroup-v2.html
    Never more than the user allows (`limit_threads`).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for folder in control_groups():
        try:
            quota, period = (folder / "cpu.max").read_text("ascii").split()
            if quota != "max":
                cores = min(cores, math.ceil(int(quota) / int(period)))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return max(min(cores, _allowed), 1)


def limit_threads(number: int) -> None:
    """Let this process use no more threads for a piece of work, from now on.

    Libraries that are loaded later read the limit from the environment, and so do child processes;
    those that are loaded already are told. PyTorch is told again in each thread that uses it, by
    `limit_torch`. Reading the next burst and writing the last one stay threads of their own.

    Args:
        number: of threads, at least 1.
    """
    global _allowed
    _allowed = number
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(number)
    if "numpy" in sys.modules:
        import threadpoolctl

        threadpoolctl.threadpool_limits(number)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(number)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(usable_cores())


def limit_torch() -> None:
    """Let PyTorch use no more threads than there are usable cores.

    It knows the cores that a process is bound to, but not the limit of a control group: with 64
    threads for the time of two cores, the threads that wait take the time of those that work.
    """
    import torch

    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def map_in_threads(
    work: Callable[[T], R], items: Iterable[T], *, on_cpu: bool = True
) -> Iterator[R]:
    """Yield `work(item)` of items in order; in as many threads as PyTorch uses, one core each.

    Args:
        work: may use PyTorch, NumPy and OpenCV; what it changes must not be shared.
        items: pieces of work.
        on_cpu: whether the work is done by the CPU; a GPU takes one piece at a time.

    Raises:
        Exception: the first error of `work`, in the order of the items.
    """
    import torch

    pieces = list(items)
    threads = min(torch.get_num_threads(), len(pieces)) if on_cpu else 1
    if threads <= 1:
        yield from map(work, pieces)
        return
    pool = one_core_threads(torch.get_num_threads())
    begun = [pool.submit(work, piece) for piece in pieces]
    try:
        for done in begun:
            yield done.result()
    finally:  # after an error or Ctrl-C, nothing works any more
        for done in begun:
            done.cancel()
        wait(begun)


def work_ahead(
    work: Callable[[T], R], items: Iterable[T], threads: int
) -> Generator[Future[R], None, None]:
    """Yield the futures of `work(item)` in the order of the items, begun ahead of their use.

    Without PyTorch, for what reads files. Close the generator if it is not used up: then no more
    work begins, and it waits for what has begun.

    Args:
        work: is called in other threads.
        items: taken as work begins.
        threads: how many pieces of work are begun and not yet taken, at most.
    """
    left = iter(items)
    pool = ThreadPoolExecutor(threads, "ahead")
    try:
        begun = deque(pool.submit(work, item) for item in islice(left, threads))
        while begun:
            yield begun.popleft()
            begun.extend(pool.submit(work, item) for item in islice(left, 1))
    finally:
        pool.shutdown(cancel_futures=True)


@cache
def one_core_threads(number: int) -> ThreadPoolExecutor:
    """Return threads on each of which PyTorch's operations run on that thread alone.

    They stay for the next call with the same number. Never shut them down.
    """
    import torch

    ready = threading.Barrier(number + 1)

    def settle() -> None:
        torch.get_num_threads()  # torch sets up a thread at its first call, and would do so later
        # For this thread, and for all that torch has not met before; hence the step after it.
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(number, "kpn")
    try:
        for _ in range(number):
            pool.submit(settle)
        ready.wait()
    except BaseException:  # Ctrl-C, or the system starts no more threads
        ready.abort()  # or the others would wait for ever
        pool.shutdown()
        raise
    finally:
        torch.set_num_threads(number)
    return pool


if hasattr(os, "register_at_fork"):  # a child has none of the threads
    os.register_at_fork(after_in_child=one_core_threads.cache_clear)
