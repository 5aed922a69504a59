"""Bursts that are aligned already, for tests of merging."""

from __future__ import annotations

import numpy as np
import torch
from pictures import planes

from kpn_cli.align import alignment
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel

NOISE = NoiseModel.uniform(2e-3, 2e-5)


def burst_of(count: int, shift: int = 0, size: tuple[int, int] = (96, 120)) -> list[Frame]:
    scene = planes(3, size[0] + 8 * shift, size[1] + 8 * shift)
    rng = np.random.default_rng(0)
    frames = []
    for n in range(count):
        part = scene[:, shift * n : shift * n + size[0], shift * n : shift * n + size[1]]
        frames.append(Frame(torch.from_numpy(NOISE.sample(part, rng))))
    return frames


def shifts_of(frames: list[Frame]) -> list[torch.Tensor]:
    return alignment.align_frames(frames, NOISE)
