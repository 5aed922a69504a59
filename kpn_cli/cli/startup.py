"""Faster start and exit of the commands that use PyTorch, and fewer waits inside it."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def no_gc_imports() -> Iterator[None]:
    """Hide the objects that are created inside the block from the garbage collector.

    Importing PyTorch creates about a million objects that live until the program ends. Scanning
    them repeatedly, and once more on exit, takes a quarter of the time of a tiny burst.
    """
    wait_without_spinning()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_torch_meanwhile() -> None:
    """Import PyTorch in another thread, with `no_gc_imports`.

    What needs it waits for it; the program does not end before it is imported. Ctrl-C is held back
    until then: an interrupt between two steps of an import in the main thread may leave Python's
    import lock locked, and the program would hang.
    """
    wait_without_spinning()
    done = threading.Event()
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if done.is_set():
            signal.default_int_handler(number, frame)
        held.append(number)

    def work() -> None:
        # A PyTorch that cannot be imported is reported by what needs it.
        with suppress(Exception), no_gc_imports():
            import torch  # noqa: F401
        done.set()
        if held:
            _interrupt_main()

    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, hold)
    threading.Thread(target=work, name="import torch").start()


def _interrupt_main() -> None:
    """Send Ctrl-C to the main thread, also if it waits."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def wait_without_spinning() -> None:
    """Let the threads of OpenMP sleep while they wait, unless the user has set it otherwise.

    They would use up the core of the thread that they wait for, if another program has theirs:
    then a tiny burst takes ten times as long. To be called before PyTorch is imported.
    OpenMP 5.0, section 6.7.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def allow_fallback() -> None:
    """Let operations that PyTorch lacks on a Mac's GPU run on the CPU, unless the user forbids it.

    To be called before PyTorch is imported.
    https://docs.pytorch.org/docs/stable/mps_environment_variables.html
    """
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
