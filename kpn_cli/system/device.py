"""Where and in which precision the network runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..choices import DEVICES, PRECISIONS
from ..errors import KpnError


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
