"""The fixed bursts on which a training run is watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..evaluation import metrics
from ..network.kpn import KPN
from ..network.restore import restore
from ..synthesis import motion, protocol
from ..synthesis.config import SynthConfig
from ..synthesis.exposures import Exposures
from ..synthesis.patches import Batch, collate
from ..synthesis.photos import Scene
from ..synthesis.sensor import Patch
from ..system.device import autocast

#: PSNR in dB by set and gain.
Table = dict[str, dict[str, float]]
#: Name, chance of a static burst, and exposures by turns in EV over the reference's.
SETS = (("shifted", 0.0, (0.0,)), ("static", 1.0, (0.0,)), ("bracket", 0.0, (0.0, 2.0, -2.0)))


def validation_bursts(
    scenes: Sequence[Scene], config: SynthConfig
) -> dict[str, dict[int, list[Batch]]]:
    """Return the bursts: one patch per photo, by set and gain.

    `shifted`: residuals of half a cell, as behind the aligner; `static`: a
    tripod; `bracket`: as `shifted`, exposed by turns like the reference, four times as long
    and four times as short. Noise and exposure are the protocol's.
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
) -> Batch:
    rng = np.random.default_rng((number, gain))
    planes = motion.draw_planes([scene], np.random.default_rng(number), config.frames, config)
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    clean = protocol.expose(planes * 65535, white)
    noise = protocol.noise_of_gain(gain)
    if not any(stops):
        patch = Patch(noise.sample(clean, rng), clean[0], noise, white)
        return collate([patch])
    exposures = Exposures.by_time(np.resize(stops, len(clean)))
    gains = exposures.gains[:, None, None, None]
    burst = np.minimum(noise.sample(clean * gains, rng), 1) / gains
    clip = tuple((1 / exposures.gains).tolist())
    return collate([Patch(burst, clean[0], noise, white, exposures.noise(noise), clip)])


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
                    clean = restore(network, here.burst, here.shot, here.read, here.clip).clean
                output, truth = clean[0].cpu().numpy(), burst.truth[0].numpy()
                figures.append(metrics.psnr(output, truth, float(burst.white)))
            table[name][str(gain)] = round(float(np.mean(figures)), 3)
    network.train()
    return table
