"""Faster start and exit of the commands that use PyTorch, and fewer waits inside it."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


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

    What needs it waits for it; the program does not end before it is imported. Imports of the main
    thread meanwhile belong into `interrupt_afterwards`.
    """
    wait_without_spinning()

    def work() -> None:
        # A PyTorch that cannot be imported is reported by what needs it.
        with suppress(Exception), no_gc_imports():
            import torch  # noqa: F401

    threading.Thread(target=work, name="import torch").start()


def wait_without_spinning() -> None:
    """Let the threads of OpenMP sleep while they wait, unless the user has set it otherwise.

    They would use up the core of the thread that they wait for, if another program has theirs:
    then a tiny burst takes ten times as long. To be called before PyTorch is imported.
    OpenMP 5.0, section 6.7.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
