"""Ctrl-C at a place where Python does not survive it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_afterwards() -> Iterator[None]:
    """Hold back Ctrl-C until the block ends; then raise `KeyboardInterrupt`.

    For imports while another thread imports too: an interrupt between two steps of an import may
    leave Python's import lock locked, and the other thread would wait for ever.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # other threads get no signals; and other handlers are the program's own affair
        return
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if caught:
        raise KeyboardInterrupt
