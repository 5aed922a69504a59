"""The kernels at one pixel of a burst, and what filtering with them yields around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..image.orientation import upright_position
from ..merge.residual_noise import residual_share
from ..merge.tile import TileMerger
from ..network.apply_kernels import DILATION
from ..network.kpn import KPN
from .weight_maps import check_finite, frame_shares, to_upright

#: Side of the crop that is shown around a point, in cells.
CROP = 64
#: Margin around the crop, in cells. The network that ships sees 67 cells each way
#: (`KPNConfig.reach`) and `features` 4 more: with this margin and half of the crop, its output at
#: the point is the same as in a run over the whole picture.
_CONTEXT = 64


@dataclass(frozen=True, kw_only=True)
class KernelView:
    """The kernels at a point and the picture around it, for one assumed noise. All upright.

    Attributes:
        scale: the assumed sigma over that of denoising.
        kernels: `(frames, K, K)`, each tap's weight in the result: the network's kernels over
            the number of frames, which sum to 1. The reference is in every group of frames;
            its kernel is the sum over the groups.
        dilated: `(K, K)`, the dilated kernel, mean over the groups; its taps are `DILATION` cells
            apart and sum to 1. None for a network without one.
        kernel_share: weight of the kernels' output in the result at the point, 0 to 1; the rest
            is the reference's, after the check against it (`guard.fall_back_to_reference`).
        radius: root mean square distance of the taps from the centre, weighted with their
            absolute values, mean over the crop, in sensor pixels.
        noise_left: variance of the residual noise in the crop over that of the reference.
        frames: `(frames, 4, rows, columns)`, linear: crop of the aligned frames, reference first.
        clean: `(4, rows, columns)`, linear: the same crop of the result.
        middle: row and column of the point in the crop.
    """

    scale: float
    kernels: np.ndarray
    dilated: np.ndarray | None
    kernel_share: float
    radius: float
    noise_left: float
    frames: np.ndarray
    clean: np.ndarray
    middle: tuple[int, int]

    @property
    def weights(self) -> np.ndarray:
        """Total weight of each frame, `(frames,)`; they sum to 1."""
        return np.asarray(self.kernels.sum((1, 2)))


def view_kernels(
    network: KPN,
    merger: TileMerger,
    size: tuple[int, int],
    cell: tuple[int, int],
    turn: int,
    scale: float = 1.0,
) -> KernelView:
    """Run the network around a cell, in floating point: integers differ by their rounding alone.

    Args:
        network: a KPN that predicts kernels.
        merger: of the burst, which assumes the noise sigma times `scale`.
        size: rows and columns of the picture in cells.
        cell: row and column on the sensor.
        turn: Exif orientation, 1 to 8.
        scale: see `KernelView.scale`.

    Raises:
        KpnError: if the result has values that are not finite.
    """
    crop_rows, crop_columns = crop = [
        window_around(at, CROP, length) for at, length in zip(cell, size, strict=True)
    ]
    grid = network.config.stride
    tile = [
        slice(max(window.start - _CONTEXT, 0) // grid * grid, min(window.stop + _CONTEXT, length))
        for window, length in zip(crop, size, strict=True)
    ]
    merger = merger.in_floating_point()
    merged = merger.merge(*tile, keep_encoded=True)
    check_finite(merged.clean)
    rows, columns = (
        slice(window.start - whole.start, window.stop - whole.start)
        for window, whole in zip(crop, tile, strict=True)
    )
    kernels = [of_group[0] for of_group in merger.kernels(merged, rows, columns)]
    shares = frame_shares(kernels, merger.groups)
    dilated = _mean_dilated(kernels, merger.groups)
    square_radius = _square_radius(shares.abs().sum(0))
    if dilated is not None:
        square_radius = square_radius + DILATION**2 * _square_radius(dilated)
    generator = torch.Generator().manual_seed(0)
    squares, unclipped = merger.probe_noise(merged.burst, merged.clean, generator)
    inner = (..., rows, columns)
    y, x = cell[0] - crop_rows.start, cell[1] - crop_columns.start
    height, width = shares.shape[-2:]
    upright_x, upright_y = upright_position(y, x, (height, width), turn)

    def upright_kernels(taps: Tensor) -> np.ndarray:
        side = network.config.kernel
        return to_upright(taps.reshape(*taps.shape[:-1], side, side), turn)

    return KernelView(
        scale=scale,
        kernels=upright_kernels(shares[..., y, x]),
        dilated=None if dilated is None else upright_kernels(dilated[..., y, x]),
        kernel_share=float(merged.share[0, 0, rows, columns][y, x]),
        radius=2 * float(square_radius.sqrt().mean()),
        noise_left=residual_share([squares[inner][unclipped[inner]]]),
        frames=to_upright(merged.burst[0, :, :, rows, columns], turn),
        clean=to_upright(merged.clean[0, :, rows, columns], turn),
        middle=(upright_y, upright_x),
    )


def window_around(centre: int, side: int, length: int) -> slice:
    """Return a window of `side` around an index, moved inwards to stay within [0, length)."""
    start = min(max(centre - side // 2, 0), max(length - side, 0))
    return slice(start, min(start + side, length))


def _mean_dilated(kernels: Sequence[Tensor], groups: Sequence[list[int]]) -> Tensor | None:
    """Return the mean of the groups' dilated kernels, `(K*K, rows, columns)`, if they have any.

    A group's dilated kernel follows those of its frames.
    """
    dilated = [
        of_group[len(members)]
        for of_group, members in zip(kernels, groups, strict=True)
        if len(of_group) > len(members)
    ]
    return torch.stack(dilated).mean(0) if dilated else None


def _square_radius(kernels: Tensor) -> Tensor:
    """Return the mean square distance of taps `(K*K, rows, columns)` from the centre, in taps."""
    side = round(len(kernels) ** 0.5)
    steps = torch.arange(side, device=kernels.device) - side // 2
    squares = (steps[:, None] ** 2 + steps**2).flatten()[:, None, None]
    weights = kernels.abs()
    mean: Tensor = (squares * weights).sum(0) / weights.sum(0).clamp_min(1e-9)
    return mean
