"""Compare frames of different exposure: each with its own noise and its own clipping point.

All samples are in the reference's exposure: a frame that records g times the reference's signal is
scaled by 1/g (`Frame.gain`). At signal x its variance is then S x / g + O / g^2, and it clips at
1/g times its own clipping point. Where either of two frames is clipped, nothing is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..burst.frame import Frame, is_mixed, matched_noise, noise_coefficients
from ..image.noise_model import NoiseModel
from .clipping import exclude_clipped
from .robustness import robustness_weights, sigma_map

#: Side of the blocks whose brightness is compared, in cells.
_BLOCK_SIDE = 16
#: Share of the clipping point from which on a block may have lost light.
_CLIPPED = 0.98
#: A frame that clips this much earlier than the reference, or more, has its clipped samples
#: replaced. Frames of the reference's exposure clip where it does, but for the shutter's error.
_CLIPS_EARLIER = 0.98
#: Frames whose gains differ by less than this, in EV, are stabilised alike.
_ALIKE_EV = 0.25
#: Signal at which the light of frames is compared: shadows, where it is needed.
_SHADOW = 0.05


class Pair(NamedTuple):
    """How a reference and other frames of one exposure are made comparable.

    Attributes:
        noise: the mean of the reference's and theirs.
        clip: the lowest of their clipping points; infinite for bursts of one exposure.
        frames: indices of the others.
    """

    noise: NoiseModel
    clip: float
    frames: list[int]


def pairs(frames: Sequence[Frame], noise: NoiseModel) -> list[Pair]:
    """Return how each frame is made comparable with the reference: together if they are alike.

    With the mean of two noise models, the difference of the stabilised frames
    (`block_matching.stabilise`) has the noise that the aligner expects.

    Args:
        frames: the reference first.
        noise: of the reference.
    """
    others = list(range(1, len(frames)))
    if not others or not is_mixed(frames):
        return [Pair(noise, math.inf, others)] if others else []
    models = matched_noise(frames, noise)
    alike: dict[tuple[NoiseModel | None, int], list[int]] = {}
    for n in others:
        step = round(math.log2(frames[n].gain / frames[0].gain) / _ALIKE_EV)
        alike.setdefault((frames[n].noise, step), []).append(n)
    return [
        Pair(
            _mean_noise(models[0], models[members[0]]),
            min(frames[n].clip for n in (0, *members)),
            members,
        )
        for members in alike.values()
    ]


def _mean_noise(one: NoiseModel, other: NoiseModel) -> NoiseModel:
    coefficients = zip(one.shot, other.shot, one.read, other.read, strict=True)
    means = [((s + t) / 2, (o + p) / 2) for s, t, o, p in coefficients]
    (r, g1, g2, b) = means
    return NoiseModel((r[0], g1[0], g2[0], b[0]), (r[1], g1[1], g2[1], b[1]))


class Blocks(NamedTuple):
    """The brightness of blocks of `_BLOCK_SIDE` cells, in frames that may not be aligned.

    Attributes:
        sums: `(frames, blocks)` float64, over all cells and planes.
        sigma: `(frames, blocks)` float64, noise of the sums; or `(1, blocks)`, the reference's,
            if it is the same in all frames.
        usable: `(frames, blocks)` bool, blocks that are not clipped; None if all are used.
    """

    sums: Tensor
    sigma: Tensor
    usable: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Blocks]) -> Blocks:
        """Return the blocks of several parts of a picture as one."""
        usable = [part.usable for part in parts if part.usable is not None]
        return cls(
            torch.cat([part.sums for part in parts], 1),
            torch.cat([part.sigma for part in parts], 1),
            torch.cat(usable, 1) if usable else None,
        )

    def with_reference(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is compared of a frame: its sums, the reference's, and the noise of either.

        `(blocks,)` each; the root mean square of their noise, if it differs.
        """
        if len(self.sigma) == 1:
            return self.sums[n], self.sums[0], self.sigma[0]
        sigma = ((self.sigma[0].square() + self.sigma[n].square()) / 2).sqrt()
        chosen = slice(None) if self.usable is None else self.usable[0] & self.usable[n]
        return self.sums[n, chosen], self.sums[0, chosen], sigma[chosen]


def plain_blocks(burst: Tensor, sigma: Tensor) -> Blocks:
    """Return the blocks of frames that have one noise.

    Args:
        burst: `(frames, 4, height, width)`, linear.
        sigma: `(1, 4, height, width)`, of its noise.
    """
    # In this order: MPS has no float64.
    return Blocks(
        _sums(burst).cpu().double(),
        _sums(sigma.square()).sqrt().cpu().double(),
    )


