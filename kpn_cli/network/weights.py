"""Weight files: safetensors, with the network's shape and its training recipe in the header.

Unlike a pickled checkpoint, such a file executes nothing when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import KpnError, read_error
from ..system.files import atomic, check_no_pipe
from .kpn import KPN, KPNConfig, to_channels_last
from .quantisation import PREFIX, fault_of

#: Key of the single entry of the files' metadata, a JSON document: safetensors writes several
#: entries in random order, and the same training must give the same bytes.
_FORMAT = "kpn-1"
#: Ten times a checkpoint of the default network; a larger file is certainly something else.
_MAX_BYTES = 500_000_000
#: Values of the fields of `KPNConfig` that older files lack.
_MISSING_FIELDS: dict[str, Any] = {"wide": False, "scales": 0, "extra_blocks": []}
#: Fields of older files that say what holds for all networks now.
_FORMER_FIELDS: dict[str, Any] = {"noise_ratios": False}


def default_weights() -> Path:
    """Return the path of the weights that ship with kpn (`weights/` in the repository)."""
    return Path(str(files("kpn_weights"))) / "kpn.safetensors"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, object]) -> None:
    """Write tensors and a header, which becomes JSON, to `path`, atomically.

    Raises:
        KpnError: if the file cannot be written.
    """
    content = save({k: v.contiguous() for k, v in tensors.items()}, {_FORMAT: json.dumps(header)})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load_tensors(
    path: Path, *, max_bytes: int = _MAX_BYTES
) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read what `save_tensors` wrote, onto the CPU: tensors by name, and the header.

    Args:
        path: of the file.
        max_bytes: a larger file is refused unread.

    Raises:
        KpnError: if the file is missing, too large, damaged or of another program.
    """
    advice = "choose a .safetensors file written by kpn train"
    check_no_pipe(path, advice)
    try:
        if path.stat().st_size > max_bytes:
            raise KpnError(f"{path}: too large for weights of kpn; {advice}")
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if _FORMAT not in metadata:
                raise KpnError(f"{path}: not weights of kpn ({_FORMAT}); {advice}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata[_FORMAT])
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
    except OSError as error:
        raise read_error(path, error, advice, otherwise="not a regular file") from None
    except (SafetensorError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise KpnError(f"{path}: damaged or not weights ({reason}); {advice}") from None
    return tensors, header


def in_current_fields(config: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields of a `KPNConfig` that an older version may have written, as today's."""
    kept = {k: v for k, v in config.items() if (k, v) not in _FORMER_FIELDS.items()}
    return _MISSING_FIELDS | kept


def config_from_header(path: Path, header: Mapping[str, object]) -> KPNConfig:
    """Return the network's shape.

    Raises:
        KpnError: if it is missing or impossible, or has keys that this version does not know.
    """
    config = header.get("config")
    known = {field.name for field in fields(KPNConfig)}
    if isinstance(config, dict):
        config = in_current_fields(config)
        if config.get("noise_ratios"):
            raise KpnError(
                f"{path}: trained with an input of noise ratios, which kpn no longer has; "
                "train again"
            )
    if not isinstance(config, dict) or set(config) - known:
        raise KpnError(f"{path}: written by another version of kpn (network {config}); update kpn")
    try:
        return KPNConfig(**config)
    except (TypeError, ValueError, KpnError):
        raise KpnError(f"{path}: damaged header (network {config}); choose another file") from None


def _meta_network(path: Path, config: KPNConfig) -> KPN:
    """Return a network without memory, which a damaged header may claim any amount of."""
    try:
        with torch.device("meta"):
            return KPN(config)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise KpnError(f"{path}: damaged header (network {config}); choose another file") from None


def load_state(
    path: Path, network: KPN, tensors: Mapping[str, Tensor], *, assign: bool = False
) -> None:
    """Load tensors into a network.

    Args:
        path: the file that they are from, for messages.
        network: to load them into.
        tensors: its state dict.
        assign: whether to use the tensors themselves instead of copying their values.

    Raises:
        KpnError: if names, shapes or values do not fit.
    """
    try:
        network.load_state_dict(dict(tensors), assign=assign)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise KpnError(f"{path}: does not fit the network it names ({reason})") from None
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
        raise KpnError(f"{path}: holds values that are not numbers; training it went wrong")


def save_weights(path: Path, network: KPN, recipe: Mapping[str, object]) -> None:
    """Write a network with its ranges, in float32, and the recipe of its training.

    Raises:
        KpnError: if the file cannot be written.
    """
    state = network.state_dict()
    state |= {PREFIX + name: value for name, value in (network.ranges or {}).items()}
    tensors = {name: value.detach().float().cpu() for name, value in state.items()}
    save_tensors(path, tensors, {"config": asdict(network.config), "recipe": dict(recipe)})


def load_weights(path: Path | None = None) -> tuple[KPN, dict[str, object]]:
    """Read a network, ready for use on the CPU, and its recipe; by default the one that ships.

    Ranges that do not fit the network are left out (`KPN.ranges_fault` says why): it runs in
    floating point.

    Raises:
        KpnError: if the file is missing, damaged or does not fit.
    """
    path = path or default_weights()
    tensors, header = load_tensors(path)
    if any(name.startswith("optimiser.") for name in tensors):
        raise KpnError(f"{path}: a training run's checkpoint; take last.safetensors beside it")
    network = _meta_network(path, config_from_header(path, header))
    ranges = {
        name.removeprefix(PREFIX): tensors.pop(name).float()
        for name in list(tensors)
        if name.startswith(PREFIX)
    }
    load_state(path, network, {name: value.float() for name, value in tensors.items()}, assign=True)
    to_channels_last(network)
    if ranges:
        network.ranges_fault = fault_of(network, ranges)
        network.ranges = None if network.ranges_fault else ranges
    network = network.eval().requires_grad_(False)
    recipe = header.get("recipe")
    return network, recipe if isinstance(recipe, dict) else {}
