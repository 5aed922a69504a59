"""Maps over the whole picture: each frame's weight, the fallback to the reference, the noise."""

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

#: Longest side of the maps, in samples.
LONGEST_SIDE = 720
#: Rows of cells whose kernels are in memory at a time: the kernels of a whole tile would fill it.
_BAND_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class PictureMaps:
    """Maps of the whole picture, upright; each sample is the mean of `cells` x `cells` cells.

    Attributes:
        cells: side of a sample, in cells.
        weights: `(frames, rows, columns)`, total weight of each frame; they sum to 1.
        kernel_share: `(rows, columns)`, weight of the kernels' output in the result, 0 to 1; the
            rest is the reference's, where the output contradicts it
            (`guard.fall_back_to_reference`).
        sigma: `(rows, columns)`, standard deviation of the noise that the network assumes in the
            reference, linear, root mean square over the four planes.
        clean, reference: `(4, rows, columns)`, the result and the reference, linear.
        noise_left: variance of the residual noise in the result over that of the reference.
    """

    cells: int
    weights: np.ndarray
    kernel_share: np.ndarray
    sigma: np.ndarray
    clean: np.ndarray
    reference: np.ndarray
    noise_left: float

    @property
    def fallback_share(self) -> float:
        """Share of the picture that falls back to the reference, 0 to 1."""
        return 1 - float(self.kernel_share.mean())


def compute_maps(
    network: KPN,
    merger: TileMerger,
    size: tuple[int, int],
    turn: int,
    *,
    tile: int,
    longest_side: int = LONGEST_SIDE,
    on_tile: Callable[[int, int], None],
) -> PictureMaps:
    """Run the network tile by tile and average what the maps need.

    Args:
        network: a KPN that predicts kernels.
        merger: of the burst.
        size: rows and columns of the picture in cells.
        turn: Exif orientation, 1 to 8.
        tile: side of a tile in sensor pixels.
        longest_side: of the maps, in samples, at most.
        on_tile: called before each tile with the number of tiles done and in all.

    Raises:
        KpnError: if the result has values that are not finite.
    """
    factor = -(-max(size) // longest_side)
    map_size = tuple(-(-side // factor) for side in size)
    total = merge.tile_count(network, *size, tile)
    # Weights, share of the kernels, noise variance, four planes of result and of reference.
    sums = np.zeros((_frame_count(merger.groups) + 10, *map_size))
    clean = np.zeros((4, *size), np.float32)
    for number, (rows, columns) in enumerate(merge.tile_spans(network, *size, tile)):
        on_tile(number, total)
        merged = merger.merge(rows.slice, columns.slice, keep_encoded=True)
        check_finite(merged.clean)
        weighted = merged.clean[0].cpu().numpy() * rows.weight[:, None] * columns.weight
        clean[:, rows.slice, columns.slice] += weighted
        (top, above), (first, beside) = (_pooling(span, factor) for span in (rows, columns))
        pooled = above @ _layers(merger, merged) @ beside.T
        sums[:, top : top + len(above), first : first + len(beside)] += pooled
    counts = [np.bincount(np.arange(side) // factor) for side in size]
    means = torch.from_numpy((sums / (counts[0][:, None] * counts[1])).astype(np.float32))
    layers = to_upright(means, turn)
    weights, (share, variance), planes = np.split(layers, [len(layers) - 10, len(layers) - 8])
    on_device = torch.from_numpy(clean).to(merger.assumed_noise[0].device)
    return PictureMaps(
        cells=factor,
        weights=weights,
        kernel_share=share,
        sigma=np.sqrt(variance),
        clean=planes[:4],
        reference=planes[4:],
        noise_left=residual_noise.measure_residual_noise(merger, size, on_device),
    )


def _layers(merger: TileMerger, merged: MergedTile) -> np.ndarray:
    """Return weights, kernel share, noise variance, result, reference: `(frames + 10, ...)`."""
    height = merged.clean.shape[-2]
    bands = [slice(top, min(top + _BAND_ROWS, height)) for top in range(0, height, _BAND_ROWS)]
    weights = torch.cat([_weights(merger, merged, band) for band in bands], 1)
    reference = merged.burst[:, 0]
    variance = sigma_map(reference, *merger.assumed_noise).square().mean(1)
    layers = (weights, merged.share[0], variance, merged.clean[0], reference[0])
    return torch.cat(layers).cpu().numpy()


def _weights(merger: TileMerger, merged: MergedTile, rows: slice) -> Tensor:
    """Return the total weight of each frame in rows of a tile, `(frames, rows, columns)`."""
    kernels = merger.kernels(merged, rows)
    return frame_shares([of_group[0].sum(1) for of_group in kernels], merger.groups)


def _pooling(span: Span, factor: int) -> tuple[int, np.ndarray]:
    """Return how to sum a span's cells into map samples: the first sample and a matrix.

    Returns:
        Index of the first sample that the span touches, and `(samples, cells)` float32.
    """
    samples = np.arange(span.start, span.stop) // factor
    matrix = np.zeros((samples[-1] - samples[0] + 1, len(samples)), np.float32)
    matrix[samples - samples[0], np.arange(len(samples))] = span.weight
    return int(samples[0]), matrix


def _frame_count(groups: Sequence[list[int]]) -> int:
    return 1 + max(number for members in groups for number in members)


def frame_shares(kernels: Sequence[Tensor], groups: Sequence[list[int]]) -> Tensor:
    """Return each frame's kernel, or the sum of it, as weights in the result: `(frames, ...)`.

    Args:
        kernels: for each group `(members, ...)`, or `(members + 1, ...)` with a dilated kernel.
        groups: numbers of the frames in each group.
    """
    shares = kernels[0].new_zeros(_frame_count(groups), *kernels[0].shape[1:])
    for of_group, members in zip(kernels, groups, strict=True):
        shares[members] += of_group[: len(members)] / (len(members) * len(groups))
    return shares


def check_finite(clean: Tensor) -> None:
    """Refuse a result with values that are not finite.

    Raises:
        KpnError: if there are any.
    """
    if not torch.isfinite(clean).all():
        raise KpnError("the result has values that are not finite; check --noise and --weights")


def to_upright(layers: Tensor, turn: int) -> np.ndarray:
    """Turn `(..., rows, columns)` upright, as Exif orientation `turn` says."""
    rows_first = np.moveaxis(layers.cpu().numpy(), (-2, -1), (0, 1))
    return np.ascontiguousarray(np.moveaxis(upright(rows_first, turn), (0, 1), (-2, -1)))
