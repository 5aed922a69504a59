"""Work on a picture in bands of rows, each of which stays in the cache of one core.

torch splits every operation between its threads, and they wait for each other after each. For
bands that fit into a cache the operations are too short for that, and whatever else the machine
does makes all threads wait. So each thread takes whole bands instead, one after the other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import NamedTuple, TypeVar

import torch

_Item = TypeVar("_Item")


class Band(NamedTuple):
    """Some rows of a picture, and the rows around them that they depend on.

    Attributes:
        rows: the rows.
        around: the rows and those up to `reach` rows away, as far as there are any.
        inner: the rows, counted from the first row of `around`.
    """

    rows: slice
    around: slice
    inner: slice


def bands(height: int, step: int, reach: int = 0) -> list[Band]:
    """Cut rows 0 to height - 1 into bands.

    Args:
        height: rows of the picture.
        step: rows of a band, at least 1; the last one may have fewer.
        reach: how far from a row its result depends on others, in rows.
    """
    result = []
    for top in range(0, height, step):
        end = min(top + step, height)
        first = max(top - reach, 0)
        around = slice(first, min(end + reach, height))
        result.append(Band(slice(top, end), around, slice(top - first, end - first)))
    return result


def for_each(
    start: Callable[[], Callable[[_Item], object]], items: Sequence[_Item], device: torch.device
) -> None:
    """Do independent work on as many threads as torch uses, none of it under autograd.

    When it returns, also by an error, no thread works any more.

    Args:
        start: called once on each thread; returns what is called with items there. It may own
            buffers: new memory costs more than a short operation on it.
        items: each is worked on once, in any order.
        device: of the tensors; on others than a CPU, one thread does all of the work.
    """
    threads = min(torch.get_num_threads(), len(items)) if device.type == "cpu" else 1
    inference = torch.is_inference_mode_enabled()
    rest = iter(items)

    def run() -> None:
        with (
            torch.inference_mode(inference),
            torch.no_grad(),
        ):  # in this order: False enables gradients
            work = start()
            try:
                for item in rest:
                    work(item)
            finally:  # after an error, the other threads have nothing left to do
                list(rest)

    if threads <= 1:
        run()
        return
    pool = _pool(torch.get_num_threads())
    begun = [pool.submit(run) for _ in range(threads)]
    try:
        wait(begun)
    finally:  # after Ctrl-C
        list(rest)
        wait(begun)
    for done in begun:
        done.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads on each of which torch's operations run on that thread alone."""
    ready = threading.Barrier(threads + 1)

    def settle() -> None:
        torch.get_num_threads()  # torch sets up a thread at its first call, and would do so later
        # For this thread, and for all that torch has not met before; hence the step after it.
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(threads, "kpn-bands")
    try:
        for _ in range(threads):
            pool.submit(settle)
        ready.wait()
    except BaseException:  # Ctrl-C, or the system starts no more threads
        ready.abort()  # or the others would wait for ever
        pool.shutdown()
        raise
    finally:
        torch.set_num_threads(threads)
    return pool


if hasattr(os, "register_at_fork"):  # a child has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
