"""The heart: aligned frames -> network -> clean planes. Knows planes, not files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import tiles
from .device import autocast
from .frame import Frame, coefficients
from .guard import guarded
from .lineup import LineUp, aligned_part, line_up
from .merge import Merged, merge, restore_in_bands
from .network import KPN
from .noise import NoiseModel

#: Side of a tile in sensor pixels, chosen by `--tile`; the network's working memory grows
#: with its square.
DEFAULT_TILE = 1536
SMALLEST_TILE = 96
#: Bytes that the network takes for a cell of a tile and its halo, besides those for each frame:
#: the most that was measured, in float32, rounded up (`benchmarks/memory.py`).
_BYTES_A_CELL, _BYTES_A_FRAME = 2000, 300
#: Of the memory that is free, so much may be used.
_SHARE = 0.5
#: Cells beyond a tile that the network sees; half of it is discarded. The
#: network that ships sees further; what that changes is lost in the noise that is left
#: (tests/test_denoiser.py has the bound).
_HALO = 32
#: The noise that is left is told from the middle of each tile, a part of so much of its
#: sides (the reciprocal), and from so many trials.
_TRIED, _NOISES = 4, 4


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

    More frames than the network takes are merged in groups, each with the reference, and
    the groups' results averaged.

    Args:
        network: on the device of the frames.
        frames: of equal size.
        shifts: where they lie (`lineup.line_up`).
        noise: of the reference.
        strength: multiplies the sigma that the network is told.
        dtype: of the convolutions.
        tile: side of a tile in sensor pixels; memory grows with its square.
        on_tile: called after each of `tile_count` tiles.
    """
    device = frames[0].samples.device
    told = coefficients(noise.with_strength(strength), device)
    # Who wants more noise taken away accepts that more of the rest goes with it.
    allowed = coefficients(noise.with_strength(max(strength, 1.0)), device)
    together = groups(len(frames), network.config.frames)
    left: list[tuple[float, float, int]] = []  # variance, share of the reference, and weight

    def process(rows: slice, columns: slice) -> np.ndarray:
        burst = aligned_part(frames, shifts, rows, columns)[None]
        with torch.inference_mode(), autocast(device, dtype):
            merged, trial = _merge_groups(network, burst, told, together)
            clean, share = guarded(merged.clean, burst[:, 0], merged.own, *allowed)
            kept = float(share.square().mean()) * trial + float((1 - share).square().mean())
        left.append((kept, 1 - float(share.mean()), share.numel()))
        return clean[0].cpu().numpy()

    out = tiles.blend(process, 4, *frames[0].size, **_cut(network, tile), on_tile=on_tile)
    variances, shares, cells = zip(*left, strict=True)
    variance = float(np.average(variances, weights=cells))
    return Denoised(
        out, None if np.isnan(variance) else variance, float(np.average(shares, weights=cells))
    )


def _merge_groups(
    network: KPN,
    burst: Tensor,
    told: tuple[Tensor, Tensor],
    together: Sequence[list[int]],
) -> tuple[Merged, float]:
    """Merge the groups of a burst, and the groups' results.

    Returns:
        The mean of the groups, and the variance it would leave of noise of variance 1; NaN
        where no kernels tell.
    """
    if network.config.output == "pixels":
        clean = torch.stack([network(burst[:, members], *told) for members in together]).mean(0)
        return Merged(clean, torch.zeros_like(clean[:, 0])), float("nan")
    parts, trials = [], []
    for members in together:
        frames = burst[:, members]
        x, weights = network.seen(frames, *told)
        parts.append(restore_in_bands(network, frames, x, weights))
        trials.append(_middle_kernels(network, x, weights))
    clean, own = (torch.stack(values).mean(0) for values in zip(*parts, strict=True))
    return Merged(clean, own), _noise_left(trials, together, burst.shape[1])


def _middle_kernels(network: KPN, x: Tensor, weights: Tensor) -> Tensor:
    """Kernels of the middle of a tile."""
    rows, columns = (
        slice(side // 2 - side // (2 * _TRIED), side // 2 + side // (2 * _TRIED) + 1)
        for side in x.shape[-2:]
    )
    return network.kernels(x[..., rows, columns], weights[..., rows, columns])


def _noise_left(kernels: Sequence[Tensor], together: Sequence[list[int]], count: int) -> float:
    """Variance that the groups' kernels leave, in the mean, of noise of variance 1.

    Tried out: kernels that follow on each other have no short formula.
    """
    generator = torch.Generator().manual_seed(0)
    size = kernels[0].shape[-2:]
    noise = torch.randn(1, count, _NOISES, *size, generator=generator).to(kernels[0])
    merged = [
        merge(noise[:, members], some) for some, members in zip(kernels, together, strict=True)
    ]
    return float(torch.stack(merged).mean(0).square().mean())


def denoise_burst(
    network: KPN,
    frames: Sequence[Frame],
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Denoised, LineUp]:
    """Line up frames, the reference first, and denoise them."""
    found = line_up(frames, noise)
    done = denoise_frames(
        network, found.frames, found.shifts, noise, strength=strength, dtype=dtype
    )
    return done, found


def _cut(network: KPN, tile: int) -> dict[str, int]:
    return {"tile": max(tile // 2, 1), "halo": _HALO, "grid": network.config.stride}


def tile_for(free_bytes: int, frames: int, network: KPN) -> int:
    """Return the side of tiles, in sensor pixels, for which so much free memory is enough.

    No larger than `DEFAULT_TILE`, so that it is the same, and with it the picture to the last
    bit, wherever memory isn't short.
    """
    frames = min(frames, network.config.frames)
    cells = _SHARE * free_bytes / (_BYTES_A_CELL + _BYTES_A_FRAME * frames)
    tile = DEFAULT_TILE
    while tile > SMALLEST_TILE and (tile // 2 + 2 * _HALO) ** 2 > cells:
        tile //= 2
    return tile


def tile_count(network: KPN, height: int, width: int, tile: int = DEFAULT_TILE) -> int:
    """Number of tiles for planes of `height` and `width` cells."""
    return tiles.count(height, width, **_cut(network, tile))
