"""The heart: aligned frames -> network -> clean planes. Knows planes, not files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from . import mixing, tiles
from .device import autocast
from .frame import Frame, coefficients
from .greens import balanced
from .guard import guarded
from .lineup import LineUp, aligned_part, line_up
from .merge import Merged, merge, restore_in_bands, widely, widely_under
from .network import KPN, Written
from .noise import NoiseModel
from .strength import Widely, strengthened

#: Side of a tile in sensor pixels, chosen by `--tile`; the network's working memory grows
#: with its square.
DEFAULT_TILE = 1536
SMALLEST_TILE = 96
#: Bytes that the network takes for a cell of a tile and its halo, besides those for each frame:
#: the most that was measured, in float32, rounded up (`benchmarks/memory.py`).
_BYTES_A_CELL, _BYTES_A_FRAME = 2300, 40
#: Of the memory that is free, so much may be used.
_SHARE = 0.5
#: Cells beyond a tile that the network sees; half of it is discarded. The
#: network that ships sees further; what that changes is lost in the noise that is left
#: (tests/test_denoiser.py has the bound).
_HALO = 32
#: The noise that is left is told from the middle of each tile, a part of so much of its
#: sides (the reciprocal).
_TRIED = 4


@dataclass(frozen=True)
class Denoised:
    """Clean planes and what is known about them.

    Attributes:
        planes: `(4, height, width)` float32, linear, 1.0 = white level.
        noise_left: the share of the reference's noise variance that is left, a
            mean over the picture, if the noise of all samples is independent; None
            where no kernels tell.
        fallen_back: the share of the picture that is the reference's, where the result
            contradicted it (`guard.guarded`).
    """

    planes: np.ndarray
    noise_left: float | None
    fallen_back: float = 0.0


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
        # The noise as it is, where strength goes beyond that, and as the network is told it.
        self._levels = [
            coefficients(noise.with_strength(level), self._device)
            for level in sorted({min(strength, 1.0), strength})
        ]
        self.told = self._levels[-1]
        # Who wants more noise taken away accepts that more of the rest goes with it.
        self._allowed = coefficients(noise.with_strength(max(strength, 1.0)), self._device)
        self.groups = groups(len(frames), network.config.frames)

    def part(self, rows: slice, columns: slice, *, keep: bool = False) -> Part:
        """Merge a part of the picture.

        Args:
            rows, columns: of the part, in cells.
            keep: whether its `kernels` will be asked for; 256 bytes a cell for each group.
        """
        burst = aligned_part(self._frames, self._shifts, rows, columns)[None]
        with torch.inference_mode(), autocast(self._device, self._dtype):
            seen, parts, written = [], [], []
            for members in self.groups:
                frames = burst[:, members]
                if self._network.config.output == "pixels":
                    parts.append(self._pixels(frames))
                    continue
                merged, of_group, in_the_middle = self._merged(frames)
                parts.append(merged)
                written.append(in_the_middle)
                if keep:
                    seen.append(of_group)
            clean, own = (torch.stack(values).mean(0) for values in zip(*parts, strict=True))
            clean = balanced(clean, burst[:, 0], own, *self.told)
            clean, share = guarded(clean, burst[:, 0], own, *self._allowed, burst[:, 1:])
            left = self._noise_left(written, burst.shape[1]) if written else float("nan")
        return Part(burst, clean, share, own, left, seen)

    def _merged(self, burst: Tensor) -> tuple[Merged, tuple[Tensor, Tensor], list[Written]]:
        """Merge a group's frames.

        Returns:
            The result, what the kernels are written from, and what is written in the middle,
            for each level of noise.
        """
        merged, written = [], []
        for told in self._levels:
            seen = self._network.seen(burst, *told)
            merged.append(restore_in_bands(self._network, burst, *seen))
            x, weights = _middle(seen)
            written.append(Written(self._network.kernels(x, weights), self._network.mixing(x)))
        shot, read = (level[:, :, None, None] for level in self._levels[0])
        variance = (shot * merged[0].clean.clamp_min(0) + read).clamp_min_(1e-10)
        filtered = partial(widely, self._network, x=seen[0], weights=seen[1])
        return self._strengthened(merged, variance, filtered), seen, written

    def _strengthened(self, merged: list[Merged], variance: Tensor, filtered: Widely) -> Merged:
        if len(merged) == 1:
            return merged[0]
        wide = filtered if self._network.config.wide else None
        return strengthened(*merged, variance, self._strength, wide)

    def _noise_left(self, written: Sequence[list[Written]], count: int) -> float:
        """Variance that the groups' kernels leave, in the mean, of noise of variance 1.

        Tried out: kernels that follow on each other have no short formula.
        """
        generator = torch.Generator().manual_seed(0)
        kernels = written[0][0].kernels
        noise = torch.randn(1, count, mixing.PLANES, *kernels.shape[-2:], generator=generator)
        noise = noise.to(kernels)
        left = []
        for group, members in zip(written, self.groups, strict=True):
            merged = [merge(noise[:, members], *some) for some in group]
            merged = [Merged(clean, torch.zeros_like(clean[:, 0])) for clean in merged]
            filtered = partial(widely_under, kernels=group[-1].kernels)
            left.append(self._strengthened(merged, noise.new_ones(()), filtered).clean)
        return float(torch.stack(left).mean(0).square().mean())

    def _pixels(self, burst: Tensor) -> Merged:
        clean = self._network(burst, *self.told)
        return Merged(clean, torch.zeros_like(clean[:, 0]))

    def kernels(
        self, part: Part, rows: slice = slice(None), columns: slice = slice(None)
    ) -> list[Tensor]:
        """Return the kernels of each group in some of a part that was kept; 900 bytes a cell.

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


