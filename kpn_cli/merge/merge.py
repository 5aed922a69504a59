"""Merge a whole picture: aligned frames -> network -> clean planes, tile by tile.

This module knows planes, not files; `pipeline` reads and writes those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from ..align.alignment import AlignedBurst, align_burst
from ..burst.frame import Frame
from ..image import tiling
from ..image.noise_model import NoiseModel
from ..network.kpn import KPN
from ..noise.profile_check import UNDERSTATED, observed_sigma_ratio, raise_noise
from .headroom import Headroom
from .residual_noise import measure_residual_noise
from .tile import TileMerger

#: Side of a tile in sensor pixels, chosen by `--tile`; the network's working memory grows
#: with its square.
DEFAULT_TILE = 1536
SMALLEST_TILE = 96
#: Bytes that the network needs for each cell of a tile and its halo, and in addition for each
#: frame: the most that was measured in whole tiles, in float32, rounded up
#: (`benchmarks/memory.py`). Integers need less; they take the same tiles.
_BYTES_PER_CELL, _BYTES_PER_FRAME = 2300, 40
#: Share of the free memory that may be used.
_MEMORY_SHARE = 0.5
#: Cells beyond a tile that are merged with it: a share of what the network sees, and at least what
#: all else sees. Three quarters of them are discarded. What the cut changes is lost in the residual
#: noise (tests/merge/test_merge.py has the bound).
_HALO_SHARE, _SMALLEST_HALO = 0.65, 32


@dataclass(frozen=True)
class Denoised:
    """Clean planes and what was measured of them.

    Attributes:
        planes: `(4, height, width)` float32, linear, 1.0 = white level.
        residual_noise: share of the noise's variance that is left in the picture, 0 to 1, of the
            noise that was assumed at strength 1; None if it was not measured.
        fallback_share: share of the picture that is the reference's, where the result
            contradicted it (`guard.fall_back_to_reference`), 0 to 1.
        white: signal that the output's white level stands for, over what it stands for else; above
            1 where shorter exposures made room, and then the planes hold values up to this many
            times the reference's clipping point.
    """

    planes: np.ndarray
    residual_noise: float | None
    fallback_share: float = 0.0
    white: float = 1.0


def denoise_frames(
    network: KPN,
    frames: Sequence[Frame],
    shifts: Sequence[Tensor],
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
    tile: int = DEFAULT_TILE,
    measure_residual: bool = True,
    observed: float | None = None,
    headroom: Headroom | None = None,
    on_tile: Callable[[], None] = lambda: None,
) -> Denoised:
    """Merge frames into clean planes, the first being the reference.

    Args:
        network: on the device of the frames.
        frames: of equal size.
        shifts: of each frame (`alignment.AlignedBurst`).
        noise: of the reference.
        strength: multiplies the sigma that the network assumes; above 1, more is smoothed.
        dtype: of the convolutions.
        tile: side of a tile in sensor pixels; memory grows with its square.
        measure_residual: whether to measure the residual noise; for small pictures that takes
            longer than merging them.
        observed: `profile_check.observed_sigma_ratio` of these frames; None to measure it. If they
            certainly show more noise than `noise`, that is assumed.
        headroom: how the picture goes on beyond the reference's white level; None to end there. If
            nothing is brighter, the result is that without headroom: fills would only add noise.
        on_tile: called after each of `tile_count` tiles.
    """
    if observed is None:
        observed = observed_sigma_ratio(frames, shifts, noise)
    if observed >= UNDERSTATED:
        frames, noise = raise_noise(frames, noise, observed)
        observed = 1.0
    merger = TileMerger(
        network,
        frames,
        shifts,
        noise,
        strength=strength,
        dtype=dtype,
        observed=observed,
        headroom=headroom,
    )
    shares: list[tuple[float, int]] = []  # of the network's result in a tile, and its cells
    filled, brighter = [False], [False]  # of the tiles

    def process(rows: slice, columns: slice) -> np.ndarray:
        merged = merger.merge(rows, columns)
        shares.append((float(merged.share.mean()), merged.share.numel()))
        filled.append(merged.filled)
        brighter.append(merged.brighter)
        return merged.clean[0].cpu().numpy()

    size = frames[0].size
    out = tiling.blend(process, 4, *size, **_tiling(network, tile), on_tile=on_tile)
    if any(filled) and not any(brighter):
        return denoise_frames(
            network,
            frames,
            shifts,
            noise,
            strength=strength,
            dtype=dtype,
            tile=tile,
            measure_residual=measure_residual,
            observed=observed,
        )
    share, cells = zip(*shares, strict=True)
    residual = None
    if measure_residual:
        planes = torch.from_numpy(out).to(frames[0].samples.device)
        residual = measure_residual_noise(merger, size, planes)
    white = headroom.white if headroom is not None and any(brighter) else 1.0
    return Denoised(out, residual, 1 - float(np.average(share, weights=cells)), white)


def merge_part(
    merger: TileMerger,
    network: KPN,
    size: tuple[int, int],
    part: tuple[slice, slice],
    tile: int = DEFAULT_TILE,
) -> np.ndarray:
    """Merge a part of a picture and no more of its surroundings than a tile has.

    Args:
        merger: of the burst.
        network: that it uses.
        size: rows and columns of the whole picture, in cells.
        part: its rows and columns, in cells.
        tile: side of a tile in sensor pixels.

    Returns:
        `(4, rows, columns)` float32, linear: what `denoise_frames` returns there, but for what
        the network sees beyond the end of a tile.
    """
    arguments = _tiling(network, tile)
    grid, halo = arguments["grid"], arguments["halo"]
    starts = [max(span.start - halo, 0) // grid * grid for span in part]
    stops = [min(span.stop + halo, side) for span, side in zip(part, size, strict=True)]

    def process(rows: slice, columns: slice) -> np.ndarray:
        places = (
            slice(start + span.start, start + span.stop)
            for start, span in zip(starts, (rows, columns), strict=True)
        )
        return merger.merge(*places).clean[0].cpu().numpy()

    height, width = (stop - start for start, stop in zip(starts, stops, strict=True))
    around = tiling.blend(process, 4, height, width, **arguments)
    rows, columns = (
        slice(span.start - start, span.stop - start)
        for start, span in zip(starts, part, strict=True)
    )
    return around[:, rows, columns]


def denoise_burst(
    network: KPN,
    frames: Sequence[Frame],
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
    tile: int = DEFAULT_TILE,
    measure_residual: bool = True,
    stated: Sequence[float] | None = None,
) -> tuple[Denoised, AlignedBurst]:
    """Align frames, the reference first, and denoise them.

    Arguments as for `denoise_frames`, and `stated` as for `alignment.align_burst`.
    """
    aligned = align_burst(frames, noise, stated=stated).keep_best(network.config.frames)
    done = denoise_frames(
        network,
        aligned.frames,
        aligned.shifts,
        noise,
        strength=strength,
        dtype=dtype,
        tile=tile,
        measure_residual=measure_residual,
    )
    return done, aligned


class _Tiling(TypedDict):
    """Arguments of `tiling.spans`."""

    tile: int
    halo: int
    grid: int
    equal: bool


def _tiling(network: KPN, tile: int) -> _Tiling:
    """Return the arguments of `tiling.spans` for a tile, whose side is in sensor pixels."""
    return {
        "tile": max(tile // 2, 1),
        "halo": _halo(network),
        "grid": network.config.stride,
        "equal": network.engine is not None,  # which is compiled for each size of tile
    }


def _halo(network: KPN) -> int:
    """Return the cells beyond a tile that are merged with it, a multiple of the stride."""
    stride = network.config.stride
    halo = max(network.config.reach * _HALO_SHARE, _SMALLEST_HALO)
    return math.ceil(halo / stride) * stride


def tile_side(network: KPN, free_bytes: int, frames: int) -> int:
    """Return the side of the largest tiles, in sensor pixels, that fit into free memory.

    No larger than `DEFAULT_TILE`, so that it is the same, and with it the picture to the last
    bit, unless memory is short; no smaller than `SMALLEST_TILE`.

    Args:
        network: that will merge them.
        free_bytes: of memory.
        frames: that are merged at once.
    """
    cells = _MEMORY_SHARE * free_bytes / (_BYTES_PER_CELL + _BYTES_PER_FRAME * frames)
    tile = DEFAULT_TILE
    while tile > SMALLEST_TILE and (tile // 2 + 2 * _halo(network)) ** 2 > cells:
        tile //= 2
    return tile


def tile_spans(
    network: KPN, height: int, width: int, tile: int = DEFAULT_TILE
) -> Iterator[tuple[tiling.Span, tiling.Span]]:
    """Yield rows and columns of the tiles of planes, in cells, as `denoise_frames` cuts them.

    Args:
        network: that will merge them.
        height, width: of the planes, in cells.
        tile: side of a tile in sensor pixels.
    """
    arguments = _tiling(network, tile)
    for rows in tiling.spans(height, **arguments):
        for columns in tiling.spans(width, **arguments):
            yield rows, columns


def tile_count(network: KPN, height: int, width: int, tile: int = DEFAULT_TILE) -> int:
    """Return the number of tiles of planes of `height` x `width` cells; see `tile_spans`."""
    return tiling.count(height, width, **_tiling(network, tile))
