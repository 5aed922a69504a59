"""One frame in memory: its samples, and the levels that make them linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..image.noise_model import NoiseModel


@dataclass(frozen=True)
class Frame:
    """The samples of one frame and the levels that make them linear.

    Attributes:
        samples: `(4, height, width)`, planes R, G1, G2, B, any dtype; uint16 as the
            camera recorded them take half the memory of floats.
        black: black level of each plane, in units of `samples`.
        white: white level, in units of `samples`.
        gain: factor of the linear samples, which matches the frame to others.
        noise: of the linear samples before `gain`, in bursts whose frames differ in exposure; None
            for the reference's.
        saturation: signal from which on samples are clipped, before `gain`; 1 is white.
    """

    samples: Tensor
    black: tuple[float, ...] = (0.0,) * 4
    white: float = 1.0
    gain: float = 1.0
    noise: NoiseModel | None = None
    saturation: float = 1.0

    @classmethod
    def of_planes(cls, planes: np.ndarray) -> Frame:
        """Return a frame of linear planes `(4, height, width)` float32; it shares their memory."""
        return cls(torch.from_numpy(planes))

    def linear(self, samples: Tensor, out: Tensor | None = None) -> Tensor:
        """Return samples `(4, ...)` of this frame as float32: 0 is black, `gain` is white.

        Args:
            samples: in units of the frame's own.
            out: of the same shape, float32, to be overwritten; None for new memory.
        """
        black = torch.tensor(self.black, device=samples.device).view(4, *[1] * (samples.dim() - 1))
        linear = samples.to(torch.float32, copy=True) if out is None else out.copy_(samples)
        return linear.sub_(black).mul_(self.gain / (self.white - black))

    def planes(self) -> np.ndarray:
        """Return the whole frame, linear as by `linear`: `(4, height, width)` float32."""
        return self.linear(self.samples).cpu().numpy()

    def to(self, device: torch.device) -> Frame:
        """Return the frame on another device."""
        samples = self.samples
        if device.type != "cpu" and samples.dtype == torch.uint16:
            # Other devices support few operations on uint16.
            samples = samples.to(torch.int32)
        return replace(self, samples=samples.to(device))

    @property
    def clip(self) -> float:
        """The signal from which on linear samples are clipped: `saturation`, times `gain`."""
        return self.saturation * self.gain

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.samples.shape[1], self.samples.shape[2]


def noise_coefficients(noise: NoiseModel, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return shot and read noise as the network takes them: `(1, 4)` float32 each."""
    return (
        torch.tensor([noise.shot], device=device),
        torch.tensor([noise.read], device=device),
    )


def is_mixed(frames: Sequence[Frame]) -> bool:
    """Whether the frames of a burst differ in exposure, so that each has a noise model."""
    return any(frame.noise is not None for frame in frames)


def matched_noise(frames: Sequence[Frame], noise: NoiseModel) -> list[NoiseModel]:
    """Return the noise model of each frame's linear samples, `gain` included.

    Args:
        frames: the reference first.
        noise: of the reference.
    """
    return [noise if f.noise is None else f.noise.scaled(f.gain) for f in frames]
