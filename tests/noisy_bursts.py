"""Noisy bursts and their noise, for tests of what the network is shown."""

from __future__ import annotations

import numpy as np
import torch

from kpn_cli.image.noise_model import NoiseModel

NOISE = NoiseModel.uniform(1e-3, 1e-5)


def coefficients(model=NOISE):
    return torch.tensor([model.shot]), torch.tensor([model.read])


def noisy(frames, model=NOISE, seed=0):
    """A burst `(1, count, 4, height, width)` of noiseless frames."""
    sampled = model.sample(np.stack(frames), np.random.default_rng(seed))
    return torch.from_numpy(sampled)[None]


def bracket(gains, level=0.1, model=NOISE, side=64, seed=0):
    """Flat frames in the reference's exposure, their coefficients and clipping points."""
    rng = np.random.default_rng(seed)
    flat = np.full((4, side, side), level, np.float32)
    frames = [np.minimum(model.sample(flat * g, rng), 1) / g for g in gains]
    models = [model.scaled(1 / g) for g in gains]
    shot, read = (torch.tensor([[getattr(m, name) for m in models]]) for name in ("shot", "read"))
    return torch.from_numpy(np.stack(frames))[None], shot, read, 1 / torch.tensor([gains])
