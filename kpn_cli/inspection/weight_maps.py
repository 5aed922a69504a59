"""Maps of what the network does with all of a burst: whom it trusts where, and how noisy it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..align.robustness import sigma_map
from ..errors import KpnError
from ..image.orientation import upright
from ..image.tiling import Span
from ..merge import merge, residual_noise
from ..merge.tile import MergedTile, TileMerger
from ..network.kpn import KPN

#: Long side of maps, in samples, at most.
_LONG = 720
#: Rows of cells whose kernels are made together: those of a whole tile would fill the memory.
_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Maps of all the picture, upright, each sample the mean of `cells` x `cells` cells.

    Attributes:
        cells: see above.
        weights: `(frames, rows, columns)`, total weight of each frame; they sum to 1.
        share: `(rows, columns)` of what the kernels made in the result; the rest is the
            reference's, where the result contradicted it (`guard.fall_back_to_reference`).
        sigma: `(rows, columns)`, noise of the reference as the network is told it, linear, the
            root mean square of the four planes.
        clean, reference: `(4, rows, columns)`, the result and the reference, linear.
        noise_left: share of the noise's variance that is left in the picture.
    """

    cells: int
    weights: np.ndarray
    share: np.ndarray
    sigma: np.ndarray
    clean: np.ndarray
    reference: np.ndarray
    noise_left: float

    @property
    def fallen_back(self) -> float:
        """Share of the picture that is the reference's."""
        return 1 - float(self.share.mean())


def draw_maps(
    network: KPN,
    merger: TileMerger,
    size: tuple[int, int],
    turn: int,
    tile: int,
    on_tile: Callable[[int, int], None],
) -> Maps:
    """Run the network on all tiles; keep no more of each than the maps need.

    Args:
        network: a KPN that writes kernels.
        merger: of the burst.
        size: rows and columns of the picture in cells.
        turn: Exif's orientation.
        tile: side of a tile in sensor pixels.
        on_tile: told how many tiles are done, and of how many.

    Raises:
        KpnError: if the result isn't finite.
    """
    factor = -(-max(size) // _LONG)
    small = tuple(-(-side // factor) for side in size)
    total = merge.tile_count(network, *size, tile)
    sums: np.ndarray | None = None
    for number, (rows, columns) in enumerate(merge.tile_spans(network, *size, tile)):
        on_tile(number, total)
        part = merger.merge(rows.slice, columns.slice, keep_encoded=True)
        check_finite(part.clean)
        layers = _layers(merger, part)
        if sums is None:
            sums = np.zeros((len(layers), *small))
        (top, above), (first, beside) = (_pooling(span, factor) for span in (rows, columns))
        pooled = above @ layers @ beside.T
        sums[:, top : top + len(above), first : first + len(beside)] += pooled
    counts = [np.bincount(np.arange(side) // factor) for side in size]
    means = torch.from_numpy((sums / (counts[0][:, None] * counts[1])).astype(np.float32))
    means = turned(means, turn)
    frames = len(means) - 10
    return Maps(
        cells=factor,
        weights=means[:frames],
        share=means[frames],
        sigma=np.sqrt(means[frames + 1]),
        clean=means[frames + 2 : frames + 6],
        reference=means[frames + 6 :],
        noise_left=residual_noise.measure_residual_noise(merger, size),
    )


def _layers(merger: TileMerger, part: MergedTile) -> np.ndarray:
    """Return weights, share, noise variance, clean and reference, `(frames + 10, ...)`."""
    weights = torch.cat([_weights(merger, part, band) for band in _bands(part)], 1)
    reference = part.burst[:, 0]
    variance = sigma_map(reference, *merger.assumed_noise).square().mean(1)
    layers = (weights, part.share[0], variance, part.clean[0], reference[0])
    return torch.cat(layers).cpu().numpy()


def _bands(part: MergedTile) -> list[slice]:
    height = part.clean.shape[-2]
    return [slice(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]


def _weights(merger: TileMerger, part: MergedTile, rows: slice) -> Tensor:
    """Total weight of each frame in some rows of a part, `(frames, rows, columns)`."""
    kernels = merger.kernels(part, rows)
    return frame_shares([some[0].sum(1) for some in kernels], merger.groups)


def _pooling(span: Span, factor: int) -> tuple[int, np.ndarray]:
    """Return the first sample of a map that a span touches, and the sums into it as a matrix.

    Returns:
        The sample, and `(samples, cells)`.
    """
    samples = np.arange(span.start, span.stop) // factor
    matrix = np.zeros((samples[-1] - samples[0] + 1, len(samples)), np.float32)
    matrix[samples - samples[0], np.arange(len(samples))] = span.weight
    return int(samples[0]), matrix


def frame_shares(kernels: Sequence[Tensor], groups: Sequence[list[int]]) -> Tensor:
    """Return kernels, or their sums, of all groups as shares of the result: `(frames, ...)`.

    Args:
        kernels: of each group, `(members or members + 1, ...)`.
        groups: the frames' numbers.
    """
    count = 1 + max(number for members in groups for number in members)
    shares = kernels[0].new_zeros(count, *kernels[0].shape[1:])
    for some, members in zip(kernels, groups, strict=True):
        shares[members] += some[: len(members)] / (len(members) * len(groups))
    return shares


def check_finite(clean: Tensor) -> None:
    """Refuse a result with values that are not numbers.

    Raises:
        KpnError: if there are any.
    """
    if not torch.isfinite(clean).all():
        raise KpnError("the result holds values that are not numbers; check --noise and --weights")


def turned(layers: Tensor, turn: int) -> np.ndarray:
    """Turn `(..., rows, columns)` upright."""
    last = np.moveaxis(layers.cpu().numpy(), (-2, -1), (0, 1))
    return np.ascontiguousarray(np.moveaxis(upright(last, turn), (0, 1), (-2, -1)))
