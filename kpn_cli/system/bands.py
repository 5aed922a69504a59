"""Work on a picture in bands of rows, each of which stays in the cache of one core.

torch splits every operation between its threads, and they wait for each other after each. For
bands that fit into a cache the operations are too short for that, and whatever else the machine
does makes all threads wait. So each thread takes whole bands instead, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import NamedTuple, TypeVar

import torch

from .threads import one_core_threads

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
        # In this order: without inference mode, gradients would be enabled.
        with torch.inference_mode(inference), torch.no_grad():
            work = start()
            try:
                for item in rest:
                    work(item)
            finally:  # after an error, the other threads have nothing left to do
                list(rest)

    if threads <= 1:
        run()
        return
    pool = one_core_threads(torch.get_num_threads())
    begun = [pool.submit(run) for _ in range(threads)]
    try:
        wait(begun)
    finally:  # after Ctrl-C
        list(rest)
        wait(begun)
    for done in begun:
        done.result()