def blocks(burst: Tensor, frames: Sequence[Frame], noise: NoiseModel) -> Blocks:
    """Return the blocks of frames of mixed exposure.

    Args:
        burst: `(frames, 4, height, width)`, their samples, linear.
        frames: the reference first.
        noise: of the reference.
    """
    shot, read = _coefficients(frames, noise, burst.device)
    sigma = _sigmas(burst[:1], shot, read)
    limits = torch.tensor([_CLIPPED * frame.clip for frame in frames], device=burst.device)
    clipped = (burst >= limits[:, None, None, None]).to(burst.dtype)
    plain = plain_blocks(burst, sigma)
    return plain._replace(usable=(_sums(clipped) == 0).cpu())


def _sigmas(reference: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Return `robustness.sigma_map` for the coefficients of each frame, `(frames, 4)`."""
    return torch.cat([sigma_map(reference, shot[n, None], read[n, None]) for n in range(len(shot))])


def _sums(planes: Tensor) -> Tensor:
    """Sum over blocks and planes: `(frames, 4, height, width)` -> `(frames, blocks)`."""
    side = min(_BLOCK_SIDE, *planes.shape[-2:])
    rows, columns = (length // side for length in planes.shape[-2:])
    cut = planes[..., : rows * side, : columns * side].reshape(
        *planes.shape[:2], rows, side, columns, side
    )
    return cut.sum((1, 3, 5)).flatten(1)


@dataclass(frozen=True)
class Agreement:
    """How far other frames agree with the reference where neither is clipped.

    Attributes:
        burst: `(frames, 4, height, width)`, with `clipping.exclude_clipped`.
        variance: `(4, height, width)`, noise of the noisiest frame.
        weights: `(frames - 1, height, width)`, robustness weights.
        comparable: of the same shape: 1 where the frames can be compared, 0 where one is clipped.
    """

    burst: Tensor
    variance: Tensor
    weights: Tensor
    comparable: Tensor


def agreement(burst: Tensor, frames: Sequence[Frame], noise: NoiseModel) -> Agreement:
    """Compare aligned frames of mixed exposure with the reference.

    Args:
        burst, frames, noise: as for `blocks`.
    """
    comparable = Comparable(frames, noise, burst.device)
    part, unclipped = comparable.exclude(burst[None])
    variance = _sigmas(part[0, :1], comparable.shot[0], comparable.read[0]).square_()
    differences = (part[0, 1:] - part[0, :1]) / (variance[1:] + variance[:1]).sqrt()
    weights = robustness_weights(differences[None])[0]
    return Agreement(part[0], variance.amax(0), weights, unclipped[0, 1:])


class Comparable:
    """What makes the samples of a burst of mixed exposure comparable.

    Attributes:
        shot, read: `(1, frames, 4)` variance coefficients in the reference's exposure.
        clips: `(1, frames)`, the signal from which on each frame is clipped.
    """

    def __init__(self, frames: Sequence[Frame], noise: NoiseModel, device: torch.device) -> None:
        shot, read = _coefficients(frames, noise, device)
        self.shot, self.read = shot[None], read[None]
        self.clips = torch.tensor([[frame.clip for frame in frames]], device=device)
        self._limit = frames[0].clip
        later = self.clips >= _CLIPS_EARLIER * self._limit
        self._earlier_clips = self.clips.masked_fill(later, math.inf)

    def exclude(self, burst: Tensor) -> tuple[Tensor, Tensor]:
        """Return a burst that is clipped where the reference is, without clipped samples of others.

        Args:
            burst: `(batch, frames, 4, height, width)`, linear.

        Returns:
            As `clipping.exclude_clipped`.
        """
        clipped = burst.clamp_max(self._limit)
        return exclude_clipped(clipped, self.shot, self.read, self._earlier_clips)


def _coefficients(
    frames: Sequence[Frame], noise: NoiseModel, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return shot and read noise of each frame in the reference's exposure: `(frames, 4)` each."""
    pairs = [noise_coefficients(model, device) for model in matched_noise(frames, noise)]
    shot, read = zip(*pairs, strict=True)
    return torch.cat(shot), torch.cat(read)


def light_of(frames: Sequence[Frame], robustness: Sequence[float]) -> list[float]:
    """Return what each frame is worth: its agreement, times its light over the reference's.

    Args:
        frames: the reference first.
        robustness: mean robustness of each, 0 to 1.
    """
    if not is_mixed(frames) or frames[0].noise is None:
        return list(robustness)
    variances = [
        sum(model.shot) * _SHADOW + sum(model.read)
        for model in matched_noise(frames, frames[0].noise)
    ]
    return [
        value * variances[0] / max(variance, 1e-20)
        for value, variance in zip(robustness, variances, strict=True)
    ]
