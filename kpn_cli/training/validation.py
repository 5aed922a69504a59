"""Validation of a training run: PSNR on a fixed set of synthetic bursts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..evaluation import metrics
from ..network.apply_kernels import restore
from ..network.kpn import KPN
from ..synthesis import motion, protocol
from ..synthesis.config import SynthConfig
from ..synthesis.exposures import Exposures
from ..synthesis.patches import TrainingBatch, collate
from ..synthesis.photos import Scene
from ..synthesis.sensor import Patch
from ..system.device import autocast

#: PSNR in dB by set and gain.
PsnrTable = dict[str, dict[str, float]]
#: Bursts by set and gain.
ValidationSets = dict[str, dict[int, list[TrainingBatch]]]
#: Of each set: name, chance of a static burst, and the frames' exposures in turn, in EV over the
#: reference's.
SETS = (("shifted", 0.0, (0.0,)), ("static", 1.0, (0.0,)), ("bracket", 0.0, (0.0, 2.0, -2.0)))


def validation_bursts(scenes: Sequence[Scene], config: SynthConfig) -> ValidationSets:
    """Return one burst per photo, set and gain of the protocol, each a batch of one.

    The sets: "shifted" has residual shifts within half a cell, as after alignment; "static" is
    on a tripod; "bracket" is like "shifted", with frames exposed in turn like the reference, four
    times as long and a quarter as long. Noise and white levels are the protocol's.
    """
    plain = replace(
        config, partly=0, rough=0, turning=0, off_by_one=0, failed=0, torn=0, softer=0,
        moving=0, parallax=0,
    )  # fmt: skip
    sets = {}
    for name, static, stops in SETS:
        geometry = replace(plain, static=static)
        sets[name] = {
            gain: [_burst(scene, n, gain, geometry, stops) for n, scene in enumerate(scenes)]
            for gain in protocol.GAINS
        }
    return sets


def _burst(
    scene: Scene, number: int, gain: int, config: SynthConfig, stops: tuple[float, ...]
) -> TrainingBatch:
    rng = np.random.default_rng((number, gain))
    planes = motion.draw_planes([scene], np.random.default_rng(number), config.frames, config)
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    clean = protocol.to_raw_signal(planes * 65535, white)
    noise = protocol.noise_of_gain(gain)
    if not any(stops):
        patch = Patch(noise.sample(clean, rng), clean[0], noise, white)
        return collate([patch])
    exposures = Exposures.by_time(np.resize(stops, len(clean)))
    gains = exposures.gains[:, None, None, None]
    burst = np.minimum(noise.sample(clean * gains, rng), 1) / gains
    clip = tuple((1 / exposures.gains).tolist())
    return collate([Patch(burst, clean[0], noise, white, exposures.matched_noise(noise), clip)])


def validate(
    network: KPN,
    sets: ValidationSets,
    device: torch.device,
    dtype: torch.dtype,
) -> PsnrTable:
    """Return the mean PSNR in dB by set and gain, rounded to 0.001 dB.

    Args:
        network: evaluated, and left in training mode.
        sets: see `validation_bursts`.
        device: of the network.
        dtype: of the convolutions.
    """
    network.eval()
    table: PsnrTable = {}
    for name, gains in sets.items():
        table[name] = {}
        for gain, bursts in gains.items():
            figures = []
            for burst in bursts:
                inputs = burst.to(device)
                with torch.inference_mode(), autocast(device, dtype):
                    clean = restore(
                        network, inputs.burst, inputs.shot, inputs.read, inputs.clip
                    ).clean
                output, truth = clean[0].cpu().numpy(), burst.target[0].numpy()
                figures.append(metrics.psnr(output, truth, float(burst.white)))
            table[name][str(gain)] = round(float(np.mean(figures)), 3)
    network.train()
    return table
