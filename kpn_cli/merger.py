"""Frames that lie over each other -> clean planes, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from . import mixing
from .device import autocast
from .frame import Frame, coefficients
from .greens import balanced
from .guard import guarded
from .lineup import aligned_part
from .merge import Merged, merge, restore_in_bands, widely, widely_under
from .network import KPN, Written
from .noise import NoiseModel
from .strength import Widely, share_of_told, strengthened
from .understatement import understatement

#: The noise that is left is told from the middle of each part, so much of its sides (the
#: reciprocal).
_TRIED = 4


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
        own: `(1, rows, columns)`, the weight of the reference's own sample in what the
            network made.
        left: share of noise of variance 1 that the kernels leave in the middle; NaN where no
            kernels tell.
        seen: what the kernels of each group of frames are written from (`KPN.seen`), if it
            was to be kept.
    """

    burst: Tensor
    clean: Tensor
    share: Tensor
    own: Tensor
    left: float
    seen: list[tuple[Tensor, Tensor]]


class _Middle(NamedTuple):
    """What the network writes in the middle of a part, to try out what noise it leaves.

    Attributes:
        written: as the noise is told; beyond strength 1, as it is and as it is told.
        share: how far the latter counts (`strength.share_of_told`); None up to strength 1.
    """

    written: list[Written]
    share: Tensor | None = None


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
        self._true = coefficients(noise, self._device)
        self.told = coefficients(noise.with_strength(strength), self._device)
        # Who wants more noise taken away accepts that more of the rest goes with it; and where
        # too little is stated, it is not the result that is wrong.
        allowed = max(strength, 1.0) * understatement(frames, shifts, noise)
        self._allowed = coefficients(noise.with_strength(allowed), self._device)
        self.groups = groups(len(frames), network.config.frames)

    def part(self, rows: slice, columns: slice, *, keep: bool = False) -> Part:
        """Merge a part of the picture.

        Args:
            rows, columns: of the part, in cells.
            keep: whether its `kernels` will be asked for; 256 bytes a cell for each group.
        """
        burst = aligned_part(self._frames, self._shifts, rows, columns)[None]
        with torch.inference_mode(), autocast(self._device, self._dtype):
            seen, parts, middles = [], [], []
            for members in self.groups:
                frames = burst[:, members]
                if self._network.config.output == "pixels":
                    parts.append(self._pixels(frames))
                    continue
                merged, of_group, middle = self._merged(frames)
                parts.append(merged)
                middles.append(middle)
                if keep:
                    seen.append(of_group)
            clean, own = (torch.stack(values).mean(0) for values in zip(*parts, strict=True))
            clean = balanced(clean, burst[:, 0], own, *self.told)
            clean, share = guarded(clean, burst[:, 0], own, *self._allowed, burst[:, 1:])
            left = self._noise_left(middles, burst.shape[1]) if middles else float("nan")
        return Part(burst, clean, share, own, left, seen)

    def _merged(self, burst: Tensor) -> tuple[Merged, tuple[Tensor, Tensor], _Middle]:
        """Merge a group's frames.

        Returns:
            The result, what the kernels are written from as the noise is told, and what is
            written in the middle.
        """
        if self._strength <= 1:
            merged, written, seen = self._under(burst, self.told)
            return merged, seen, _Middle([written])
        plain, before = self._under(burst, self._true)[:2]
        told, after, seen = self._under(burst, self.told)
        shot, read = (value[:, :, None, None] for value in self._true)
        variance = (shot * plain.clean.clamp_min(0) + read).clamp_min_(1e-10)
        share = share_of_told(plain.clean, told.clean, variance)
        filtered = partial(widely, self._network, x=seen[0], weights=seen[1])
        merged = self._strengthened(plain, told, share, variance.sqrt_(), filtered)
        return merged, seen, _Middle([before, after], _middle(share))

    def _under(
        self, burst: Tensor, noise: tuple[Tensor, Tensor]
    ) -> tuple[Merged, Written, tuple[Tensor, Tensor]]:
        """Merge frames under the kernels of some noise, true or not."""
        seen = self._network.seen(burst, *noise)
        x, weights = (_middle(part) for part in seen)
        written = Written(self._network.kernels(x, weights), self._network.mixing(x))
        return restore_in_bands(self._network, burst, *seen), written, seen

    def _strengthened(
        self, plain: Merged, told: Merged, share: Tensor, sigma: Tensor, filtered: Widely
    ) -> Merged:
        wide = filtered if self._network.config.wide else None
        return strengthened(plain, told, share, sigma, self._strength, wide)

    def _noise_left(self, middles: Sequence[_Middle], count: int) -> float:
        """Variance that the groups' kernels leave, in the mean, of noise of variance 1.

        Tried out: kernels that follow on each other have no short formula.
        """
        generator = torch.Generator().manual_seed(0)
        kernels = middles[0].written[0].kernels
        noise = torch.randn(1, count, mixing.PLANES, *kernels.shape[-2:], generator=generator)
        noise = noise.to(kernels)
        left = []
        for middle, members in zip(middles, self.groups, strict=True):
            merged = [_without_own(merge(noise[:, members], *some)) for some in middle.written]
            if middle.share is not None:
                filtered = partial(widely_under, kernels=middle.written[-1].kernels)
                one = noise.new_ones(())
                merged = [self._strengthened(*merged, middle.share, one, filtered)]
            left.append(merged[0].clean)
        return float(torch.stack(left).mean(0).square().mean())

    def _pixels(self, burst: Tensor) -> Merged:
        return _without_own(self._network(burst, *self.told))

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

    @staticmethod
    def noise_left(part: Part) -> float:
        """Share of the reference's noise variance that is left; NaN where no kernels tell.

        The guard's mix s Y + (1 - s) X_0 has the variance s^2 L + 2 s (1 - s) a + (1 - s)^2: the
        result has a part a of the reference's own noise.
        """
        share, own = part.share[:, 0], part.own
        rest = (1 - share) * (2 * share * own + 1 - share)
        return float(share.square().mean()) * part.left + float(rest.mean())


def _middle(part: Tensor) -> Tensor:
    rows, columns = (
        slice(side // 2 - side // (2 * _TRIED), side // 2 + side // (2 * _TRIED) + 1)
        for side in part.shape[-2:]
    )
    return part[..., rows, columns]


def _without_own(clean: Tensor) -> Merged:
    return Merged(clean, torch.zeros_like(clean[:, 0]))
