"""The last step of training: record the ranges of the activations, for arithmetic in integers.

The bursts are quiet. Noise stretches the ranges, and all of a quiet picture then pays for it with
coarser steps (0.1 dB; docs/log.md), while noisy pictures lose nothing by the ranges of quiet ones.
There are many bursts, because some channels are silent in most pictures.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import KpnError
from ..network.kpn import KPN
from ..network.quantisation import Ranges, fault_of, fits_integers, record_ranges
from ..network.weights import load_weights, save_weights
from ..synthesis import protocol
from ..synthesis.config import SynthConfig
from ..synthesis.patches import collate, draw_patch
from ..synthesis.photos import Scene
from ..system.files import scratch_file

#: Bursts of a recording, and the gain of the protocol that they are taken at. After short training
#: there are fewer, one for so many patches, but not fewer than the least.
BURSTS, _GAIN = 768, 0
_PATCHES_PER_BURST, _FEWEST = 64, 64
#: One in this many is a single frame.
_SINGLE_EVERY = 8
#: Sets the seed apart from those of training batches.
_PURPOSE = 2**32 - 1


def burst_number(patches: int) -> int:
    """Return the number of bursts to record on after training on a number of patches."""
    return min(max(patches // _PATCHES_PER_BURST, _FEWEST), BURSTS)


def bursts_of(
    scenes: Sequence[Scene], config: SynthConfig, seed: int, number: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield quiet bursts and their noise: `burst`, `shot`, `read`, each a batch of one.

    Args:
        scenes: photos, of `config.photo_pixels` or more each way.
        config: of training; without faults of sensor and exposure here.
        seed: of all randomness.
        number: of bursts.
    """
    config = replace(config, misjudged=0, bracket=0, uneven=0, defects=0)
    rng = np.random.default_rng((seed, _PURPOSE))
    noise = protocol.noise_of_gain(_GAIN)
    for index in range(number):
        count = 1 if index % _SINGLE_EVERY == _SINGLE_EVERY - 1 else config.frames
        batch = collate([draw_patch(scenes, rng, count, config, noise)])
        yield batch.burst, batch.shot, batch.read


def check_file(path: Path) -> None:
    """Check that ranges can be added to a weight file, before hundreds of bursts are made.

    Raises:
        KpnError: if the file cannot be read, its folder cannot be written to, or the network
            cannot run in integers.
    """
    _load(path)
    with scratch_file(path.resolve()):
        pass


def add_ranges(
    path: Path, bursts: Iterable[tuple[Tensor, Tensor, Tensor]], about: Mapping[str, object]
) -> None:
    """Record the ranges of the network in a weight file, and write them into it, atomically.

    Args:
        path: of the file; weights and recipe stay as they are. If it is a symbolic link, the file
            that it points to is changed.
        bursts: from `bursts_of`.
        about: what the bursts were made of, for the recipe.

    Raises:
        KpnError: if the file cannot be read or written, another program changes it meanwhile, the
            network cannot run in integers, or its activations are not finite.
    """
    target = path.resolve()
    before = _state_of(target)
    network, recipe = _load(path)
    number = 0

    def counted() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        nonlocal number
        for burst in bursts:
            number += 1
            yield burst

    network.ranges = recorded(network, counted())
    fault = fault_of(network, network.ranges)
    if fault:
        raise KpnError(
            f"{path}: its activations are not finite ({fault}), so its training went wrong; "
            "choose another file"
        )
    # A training run may have saved newer weights, which must not be lost.
    if _state_of(target) != before:
        raise KpnError(
            f"{path}: was changed by another program while its ranges were recorded, and is left "
            "as it is now; run the same command again"
        )
    save_weights(target, network, recipe | {"ranges": {"bursts": number, **about}})


def _load(path: Path) -> tuple[KPN, dict[str, object]]:
    """Return a network that can run in integers, and its recipe."""
    network, recipe = load_weights(path)
    if not fits_integers(network):
        raise KpnError(
            f"{path}: predicts pixels or knows no noise; such networks run in floating point only"
        )
    # A copy: the weights are mapped from the file, and Windows replaces no file that is mapped.
    return copy.deepcopy(network), recipe


def _state_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced or written; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def recorded(network: KPN, bursts: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Ranges:
    """Return the ranges of a network over bursts, of which it takes as many frames as it can."""
    frames = network.config.frames
    return record_ranges(network, ((burst[:, :frames], shot, read) for burst, shot, read in bursts))
