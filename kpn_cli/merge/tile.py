"""Frames that lie over each other -> clean planes, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..align.warp import aligned_part
from ..burst.frame import Frame, noise_coefficients
from ..image.noise_model import NoiseModel
from ..network.kpn import KPN
from ..network.restore import Merged, restore_in_bands, widely
from ..noise.profile_check import understatement
from ..system.device import autocast
from .green_equilibration import balanced
from .guard import CLIPPED, guarded
from .strength import share_of_told, strengthened

#: What is left of noise is tried out with so many sigmas more of it: beyond a quarter the result
#: takes it for something else, and a tenth is still far more than the rounding of bf16.
_NUDGE = 0.1


def groups(count: int, most: int) -> list[list[int]]:
    """Share out frames 0 to count - 1, of which a network takes at most `most` at a time.

    The reference, 0, is in every group; the others are dealt out in turn.
    """
    if most == 1 or count == 1:
        return [[0]]
    number = -(-(count - 1) // (most - 1))
    return [[0, *range(1 + first, count, number)] for first in range(number)]


@dataclass(frozen=True)
class Part:
    """What becomes of a part of the picture.

    Attributes:
        burst: `(1, frames, 4, rows, columns)`, linear, over the reference.
        clean: `(1, 4, rows, columns)`.
        share: `(1, 1, rows, columns)` of what the network made in `clean`; the rest is the
            reference (`guard.guarded`).
        seen: what the kernels of each group of frames are written from (`KPN.seen`), if it
            was to be kept.
    """

    burst: Tensor
    clean: Tensor
    share: Tensor
    seen: list[tuple[Tensor, Tensor]]


class Merger:
    """Merges frames, part by part; more than the network takes, in groups.

    Each group has the reference in it, and the groups' results are averaged.

    Attributes:
        told: shot and read noise as the network is told them, `(1, 4)` each.
        groups: the frames' numbers, group by group.
    """

    def __init__(
        self,
        network: KPN,
        frames: Sequence[Frame],
        shifts: Sequence[Tensor],
        noise: NoiseModel,
        *,
        strength: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """See `denoise_frames`."""
        self._network, self._frames, self._shifts = network, frames, shifts
        self._strength = strength
        self._device, self._dtype = frames[0].samples.device, dtype
        self._true = noise_coefficients(noise, self._device)
        self.told = noise_coefficients(noise.with_strength(strength), self._device)
        # Who wants more noise taken away accepts that more of the rest goes with it; and where
        # too little is stated, it is not the result that is wrong.
        allowed = max(strength, 1.0) * understatement(frames, shifts, noise)
        self._allowed = noise_coefficients(noise.with_strength(allowed), self._device)
        self.groups = groups(len(frames), network.config.frames)

    def part(self, rows: slice, columns: slice, *, keep: bool = False) -> Part:
        """Merge a part of the picture.

        Args:
            rows, columns: of the part, in cells.
            keep: whether its `kernels` will be asked for; 256 bytes a cell for each group.
        """
        burst = aligned_part(self._frames, self._shifts, rows, columns)[None]
        with torch.inference_mode(), autocast(self._device, self._dtype):
            return self._part(burst, keep)

    def _part(self, burst: Tensor, keep: bool) -> Part:
        seen, parts = [], []
        for members in self.groups:
            frames = burst[:, members]
            if self._network.config.output == "pixels":
                parts.append(self._pixels(frames))
                continue
            merged, of_group = self._merged(frames)
            parts.append(merged)
            if keep:
                seen.append(of_group)
        clean, own = (torch.stack(values).mean(0) for values in zip(*parts, strict=True))
        clean = balanced(clean, burst[:, 0], own, *self.told)
        clean, share = guarded(clean, burst[:, 0], own, *self._allowed, burst[:, 1:])
        return Part(burst, clean, share, seen)

    def tried(self, part: Part, rows: slice, columns: slice, generator: torch.Generator) -> Tensor:
        """Try out what is left of noise: of a little more of it, added to all frames.

        Thus the kernels may follow the noise, as they do; taken for fixed they leave less.

        Args:
            part: of the picture, as it was merged.
            rows, columns: cells of the part that are asked for; those at its border lack what
                is beyond.
            generator: of the noise, on the CPU.

        Returns:
            For each sample the square of its change, over the variance of what was added; for
            `share_left`. None for clipped ones, which have no noise.
        """
        noise = torch.randn(part.burst.shape, generator=generator).to(part.burst)
        with torch.inference_mode(), autocast(self._device, self._dtype):
            sigma = self._variance(part.clean).sqrt_().mul_(_NUDGE)
            unclipped = part.burst < CLIPPED
            nudged = part.burst.addcmul(noise.mul_(unclipped), sigma[:, None])
            clean = self._part(nudged, keep=False).clean
            squares = ((clean - part.clean) / sigma).square_()
            return squares[..., rows, columns][unclipped[:, 0, :, rows, columns]]

    def _variance(self, clean: Tensor) -> Tensor:
        """Variance of the noise, as it is, in the reference of clean planes."""
        shot, read = (value[:, :, None, None] for value in self._true)
        return (shot * clean.clamp_min(0) + read).clamp_min_(1e-10)

    def _merged(self, burst: Tensor) -> tuple[Merged, tuple[Tensor, Tensor]]:
        """Merge a group's frames.

        Returns:
            The result, and what the kernels are written from as the noise is told.
        """
        if self._strength <= 1:
            return self._under(burst, self.told)
        plain, _ = self._under(burst, self._true)
        told, seen = self._under(burst, self.told)
        variance = self._variance(plain.clean)
        share = share_of_told(plain.clean, told.clean, variance)
        filtered = None
        if self._network.config.wide:
            filtered = partial(widely, self._network, x=seen[0], weights=seen[1])
        merged = strengthened(plain, told, share, variance.sqrt_(), self._strength, filtered)
        return merged, seen

    def _under(
        self, burst: Tensor, noise: tuple[Tensor, Tensor]
    ) -> tuple[Merged, tuple[Tensor, Tensor]]:
        """Merge frames under the kernels of some noise, true or not."""
        seen = self._network.seen(burst, *noise)
        return restore_in_bands(self._network, burst, *seen), seen

    def _pixels(self, burst: Tensor) -> Merged:
        clean = self._network(burst, *self.told)
        return Merged(clean, torch.zeros_like(clean[:, 0]))

    def kernels(
        self, part: Part, rows: slice = slice(None), columns: slice = slice(None)
    ) -> list[Tensor]:
        """Return the kernels of each group in some of a part that was kept; 900 bytes a cell.

        Beyond strength 1 they are those of the noise as it is told, which count where it takes
        away more than noise.

        Returns:
            `(1, members, K*K, rows, columns)` each, and one kernel more where there is a wide
            one; none from a network that writes pixels.
        """
        with torch.inference_mode():
            return [
                self._network.kernels(x[..., rows, columns], weights[..., rows, columns])
                for x, weights in part.seen
            ]
