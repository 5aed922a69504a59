"""What makes a command begin, and end, sooner."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_gc_imports() -> Iterator[None]:
    """Keep the garbage collector from what is imported within.

    PyTorch brings some million objects that stay for good. To look through them again and again,
    and once more at the end, takes a quarter of the time of a tiny burst.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
