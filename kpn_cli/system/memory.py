"""Free memory, a `KpnError` when memory runs out, and settings of the C allocator (glibc)."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from ..errors import KpnError
from .control_groups import control_groups

if TYPE_CHECKING:  # what only reads files must not wait for PyTorch
    import torch


def free_memory(device: torch.device | None = None) -> int:
    """Return how many bytes can still be allocated on a device; None is the CPU.

    On the CPU: the memory that the system reports as available, or less where a control group
    (container, batch system) limits it. https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    if device is not None and device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free, _ = torch.cuda.mem_get_info(device)
        return free + unused
    available: int = psutil.virtual_memory().available
    for folder in control_groups():
        try:
            limit = (folder / "memory.max").read_text("ascii").strip()
            used = int((folder / "memory.current").read_text("ascii"))
            lines = (folder / "memory.stat").read_text("ascii").splitlines()
            stat = dict(line.split() for line in lines)
            # The page cache is counted as used, but the kernel frees it on demand.
            used -= sum(int(stat.get(name, 0)) for name in ("inactive_file", "active_file"))
        except (OSError, ValueError):
            continue
        if limit.isdecimal():
            available = min(available, max(int(limit) - used, 0))
    return available


@contextmanager
def memory_as_error() -> Iterator[None]:
    """Turn out-of-memory errors of Python and torch into a `KpnError`.

    Raises:
        KpnError: if the block runs out of memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory() from None
    except MemoryError:
        raise _out_of_memory() from None


def _out_of_memory() -> KpnError:
    return KpnError(
        "not enough memory for this burst; close other programs, make bursts of fewer "
        "frames with --burst-size, or give --device cpu"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out; torch reports that in several ways."""
    import torch

    kinds = (MemoryError, torch.OutOfMemoryError)
    texts = ("can't allocate memory", "not enough memory", "MPS backend out of memory")
    return isinstance(error, kinds) or any(text in str(error) for text in texts)


def return_freed_memory() -> None:
    """Return the memory that `keep_freed_memory` keeps to the system.

    Useful between stages, before one that needs little memory. Has an effect on Linux only.
    """
    libc = _libc()
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    if platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next allocation instead of returning it.

    Otherwise arrays of tens of megabytes are mapped anew at each step, and the page
    faults cost as much as the arithmetic. Has an effect on Linux only.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is None:  # another C library
        return
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
