"""What the network does at one place of a burst: its kernels, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..image.orientation import upright_position
from ..merge.residual_noise import residual_share
from ..merge.tile import TileMerger
from ..network.kpn import KPN
from ..network.restore import DILATION
from .weight_maps import check_finite, frame_shares, turned

#: Side of the crop that is shown around a place, in cells.
CROP = 64
#: Cells beyond the crop that the network sees: from the place itself it then sees as far as
#: it looks (43 cells, to a multiple of 8, and the 4 of `features`), as in the whole picture.
_CONTEXT = 64


@dataclass(frozen=True, kw_only=True)
class Look:
    """The kernels at a place, and its surroundings, under one estimate of the noise.

    Attributes:
        scale: factor of the sigma that the network was told.
        kernels: `(frames, K, K)`, each frame's taps as shares of the result, so that all of
            them sum to 1: a network's kernels over the number of frames. The reference's is
            the sum over the groups that frames are merged in.
        wide: `(K, K)`, taps `restore.DILATION` cells apart, which sum to 1, the mean over the
            groups; None where there is none.
        share: of what the kernels made in the result here; the rest is the reference's.
        radius: root mean square distance of the taps from their cell over the crop, weighted
            with their absolute values, in sensor pixels.
        noise_left: share of the noise's variance that is left around the place.
        frames: `(frames, 4, rows, columns)`, linear: the aligned frames around the place.
        clean: `(4, rows, columns)`, the result there.
        middle: row and column of the place in these.
    """

    scale: float
    kernels: np.ndarray
    wide: np.ndarray | None
    share: float
    radius: float
    noise_left: float
    frames: np.ndarray
    clean: np.ndarray
    middle: tuple[int, int]

    @property
    def weights(self) -> np.ndarray:
        """Total weight of each frame, `(frames,)`; they sum to 1."""
        return self.kernels.sum((1, 2))


def look_at(
    network: KPN,
    merger: TileMerger,
    size: tuple[int, int],
    cell: tuple[int, int],
    turn: int,
    scale: float = 1.0,
) -> Look:
    """Run the network around a cell.

    Args:
        network: a KPN that writes kernels.
        merger: of the burst, told the noise times `scale`.
        size: rows and columns of the picture in cells.
        cell: row and column.
        turn: Exif's orientation.
        scale: for `Look.scale`.

    Raises:
        KpnError: if the result isn't finite.
    """
    crop = [around(at, CROP, length) for at, length in zip(cell, size, strict=True)]
    grid = network.config.stride
    seen = [
        slice(max(part.start - _CONTEXT, 0) // grid * grid, min(part.stop + _CONTEXT, length))
        for part, length in zip(crop, size, strict=True)
    ]
    part = merger.merge(*seen, keep_encoded=True)
    check_finite(part.clean)
    inside = tuple(
        slice(shown.start - whole.start, shown.stop - whole.start)
        for shown, whole in zip(crop, seen, strict=True)
    )
    kernels = [some[0] for some in merger.kernels(part, *inside)]
    shares, wide = frame_shares(kernels, merger.groups), _wide(kernels, merger.groups)
    square = _square_radius(shares.abs().sum(0))
    if wide is not None:
        square = square + DILATION**2 * _square_radius(wide)
    y, x = (at - shown.start for at, shown in zip(cell, crop, strict=True))
    square_kernel = (network.config.kernel,) * 2
    middle = upright_position(y, x, shares.shape[-2:], turn)
    return Look(
        scale=scale,
        kernels=turned(shares[..., y, x].unflatten(1, square_kernel), turn),
        wide=None if wide is None else turned(wide[..., y, x].unflatten(0, square_kernel), turn),
        share=float(part.share[(0, 0, *inside)][y, x]),
        radius=2 * float(square.sqrt().mean()),
        noise_left=residual_share(
            [merger.probe_noise(part, *inside, torch.Generator().manual_seed(0))]
        ),
        frames=turned(part.burst[(0, slice(None), slice(None), *inside)], turn),
        clean=turned(part.clean[(0, slice(None), *inside)], turn),
        middle=middle[::-1],
    )


def around(at: int, side: int, length: int) -> slice:
    """Return a stretch around a place, moved inwards where it would leave the picture."""
    start = min(max(at - side // 2, 0), max(length - side, 0))
    return slice(start, min(start + side, length))


def _wide(kernels: Sequence[Tensor], groups: Sequence[list[int]]) -> Tensor | None:
    """Mean of the groups' wide kernels, `(K*K, rows, columns)`."""
    found = [
        some[len(members)]
        for some, members in zip(kernels, groups, strict=True)
        if len(some) > len(members)
    ]
    return torch.stack(found).mean(0) if found else None


def _square_radius(kernels: Tensor) -> Tensor:
    """Mean square distance of taps `(K*K, rows, columns)` from the middle one, in taps."""
    side = round(len(kernels) ** 0.5)
    steps = torch.arange(side, device=kernels.device) - side // 2
    squares = (steps[:, None] ** 2 + steps**2).flatten()[:, None, None]
    weights = kernels.abs()
    return (squares * weights).sum(0) / weights.sum(0).clamp_min(1e-9)
