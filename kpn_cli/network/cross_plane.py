"""The planes of a merged burst lend each other their detail.

Kernels filter each plane by itself, all with the same weights. But the planes show the same
edges, and the noise that the kernels leave in them is independent: what four planes agree on
is better known than what one of them says. So the network also writes, for every cell, how
much of the detail of each plane every plane takes: weighted sums, as the kernels' are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.filters import box, neighbour

#: Where the samples of R, G1, G2 and B lie in their cell: row and column, in halves of a cell.
_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))
PLANES = len(_PLACES)
#: Each scale is so many times as coarse as the one before, and the first is the square over
#: which a sample is compared with its neighbours, in cells.
_SIDE = 3


def taps(scales: int) -> int:
    """Number of weights of a cell."""
    return scales * PLANES**2


def reach(scales: int) -> int:
    """How far `mixed` looks, in cells."""
    finest = _SIDE // 2 + 1  # and the neighbour of what is compared
    return max(finest, sum(_SIDE // 2 * _SIDE**scale for scale in range(scales)))


def details(planes: Tensor, scales: int) -> list[Tensor]:
    """What planes differ by from their means over 3, 9, 27 ... cells, without the finer ones'.

    Args:
        planes: `(batch, planes, height, width)`.
        scales: how many.

    Returns:
        As many of the same shape, finest first; constant planes have none.
    """
    found = []
    for scale in range(scales):
        smooth = box(planes, _SIDE, _SIDE**scale)
        found.append(planes - smooth)
        planes = smooth
    return found


def mixed(clean: Tensor, weights: Tensor) -> Tensor:
    """Return planes, and what of each other's detail they take.

    `Z_p = Y_p + sum over scales s and planes q of w_spq D_sq`, D the `details` of Y; at the finest
    scale the mean of the samples of q that lie around the place of p's. Where all planes are
    constant, nothing is added: the brightness is kept, whatever the weights.

    Args:
        clean: `(batch, 4, height, width)`, Y.
        weights: `(batch, scales * 16, height, width)`, w.
    """
    by_scale = weights.unflatten(1, (-1, PLANES, PLANES)).unbind(1)
    result = clean
    for scale, (weight, detail) in enumerate(
        zip(by_scale, details(clean, len(by_scale)), strict=True)
    ):
        shown = detail[:, None] if scale else _at_each_place(detail)
        result = result + (weight * shown).sum(2)
    return result


def own(weights: Tensor) -> Tensor:
    """Return the weight of a sample in what `mixed` makes of it, a mean over the planes.

    Args:
        weights: as of `mixed`.

    Returns:
        `(batch, height, width)`.
    """
    by_scale = weights.unflatten(1, (-1, PLANES, PLANES)).unbind(1)
    # Of a mean over n samples one has a part of 1 / n.
    parts = (
        weight.diagonal(dim1=1, dim2=2).mean(-1) * (1 - _SIDE**-2.0) * _SIDE ** (-2.0 * scale)
        for scale, weight in enumerate(by_scale)
    )
    return 1 + torch.stack(list(parts)).sum(0)


def _at_each_place(detail: Tensor) -> Tensor:
    """Planes where the others' samples lie: `(batch, 4, h, w)` -> `(batch, 4 places, 4, h, w)`."""
    shown = []
    for row, column in _PLACES:
        for plane, (other_row, other_column) in enumerate(_PLACES):
            x = detail[:, plane : plane + 1]
            if row != other_row:
                x = (x + neighbour(x, row - other_row, 0)) / 2
            if column != other_column:
                x = (x + neighbour(x, 0, column - other_column)) / 2
            shown.append(x)
    return torch.cat(shown, 1).unflatten(1, (PLANES, PLANES))
