"""Where and in which precision the network runs."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from .choices import DEVICES, PRECISIONS
from .errors import KpnError

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the fastest there is.

    Raises:
        KpnError: if the device is unknown or not on this machine.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    if name not in there:
        raise KpnError(f"--device {name}: unknown; choose one of {', '.join(DEVICES)}")
    if not there[name]:
        raise KpnError(f"--device {name}: there is none on this machine; use --device auto")
    return torch.device(name)


@dataclass(frozen=True)
class Precision:
    """Arithmetic of the convolutions.

    Attributes:
        name: "fp32" or "bf16".
        reason: why it was chosen, for the user.
    """

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The type of torch."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[self.name]


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the arithmetic called `name`; `auto` is bf16 where that is the faster one.

    Decided by what the hardware says of itself, so that it is the same in every run. Measured
    (docs/log.md): with AMX bf16 takes half of fp32's time; with AVX-512's bf16 instructions
    alone it takes half as much again; without either it is emulated, up to 80 times slower.

    Raises:
        KpnError: if the precision is unknown.
    """
    if name not in PRECISIONS:
        raise KpnError(f"--precision {name}: unknown; choose one of {', '.join(PRECISIONS)}")
    if name != "auto":
        return Precision(name, "as given")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "the GPU has bf16 arithmetic")
        return Precision("fp32", "the GPU has no bf16 arithmetic")
    if device.type != "cpu":
        return Precision("fp32", f"bf16 has not been measured on {device.type}")
    if torch.cpu.get_capabilities().get("amx_bf16", False):
        return Precision("bf16", "the CPU has AMX")
    return Precision("fp32", "the CPU has no AMX, without which bf16 is slower")


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type of the convolutions: see `choose_precision`."""
    return choose_precision(name, device).dtype


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Context in which convolutions run in `dtype`."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


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
