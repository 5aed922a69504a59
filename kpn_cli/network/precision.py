"""The arithmetic that a network runs in: fp32 or bf16 by torch, int8 by `engine`.

Integers need a CPU that multiplies them exactly, the runtime, and a network with activation ranges.
Where one of these is missing, floating point is used, and the reason is told.
"""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..system.device import Precision, cpu_features, float_precision
from .engine import EngineError, UNet
from .kpn import KPN
from .quantisation import fits_integers

#: With fewer pixels in the picture, `auto` takes no integers: the import of the runtime and the
#: compilation take longer than integers save (docs/log.md).
SMALLEST_FOR_INTEGERS = 2_000_000

#: Compiled U-Nets of networks that are still in use, or why they cannot be compiled; and what they
#: were compiled for.
_compiled: WeakKeyDictionary[KPN, tuple[object, UNet | _Unusable]] = WeakKeyDictionary()


class _Unusable(Exception):
    """Why a network cannot run in integers.

    Attributes:
        is_fault: whether something is broken, and not just absent.
    """

    def __init__(self, reason: str, *, is_fault: bool = False) -> None:
        super().__init__(reason)
        self.is_fault = is_fault


def in_precision(
    network: KPN, name: str = "auto", pixels: int | None = None
) -> tuple[KPN, Precision]:
    """Return a network that runs in the precision called `name`, and that precision.

    `auto` picks int8 where OpenVINO is installed and the CPU has exact integer arithmetic but no
    AMX (with which bf16 is faster: docs/log.md), if the network has activation ranges and the
    picture is not small; else what `system.device.float_precision` picks. It is the same in every
    run on a machine. Where int8 is not possible, floating point is used; a note tells the user, if
    int8 was asked for or if something is broken.

    Args:
        network: on its device, in evaluation mode. It is left as it is.
        name: of `choices.PRECISIONS`.
        pixels: of the picture, on the sensor; None for many.

    Returns:
        A network that shares the weights of the other, and the precision. Convolutions of torch
        run in its `dtype`.

    Raises:
        KpnError: if the name is unknown.
    """
    device = next(network.parameters()).device
    ready = copy.copy(network)
    ready.engine = None
    if name not in ("auto", "int8"):
        return ready, float_precision(name, device)
    otherwise = float_precision("auto", device)
    small = pixels is not None and pixels < SMALLEST_FOR_INTEGERS
    try:
        ready.engine = _engine(network, ready, asked=name == "int8", small=small)
    except _Unusable as unusable:
        note = ""
        if name == "int8" or unusable.is_fault:
            note = f"int8 is not used, but {otherwise.name}: {unusable}"
        reason = f"{otherwise.reason}; no int8: {unusable}"
        return ready, Precision(otherwise.name, reason, note)
    reason = "OpenVINO is installed and the CPU has integer arithmetic"
    if name == "int8":
        reason = "as given"
    return ready, Precision("int8", reason, floating=otherwise.name)


def _engine(network: KPN, plain: KPN, *, asked: bool, small: bool) -> UNet:
    """Return the compiled U-Net of a network.

    Args:
        network: to find it by, if it was compiled before.
        plain: the same network without an engine.
        asked: whether the user asked for int8; otherwise only CPUs that were tried are used.
        small: whether the picture is too small for `auto`.

    Raises:
        _Unusable: if that is not possible.
    """
    device = next(network.parameters()).device
    if device.type != "cpu":
        raise _Unusable(f"it runs on the CPU, not on {device.type}")
    features = cpu_features()
    if features.amx and not asked:
        raise _Unusable("with AMX, bf16 is faster")
    if not fits_integers(network):
        raise _Unusable("networks that predict pixels or know no noise have no int8 arithmetic")
    if network.ranges is None and network.ranges_fault:
        raise _Unusable(
            f"the activation ranges in the weight file do not fit ({network.ranges_fault}); "
            "make them anew with kpn train --calibrate",
            is_fault=True,
        )
    if network.ranges is None:
        raise _Unusable(
            "the weight file has no activation ranges; add them with kpn train --calibrate"
        )
    # Without these instructions, x86 CPUs add pairs of products in 16 bits, which overflow.
    if features.is_x86 and not features.integer_products:
        raise _Unusable("the CPU has no exact 8-bit arithmetic (VNNI)")
    if not (features.is_x86 or asked):
        raise _Unusable("it has not been tried on this kind of CPU; --precision int8 tries it")
    if small and not asked:
        raise _Unusable("its start takes too long for a small picture")
    parts = [*network.parameters(), *network.ranges.values()]
    state = (
        [(id(part), part.data_ptr(), _version(part)) for part in parts],
        torch.get_num_threads(),
        features.amx,
    )
    known = _compiled.get(network)
    made: UNet | _Unusable
    if known is not None and known[0] == state:
        made = known[1]
    else:
        try:
            made = UNet(plain, network.ranges, half=features.amx)
        except EngineError as error:
            made = _Unusable(str(error), is_fault=not error.is_absence)
        _compiled[network] = state, made
    if isinstance(made, _Unusable):
        raise _Unusable(str(made), is_fault=made.is_fault)
    return made


def _version(part: Tensor) -> int:
    """Return how often a tensor was changed; those made in inference mode do not count that."""
    return 0 if part.is_inference() else part._version
