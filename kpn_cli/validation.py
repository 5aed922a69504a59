"""The fixed bursts on which a training run is watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from . import motion, protocol
from .device import autocast
from .merge import restore
from .network import KPN
from .photos import Scene
from .synth import Batch
from .synth_config import SynthConfig

#: PSNR in dB by set and gain.
Table = dict[str, dict[str, float]]


def validation_bursts(
    scenes: Sequence[Scene], config: SynthConfig
) -> dict[str, dict[int, list[Batch]]]:
    """Return the bursts: one patch per photo, by set and gain.

    `shifted`: residuals of half a cell, as behind the aligner; `static`: a
    tripod. Noise and exposure are the protocol's.
    """
    plain = replace(
        config, partly=0, rough=0, turning=0, off_by_one=0, failed=0, torn=0, softer=0,
        moving=0, parallax=0,
    )  # fmt: skip
    sets = {}
    for name, static in (("shifted", 0.0), ("static", 1.0)):
        geometry = replace(plain, static=static)
        sets[name] = {
            gain: [_burst(scene, n, gain, geometry) for n, scene in enumerate(scenes)]
            for gain in protocol.GAINS
        }
    return sets


def _burst(scene: Scene, number: int, gain: int, config: SynthConfig) -> Batch:
    rng = np.random.default_rng((number, gain))
    planes = motion.draw_planes([scene], np.random.default_rng(number), config.frames, config)
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    clean = protocol.expose(planes * 65535, white)
    noise = protocol.noise_of_gain(gain)
    return Batch(
        torch.from_numpy(noise.sample(clean, rng))[None],
        torch.from_numpy(clean[:1]),
        torch.tensor([noise.shot]),
        torch.tensor([noise.read]),
        torch.tensor([white]),
    )


def validate(
    network: KPN,
    sets: dict[str, dict[int, list[Batch]]],
    device: torch.device,
    dtype: torch.dtype,
) -> Table:
    """Return the mean PSNR in dB by set and gain."""
    network.eval()
    table: Table = {}
    for name, gains in sets.items():
        table[name] = {}
        for gain, bursts in gains.items():
            figures = []
            for burst in bursts:
                here = burst.to(device)
                with torch.inference_mode(), autocast(device, dtype):
                    clean = restore(network, here.burst, here.shot, here.read).clean
                output, truth = clean[0].cpu().numpy(), burst.truth[0].numpy()
                figures.append(protocol.psnr(output, truth, float(burst.white)))
            table[name][str(gain)] = round(float(np.mean(figures)), 3)
    network.train()
    return table
