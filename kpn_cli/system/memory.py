"""How much memory is free, an error for the user when it runs out, and keeping freed memory."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from ..errors import KpnError

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Return how many bytes could be taken on a device without harm to others.

    On the CPU, what the system says is available, or what the limits of its control group
    (containers, batch systems) leave of it. https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    available = psutil.virtual_memory().available
    for folder in _own_cgroups():
        try:
            limit = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # Files that were read are counted, but given up when memory is asked for.
            used -= sum(int(stat.get(name, 0)) for name in ("inactive_file", "active_file"))
        except (OSError, ValueError):
            continue
        if limit.isdecimal():
            available = min(available, max(int(limit) - used, 0))
    return available


@contextmanager
def memory_as_error() -> Iterator[None]:
    """Turn a lack of memory into an error for the user.

    Raises:
        KpnError: for MemoryError, and what torch makes of it.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        raise _lack_of_memory() from None
    except MemoryError:
        raise _lack_of_memory() from None


def _lack_of_memory() -> KpnError:
    return KpnError(
        "the memory is not enough for this burst; close other programs, make bursts of fewer "
        "frames with --burst-size, or give --device cpu"
    )


def is_lack_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has ended; torch says so in several ways."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _own_cgroups() -> list[Path]:
    """Folders of this process's control group and those above it; none where there are none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    folder = _CGROUP_ROOT / own.strip("/")
    return [folder, *(f for f in folder.parents if f.is_relative_to(_CGROUP_ROOT))]


def return_freed_memory() -> None:
    """Give the system back what `keep_freed_memory` keeps: between stages that need little else.

    Without effect elsewhere than on Linux.
    """
    libc = _libc()
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next allocation instead of returning it.

    Arrays of tens of megabytes are else mapped anew at each step, and the page
    faults cost as much as the arithmetic. Without effect elsewhere than on Linux.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is None:  # another C library
        return
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
