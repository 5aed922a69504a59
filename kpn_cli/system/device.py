"""The device and the precision that the network runs with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..choices import DEVICES, PRECISIONS
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
        """The torch type of this precision."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[self.name]


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called `name`; `auto` picks bf16 where it is faster than fp32.

    The choice depends on hardware features only, so it is the same in every run. Measured
    (docs/log.md): with AMX, bf16 takes a third of fp32's time; with AVX-512's bf16 instructions
    alone, 1.3 to 1.5 times as long. Without either it is emulated.

    Raises:
        KpnError: if the name is unknown.
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
    # Older releases of PyTorch do not tell.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("amx_bf16", False):
        return Precision("bf16", "the CPU has AMX")
    return Precision("fp32", "the CPU has no AMX, without which bf16 is slower")


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the torch type of the convolutions; see `choose_precision`."""
    return choose_precision(name, device).dtype


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return a context in which convolutions run in `dtype`."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
