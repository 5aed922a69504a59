"""Training bursts and their batches, each a pure function of its seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..image.noise_model import NoiseModel
from .config import SynthConfig
from .motion import draw_planes
from .photos import Scene
from .sensor import Patch, capture, draw_colours


@dataclass(frozen=True)
class TrainingBatch:
    """A batch of training bursts with the same number of frames; see `sensor.Patch`.

    Attributes:
        burst: `(batch, count, 4, cells, cells)` float32, noisy linear planes in the reference's
            exposure, the reference first.
        target: `(batch, 4, cells, cells)` float32, the output to be learned.
        shot, read: variance coefficients of the assumed noise, `(batch, 4)`, or
            `(batch, count, 4)` if any burst has frames that differ in exposure.
        white: `(batch,)`, white level of the scene.
        clip: `(batch, count)`, signal at which each frame clips, infinite in bursts of one
            exposure; None if all bursts are such.
    """

    burst: Tensor
    target: Tensor
    shot: Tensor
    read: Tensor
    white: Tensor
    clip: Tensor | None = None

    def to(self, device: torch.device) -> TrainingBatch:
        """Return the batch on another device."""
        # Only CUDA keeps the memory that it still reads; MPS might read it after it is freed.
        alone = device.type == "cuda"
        return self._map(lambda tensor: tensor.to(device, non_blocking=alone))

    def pin_memory(self) -> TrainingBatch:
        """Return the batch in memory that a GPU reads while the CPU goes on."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> TrainingBatch:
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        mapped: dict[str, Any] = {
            name: None if tensor is None else function(tensor) for name, tensor in tensors.items()
        }
        return TrainingBatch(**mapped)


def collate(patches: Sequence[Patch]) -> TrainingBatch:
    """Stack patches, all with the same number of frames, into a batch."""
    burst = torch.from_numpy(np.stack([patch.burst for patch in patches]))
    target = torch.from_numpy(np.stack([patch.target for patch in patches]))
    white = torch.tensor([patch.white for patch in patches])
    if not any(patch.frame_noise for patch in patches):
        shot = torch.tensor([patch.noise.shot for patch in patches])
        read = torch.tensor([patch.noise.read for patch in patches])
        return TrainingBatch(burst, target, shot, read, white)
    count = burst.shape[1]
    models = [patch.frame_noise or (patch.noise,) * count for patch in patches]
    shot = torch.tensor([[model.shot for model in frames] for frames in models])
    read = torch.tensor([[model.read for model in frames] for frames in models])
    clip = torch.tensor([patch.clip or (math.inf,) * count for patch in patches])
    return TrainingBatch(burst, target, shot, read, white, clip)


#: `map`, or the `map` method of a thread pool.
MapFunction = Callable[..., Iterable[Patch]]


class BatchSource(Protocol):
    """A source of training batches."""

    @property
    def digest(self) -> str:
        """Hash of the data: a training run is resumed on the same data only."""

    def draw(
        self,
        seed: Sequence[int],
        members: Iterable[int],
        config: SynthConfig,
        map_function: MapFunction = map,
    ) -> TrainingBatch:
        """Return the bursts at the indices `members` of the batch that `seed` determines."""


@dataclass(frozen=True)
class PhotoSource:
    """Training bursts synthesised on the fly from photos; a `BatchSource`."""

    scenes: Sequence[Scene]

    @property
    def digest(self) -> str:
        """Hash of the photos' names, sizes and a few of their samples."""
        parts = [
            [s.name, s.channels.shape, s.channels[:, ::97, ::89].sum(dtype=np.int64).item()]
            for s in self.scenes
        ]
        return sha256(json.dumps(parts).encode()).hexdigest()

    def draw(
        self,
        seed: Sequence[int],
        members: Iterable[int],
        config: SynthConfig,
        map_function: MapFunction = map,
    ) -> TrainingBatch:
        """See `draw_batch`."""
        return draw_batch(self.scenes, seed, members, config, map_function)


def draw_patch(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    count: int,
    config: SynthConfig,
    noise: NoiseModel | None = None,
) -> Patch:
    """Return a random training burst.

    Args:
        scenes: photos, of `config.photo_pixels` or more each way.
        rng: source of all randomness.
        count: number of frames.
        config: of the bursts.
        noise: the true noise of the reference; None for a random one.
    """
    planes = draw_planes(scenes, rng, count, config, draw_colours(rng, config))
    return capture(planes, rng, config, noise)


def draw_frame_count(seed: Sequence[int], config: SynthConfig) -> int:
    """Return the number of frames of the bursts in the batch that `seed` determines."""
    rng = np.random.default_rng(seed)
    full = config.frames == 1 or rng.random() < config.full
    return config.frames if full else int(rng.integers(1, config.frames))


def patch_rng(seed: Sequence[int], member: int) -> np.random.Generator:
    """Return the random generator of one burst of a batch, the same in every process."""
    # Counted from 1: to numpy, (a, b) and (a, b, 0) are the same seed, and (a, b) is the batch's.
    return np.random.default_rng((*seed, member + 1))


def draw_batch(
    scenes: Sequence[Scene],
    seed: Sequence[int],
    members: Iterable[int],
    config: SynthConfig,
    map_function: MapFunction = map,
) -> TrainingBatch:
    """Return bursts of the batch that `seed` determines: same arguments, same bytes.

    All bursts of a batch have the same number of frames.

    Args:
        scenes: photos.
        seed: of the batch.
        members: indices of the bursts in the batch, from 0; each of several processes draws
            its share.
        config: of the bursts.
        map_function: `map`, or the `map` method of a thread pool.
    """
    count = draw_frame_count(seed, config)

    def draw(member: int) -> Patch:
        return draw_patch(scenes, patch_rng(seed, member), count, config)

    return collate(list(map_function(draw, members)))
