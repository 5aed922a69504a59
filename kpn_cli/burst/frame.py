"""One frame as the denoiser has it: samples, and how they become linear."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..image.noise_model import NoiseModel


@dataclass(frozen=True)
class Frame:
    """The samples of one frame and how they become linear.

    Attributes:
        samples: `(4, height, width)`, planes R, G1, G2, B, any dtype: uint16 as the
            camera recorded them, half the memory of floats.
        black, white: levels in units of `samples`, black for each plane.
        gain: by which the linear samples are multiplied, to match other frames.
    """

    samples: Tensor
    black: tuple[float, ...] = (0.0,) * 4
    white: float = 1.0
    gain: float = 1.0

    def linear(self, samples: Tensor) -> Tensor:
        """Map samples `(4, ...)` of this frame to float32, 0 = black, 1 = white level."""
        black = torch.tensor(self.black, device=samples.device).view(4, *[1] * (samples.dim() - 1))
        linear = samples.to(torch.float32, copy=True)
        return linear.sub_(black).mul_(self.gain / (self.white - black))

    def planes(self) -> np.ndarray:
        """Return all of it, linear: `(4, height, width)` float32."""
        return self.linear(self.samples).cpu().numpy()

    def to(self, device: torch.device) -> Frame:
        """The same on another device."""
        samples = self.samples
        if device.type != "cpu" and samples.dtype == torch.uint16:
            # Few operations know uint16 elsewhere.
            samples = samples.to(torch.int32)
        return replace(self, samples=samples.to(device))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.samples.shape[1], self.samples.shape[2]


def coefficients(noise: NoiseModel, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return shot and read noise as the network takes them, `(1, 4)` each."""
    return (
        torch.tensor([noise.shot], device=device),
        torch.tensor([noise.read], device=device),
    )
