"""Ordinary photos -> training bursts, each a pure function of its seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..image.noise_model import NoiseModel
from .config import SynthConfig
from .motion import draw_planes
from .photos import Scene
from .sensor import Patch, draw_colours, expose


@dataclass(frozen=True)
class Batch:
    """Training data.

    Attributes:
        burst: `(batch, count, 4, cells, cells)` noisy planes in the reference's exposure, the
            reference first.
        truth: `(batch, 4, cells, cells)`, what the network should make of it (`sensor.Patch`).
        shot, read: variance coefficients, `(batch, 4)`, or `(batch, count, 4)` where a burst has
            frames that differ in exposure.
        white: `(batch,)`, white level of the scene.
        clip: `(batch, count)`, where frames clip, infinite in bursts of one exposure; None if
            all are such.
    """

    burst: Tensor
    truth: Tensor
    shot: Tensor
    read: Tensor
    white: Tensor
    clip: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        values = (getattr(self, field.name) for field in fields(self))
        return Batch(
            *(None if value is None else value.to(device, non_blocking=True) for value in values)
        )


def collate(patches: Sequence[Patch]) -> Batch:
    """Return patches with the same number of frames as a batch."""
    burst = torch.from_numpy(np.stack([patch.burst for patch in patches]))
    truth = torch.from_numpy(np.stack([patch.truth for patch in patches]))
    white = torch.tensor([patch.white for patch in patches])
    if not any(patch.frame_noise for patch in patches):
        shot = torch.tensor([patch.noise.shot for patch in patches])
        read = torch.tensor([patch.noise.read for patch in patches])
        return Batch(burst, truth, shot, read, white)
    count = burst.shape[1]
    models = [patch.frame_noise or (patch.noise,) * count for patch in patches]
    shot = torch.tensor([[model.shot for model in frames] for frames in models])
    read = torch.tensor([[model.read for model in frames] for frames in models])
    clip = torch.tensor([patch.clip or (math.inf,) * count for patch in patches])
    return Batch(burst, truth, shot, read, white, clip)


#: `map`, or that of a pool of threads.
Map = Callable[..., Iterable[Patch]]


class Source(Protocol):
    """Where batches come from.

    Attributes:
        digest: stands for the data: a run is resumed on the same only.
    """

    digest: str

    def draw(
        self, seed: Sequence[int], members: Iterable[int], config: SynthConfig, each: Map = map
    ) -> Batch:
        """Return some members of the batch that `seed` stands for."""


@dataclass(frozen=True)
class Photos:
    """Bursts made on the fly from photos."""

    scenes: Sequence[Scene]

    @property
    def digest(self) -> str:
        """Stands for the photos: their names, sizes and a few samples of each."""
        parts = [
            [s.name, s.channels.shape, s.channels[:, ::97, ::89].sum(dtype=np.int64).item()]
            for s in self.scenes
        ]
        return sha256(json.dumps(parts).encode()).hexdigest()

    def draw(
        self, seed: Sequence[int], members: Iterable[int], config: SynthConfig, each: Map = map
    ) -> Batch:
        """See `draw_batch`."""
        return draw_batch(self.scenes, seed, members, config, each)


def draw_patch(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    count: int,
    config: SynthConfig,
    noise: NoiseModel | None = None,
) -> Patch:
    """Return a random training burst of `count` frames, with random noise or the given one."""
    planes = draw_planes(scenes, rng, count, config, draw_colours(rng, config))
    return expose(planes, rng, config, noise)


def draw_count(seed: Sequence[int], config: SynthConfig) -> int:
    """Return the number of frames of the batch that `seed` stands for."""
    rng = np.random.default_rng(seed)
    whole = config.frames == 1 or rng.random() < config.full
    return config.frames if whole else int(rng.integers(1, config.frames))


def patch_rng(seed: Sequence[int], member: int) -> np.random.Generator:
    """Return the generator of a member of a batch, whoever draws it."""
    # From 1: numpy takes (a, b) and (a, b, 0) for the same seed, and the first is the batch's.
    return np.random.default_rng((*seed, member + 1))


def draw_batch(
    scenes: Sequence[Scene],
    seed: Sequence[int],
    members: Iterable[int],
    config: SynthConfig,
    each: Map = map,
) -> Batch:
    """Return some members of the batch that `seed` stands for: the same numbers, the same bytes.

    All bursts of a batch have the same number of frames.

    Args:
        scenes: photos.
        seed: of the batch.
        members: which of its bursts, from 0; processes that share a batch draw a part each.
        config: what bursts are like.
        each: `map`, or that of a pool of threads.
    """
    count = draw_count(seed, config)

    def draw(member: int) -> Patch:
        return draw_patch(scenes, patch_rng(seed, member), count, config)

    return collate(list(each(draw, members)))
