"""A piece of work on a worker of a Dask cluster: how it gets there, and what it may answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import __version__
from .shared import FOLDER_SECONDS

#: What a task runs. It is text, because a worker that cannot import kpn ends when it is sent a
#: function of kpn: Dask unpacks a task outside of what catches its errors. And a function that is
#: sent whole needs the same Python on both sides. So do answers: Dask gets them as bytes, because
#: it never ends to ask for one that it cannot unpack. A worker that is not fit takes its time
#: before it says so: one that answers at once would be given all other work too.
_SOURCE = """
import sys
fault, answer = "", None
python_there = "{}.{}".format(*sys.version_info)
try:
    from kpn_cli import __version__ as there
    if python_there != python:
        fault = f"has Python {python_there}, here is {python}; use the same on both"
    elif there == version:
        from kpn_cli.system.cluster_task import do
        answer = do(work)
    else:
        fault = f"has kpn {there}, here is {version}; install the same on both"
except ImportError as error:
    fault = f"lacks kpn, or what kpn needs ({error}); install the same kpn on both"
from distributed import get_worker
if fault:
    from time import sleep
    sleep(pause)
answer = get_worker().address, fault, answer
"""


@dataclass(frozen=True)
class Unfit:
    """The answer of a worker that cannot do the work, which another worker shall do.

    Attributes:
        reason: why not, and what to do, for the user.
    """

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


# --- on the client ----------------------------------------------------------------------


class Answered(NamedTuple):
    """The answer of a task.

    Attributes:
        worker: its address.
        fault: why the worker cannot do any work, for the user; "" if it can.
        answer: of the work.
    """

    worker: str
    fault: str
    answer: Any


def task(work: Callable[..., object], *args: object) -> tuple[Any, ...]:
    """Return what to submit to Dask so that a worker calls `work(*args)`.

    Returns:
        The function and its arguments; its result is for `answered`.
    """
    import cloudpickle  # Dask needs it too

    scope = {"work": cloudpickle.dumps((work, args)), "version": __version__}
    scope |= {"python": "{}.{}".format(*sys.version_info), "pause": FOLDER_SECONDS}
    return eval, "exec(source, scope) or scope['answer']", {"source": _SOURCE, "scope": scope}


def answered(result: Any) -> Answered:
    """Return the answer of a worker, from the result of a task.

    Raises:
        Exception: of any kind, if it cannot be unpacked here.
    """
    import cloudpickle

    worker, fault, packed = result
    answer = None if packed is None else cloudpickle.loads(packed)
    if isinstance(answer, Unfit):
        fault = answer.reason
    return Answered(worker, fault, answer)


# --- on a worker ------------------------------------------------------------------------

#: Runs whose remaining work is not wanted any more.
_stopped: set[str] = set()


def do(work: bytes) -> bytes:
    """Do a piece of work that `task` has packed; return what it answers, packed for `answered`."""
    import cloudpickle

    function, args = cloudpickle.loads(work)
    packed: bytes = cloudpickle.dumps(function(*args))
    return packed


def worker_threads() -> int:
    """Return how many threads the worker that calls this was started with: its share of cores."""
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def is_stopped(run: str) -> bool:
    """Whether the remaining work of a run is not wanted any more."""
    return run in _stopped


def stop(run: str) -> None:
    """Let this worker begin no more work of a run."""
    _stopped.add(run)


def dask_setup(worker: object) -> None:
    """Let Ctrl-C, which a terminal sends to all processes, not end this worker.

    Dask calls this in the workers that kpn starts (`preload`).
    """
    import signal

    with suppress(ValueError):  # not the main thread: it gets no signals
        signal.signal(signal.SIGINT, signal.SIG_IGN)
