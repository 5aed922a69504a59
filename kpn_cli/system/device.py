"""The device and the precision that the network runs with."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import torch

from ..choices import DEVICES, FLOAT_PRECISIONS
from ..errors import KpnError


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` picks the fastest one available.

    Raises:
        KpnError: if the name is unknown or this machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, usable in available.items() if usable)
    if name not in available:
        raise KpnError(f"--device {name}: unknown; choose one of {', '.join(DEVICES)}")
    if not available[name]:
        raise KpnError(f"--device {name}: this machine has none; use --device auto")
    return torch.device(name)


#: Values of ONEDNN_MAX_CPU_ISA that hide nothing, and those that hide the products of integers.
_NO_LIMIT = ("DEFAULT", "ALL")
_WITHOUT_INTEGERS = ("SSE41", "AVX", "AVX2", "AVX512_CORE")


@dataclass(frozen=True)
class CpuFeatures:
    """What decides the arithmetic on a CPU.

    Attributes:
        is_x86: whether it is an x86-64 CPU.
        amx: whether it has tiles of bf16 (Intel AMX).
        integer_products: whether it adds products of 8-bit integers in 32 bits (VNNI, of AVX-512
            or of AVX2).
    """

    is_x86: bool
    amx: bool
    integer_products: bool


def cpu_features() -> CpuFeatures:
    """Return the features of this machine's CPU; False for what torch does not tell.

    The user may hide some from oneDNN, by which torch and OpenVINO compute.
    https://oneapi-src.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
    """
    # Older releases of PyTorch do not tell.
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    hidden = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", ""))
    limit = hidden.upper() or "DEFAULT"
    return CpuFeatures(
        platform.machine().lower() in ("x86_64", "amd64"),
        bool(found.get("amx_bf16", False)) and ("AMX" in limit or limit in _NO_LIMIT),
        any(found.get(name, False) for name in ("avx512_vnni", "avx_vnni"))
        and limit not in _WITHOUT_INTEGERS,
    )


@dataclass(frozen=True)
class Precision:
    """Arithmetic of the convolutions.

    Attributes:
        name: "fp32", "bf16" or "int8".
        reason: why it was chosen, for the user.
        note: what the user must know: that the one asked for is not possible; "" for nothing.
        floating: with int8, the arithmetic of what torch computes: "fp32" or "bf16".
    """

    name: str
    reason: str
    note: str = ""
    floating: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of convolutions that torch runs."""
        return torch.bfloat16 if (self.floating or self.name) == "bf16" else torch.float32


def float_precision(name: str, device: torch.device) -> Precision:
    """Return the floating-point precision called `name`; `auto` picks bf16 where it is faster.

    The choice depends on hardware features only, so it is the same in every run. Measured
    (docs/log.md): with AMX, bf16 takes a third of fp32's time; with AVX-512's bf16 instructions
    alone, 1.3 to 1.5 times as long. Without either it is emulated.

    Raises:
        KpnError: if the name is unknown.
    """
    if name not in FLOAT_PRECISIONS:
        raise KpnError(f"--precision {name}: unknown; choose one of {', '.join(FLOAT_PRECISIONS)}")
    if name != "auto":
        return Precision(name, "as given")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "the GPU has bf16 arithmetic")
        return Precision("fp32", "the GPU has no bf16 arithmetic")
    if device.type != "cpu":
        return Precision("fp32", f"bf16 has not been measured on {device.type}")
    if cpu_features().amx:
        return Precision("bf16", "the CPU has AMX")
    return Precision("fp32", "the CPU has no AMX, without which bf16 is slower")


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return a context in which convolutions run in `dtype`."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
