"""The last step of training: record the ranges of the activations, for arithmetic in integers.

The bursts are quiet. Noise stretches the ranges, and all of a quiet picture then pays for it with
coarser steps (0.1 dB; docs/log.md), while noisy pictures lose nothing by the ranges of quiet ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import KpnError
from ..network.kpn import KPN
from ..network.quantisation import Ranges, fits_integers, record_ranges
from ..network.weights import load_weights, save_weights
from ..synthesis import protocol
from ..synthesis.config import SynthConfig
from ..synthesis.patches import collate, draw_patch
from ..synthesis.photos import Scene

#: Bursts of a recording, and the gain of the protocol that they are taken at.
BURSTS, _GAIN = 64, 0
#: One in this many is a single frame.
_SINGLE_EVERY = 8
#: Sets the seed apart from those of training batches.
_PURPOSE = 2**32 - 1


def bursts_of(
    scenes: Sequence[Scene], config: SynthConfig, seed: int = 0, number: int = BURSTS
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


def add_ranges(
    path: Path, bursts: Sequence[tuple[Tensor, Tensor, Tensor]], about: Mapping[str, object]
) -> None:
    """Record the ranges of the network in a weight file, and write them into it, atomically.

    Args:
        path: of the file; weights and recipe stay as they are.
        bursts: from `bursts_of`.
        about: what the bursts were made of, for the recipe.

    Raises:
        KpnError: if the file cannot be read or written, or the network cannot run in integers.
    """
    network, recipe = load_weights(path)
    if not fits_integers(network):
        raise KpnError(
            f"{path}: predicts pixels or knows no noise; such networks run in floating point only"
        )
    # A copy: the weights are mapped from the file, and Windows replaces no file that is mapped.
    network = copy.deepcopy(network)
    network.ranges = recorded(network, bursts)
    save_weights(path, network, recipe | {"ranges": {"bursts": len(bursts), **about}})


def recorded(network: KPN, bursts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Ranges:
    """Return the ranges of a network over bursts, of which it takes as many frames as it can."""
    frames = network.config.frames
    return record_ranges(network, ((burst[:, :frames], shot, read) for burst, shot, read in bursts))