def _middle(seen: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    rows, columns = (
        slice(side // 2 - side // (2 * _TRIED), side // 2 + side // (2 * _TRIED) + 1)
        for side in seen[0].shape[-2:]
    )
    return tuple(part[..., rows, columns] for part in seen)


def denoise_frames(
    network: KPN,
    frames: Sequence[Frame],
    shifts: Sequence[Tensor],
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
    tile: int = DEFAULT_TILE,
    on_tile: Callable[[], None] = lambda: None,
) -> Denoised:
    """Merge frames into clean planes, the first being the reference.

    Args:
        network: on the device of the frames.
        frames: of equal size.
        shifts: where they lie (`lineup.line_up`).
        noise: of the reference.
        strength: multiplies the sigma that the network is told; beyond 1, more is smoothed.
        dtype: of the convolutions.
        tile: side of a tile in sensor pixels; memory grows with its square.
        on_tile: called after each of `tile_count` tiles.
    """
    merger = Merger(network, frames, shifts, noise, strength=strength, dtype=dtype)
    left: list[tuple[float, float, int]] = []  # variance, share of the reference, and weight

    def process(rows: slice, columns: slice) -> np.ndarray:
        part = merger.part(rows, columns)
        fallen_back = 1 - float(part.share.mean())
        left.append((merger.noise_left(part), fallen_back, part.share.numel()))
        return part.clean[0].cpu().numpy()

    out = tiles.blend(process, 4, *frames[0].size, **_cut(network, tile), on_tile=on_tile)
    variances, shares, cells = zip(*left, strict=True)
    variance = float(np.average(variances, weights=cells))
    return Denoised(
        out, None if np.isnan(variance) else variance, float(np.average(shares, weights=cells))
    )


def denoise_burst(
    network: KPN,
    frames: Sequence[Frame],
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Denoised, LineUp]:
    """Line up frames, the reference first, and denoise them."""
    found = line_up(frames, noise).best(network.config.frames)
    done = denoise_frames(
        network, found.frames, found.shifts, noise, strength=strength, dtype=dtype
    )
    return done, found


def _cut(network: KPN, tile: int) -> dict[str, int]:
    return {"tile": max(tile // 2, 1), "halo": _HALO, "grid": network.config.stride}


def tile_for(free_bytes: int, frames: int) -> int:
    """Return the side of tiles, in sensor pixels, for which so much free memory is enough.

    No larger than `DEFAULT_TILE`, so that it is the same, and with it the picture to the last
    bit, wherever memory isn't short.
    """
    cells = _SHARE * free_bytes / (_BYTES_A_CELL + _BYTES_A_FRAME * frames)
    tile = DEFAULT_TILE
    while tile > SMALLEST_TILE and (tile // 2 + 2 * _HALO) ** 2 > cells:
        tile //= 2
    return tile


def tile_spans(
    network: KPN, height: int, width: int, tile: int = DEFAULT_TILE
) -> Iterator[tuple[tiles.Span, tiles.Span]]:
    """Yield rows and columns of the tiles of planes, in cells, as `denoise_frames` cuts them."""
    cut = _cut(network, tile)
    for rows in tiles.spans(height, **cut):
        for columns in tiles.spans(width, **cut):
            yield rows, columns


def tile_count(network: KPN, height: int, width: int, tile: int = DEFAULT_TILE) -> int:
    """Number of tiles for planes of `height` and `width` cells."""
    return tiles.count(height, width, **_cut(network, tile))
