"""The heart: aligned frames -> network -> clean planes. Knows planes, not files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..align.alignment import LineUp, line_up
from ..burst.frame import Frame
from ..image import tiling
from ..image.noise_model import NoiseModel
from ..network.kpn import KPN
from .residual_noise import noise_left
from .tile import Merger

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
#: (tests/merge/test_merge.py has the bound).
_HALO = 32


@dataclass(frozen=True)
class Denoised:
    """Clean planes and what is known about them.

    Attributes:
        planes: `(4, height, width)` float32, linear, 1.0 = white level.
        noise_left: the share of the noise's variance that is left in the picture; None where
            it wasn't asked for.
        fallen_back: the share of the picture that is the reference's, where the result
            contradicted it (`guard.guarded`).
    """

    planes: np.ndarray
    noise_left: float | None
    fallen_back: float = 0.0


def denoise_frames(
    network: KPN,
    frames: Sequence[Frame],
    shifts: Sequence[Tensor],
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
    tile: int = DEFAULT_TILE,
    tell_noise: bool = True,
    on_tile: Callable[[], None] = lambda: None,
) -> Denoised:
    """Merge frames into clean planes, the first being the reference.

    Args:
        network: on the device of the frames.
        frames: of equal size.
        shifts: where they lie (`alignment.line_up`).
        noise: of the reference.
        strength: multiplies the sigma that the network is told; beyond 1, more is smoothed.
        dtype: of the convolutions.
        tile: side of a tile in sensor pixels; memory grows with its square.
        tell_noise: whether to try out what is left of it, which of small pictures takes longer
            than to merge them.
        on_tile: called after each of `tile_count` tiles.
    """
    merger = Merger(network, frames, shifts, noise, strength=strength, dtype=dtype)
    shares: list[tuple[float, int]] = []  # of the result, and weight

    def process(rows: slice, columns: slice) -> np.ndarray:
        part = merger.part(rows, columns)
        shares.append((float(part.share.mean()), part.share.numel()))
        return part.clean[0].cpu().numpy()

    out = tiling.blend(process, 4, *frames[0].size, **_cut(network, tile), on_tile=on_tile)
    share, cells = zip(*shares, strict=True)
    left = noise_left(merger, frames[0].size) if tell_noise else None
    return Denoised(out, left, 1 - float(np.average(share, weights=cells)))


def denoise_burst(
    network: KPN,
    frames: Sequence[Frame],
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
    tile: int = DEFAULT_TILE,
    tell_noise: bool = True,
) -> tuple[Denoised, LineUp]:
    """Line up frames, the reference first, and denoise them."""
    found = line_up(frames, noise).best(network.config.frames)
    done = denoise_frames(
        network,
        found.frames,
        found.shifts,
        noise,
        strength=strength,
        dtype=dtype,
        tile=tile,
        tell_noise=tell_noise,
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
) -> Iterator[tuple[tiling.Span, tiling.Span]]:
    """Yield rows and columns of the tiles of planes, in cells, as `denoise_frames` cuts them."""
    cut = _cut(network, tile)
    for rows in tiling.spans(height, **cut):
        for columns in tiling.spans(width, **cut):
            yield rows, columns


def tile_count(network: KPN, height: int, width: int, tile: int = DEFAULT_TILE) -> int:
    """Number of tiles for planes of `height` and `width` cells."""
    return tiling.count(height, width, **_cut(network, tile))
