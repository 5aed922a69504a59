"""Cross-plane detail: the planes of a merged burst lend each other their detail.

The kernels filter each plane separately, all with the same weights. But the planes show the same
edges, and the noise that the kernels leave in them is independent: what four planes agree on
is better known than what one of them shows. So for every cell the network also predicts how
much of each plane's detail every plane takes, as weighted sums like those of the kernels.
This step is not part of Mildenhall et al. (2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.filters import box

#: R, G1, G2 and B: upper left, upper right, lower left and lower right in their cell.
PLANES = 4
#: Each scale is this many times as coarse as the one before. The finest compares a sample with
#: the mean of a square this many cells wide.
_SIDE = 3


def weight_count(scales: int) -> int:
    """Return the number of weights of a cell."""
    return scales * PLANES**2


def reach(scales: int) -> int:
    """Return how far from a cell `add_detail` looks, in cells."""
    finest = _SIDE // 2 + 1  # of a neighbouring cell's detail
    coarsest: int = sum(_SIDE // 2 * _SIDE**scale for scale in range(scales))
    return max(finest, coarsest)


def details(planes: Tensor, scales: int) -> list[Tensor]:
    """Split planes into detail at several scales: differences of means over 1, 3, 9 ... cells.

    Args:
        planes: `(batch, planes, height, width)`.
        scales: how many.

    Returns:
        `scales` tensors of the same shape, finest first; zero for constant planes.
    """
    by_scale = []
    for scale in range(scales):
        smooth = box(planes, _SIDE, _SIDE**scale)
        by_scale.append(planes - smooth)
        planes = smooth
    return by_scale


def add_detail(clean: Tensor, weights: Tensor, rows: slice = slice(None)) -> Tensor:
    """Return planes with weighted detail of all planes added.

    `Z_p = Y_p + sum over scales s and planes q of w_spq D_sq`, where D are the `details` of Y. At
    the finest scale, D_q is the mean of those samples of q that surround the position of p's
    sample on the sensor. Where all planes are constant, nothing is added: the brightness is kept,
    whatever the weights.

    Args:
        clean: `(batch, 4, height, width)`, Y, linear.
        weights: `(batch, scales * 16, rows, width)`, w.
        rows: the rows of Y for which there are weights; the others are their surroundings.

    Returns:
        `(batch, 4, rows, width)`, Z.
    """
    by_scale = _by_scale(weights)
    result = clean[:, :, rows]
    for scale, (weight, detail) in enumerate(
        zip(by_scale, details(clean, len(by_scale)), strict=True)
    ):
        aligned = detail[:, None, :, rows] if scale else _at_each_offset(detail, rows)
        result = result + (weight * aligned).sum(2)
    return result


def self_weight(weights: Tensor) -> Tensor:
    """Return the weight that a sample of Y has in the sample of Z at its place.

    Args:
        weights: as in `add_detail`.

    Returns:
        `(batch, height, width)`, the mean over the planes.
    """
    # Of a mean over n samples each has a weight of 1 / n.
    parts = (
        weight.diagonal(dim1=1, dim2=2).mean(-1) * (1 - _SIDE**-2.0) * _SIDE ** (-2.0 * scale)
        for scale, weight in enumerate(_by_scale(weights))
    )
    return 1 + torch.stack(list(parts)).sum(0)


def _by_scale(weights: Tensor) -> tuple[Tensor, ...]:
    """Return the weights of each scale, `(batch, 4 of Z, 4 of D, height, width)`."""
    return torch.unflatten(weights, 1, (-1, PLANES, PLANES)).unbind(1)


def _at_each_offset(detail: Tensor, rows: slice) -> Tensor:
    """Interpolate all planes at each plane's offset.

    Args:
        detail: `(batch, 4, height, width)`.
        rows: those that are wanted.

    Returns:
        `(batch, 4, 4, rows, width)`, indexed by the plane whose offset it is, then by the plane
        that is interpolated.
    """
    height, width = detail.shape[-2:]
    padded = F.pad(detail, (1, 1, 1, 1), mode="replicate")
    first, end, _ = rows.indices(height)
    above, level, below = (padded[:, :, n + first : n + end] for n in range(3))
    # Planes of the upper row of a cell lie at the upper offsets, and those of the lower row
    # half a cell below: between a sample and the one above it. The same holds for columns.
    upper, lower = level[:, :2], level[:, 2:]
    at_upper = torch.cat([upper, (lower + above[:, 2:]).mul_(0.5)], 1)
    at_lower = torch.cat([(upper + below[:, :2]).mul_(0.5), lower], 1)
    interpolated = []
    for at_row in (at_upper, at_lower):
        before, here, after = (at_row[..., n : n + width] for n in range(3))
        to_left = (here[:, 1::2] + before[:, 1::2]).mul_(0.5)
        to_right = (here[:, ::2] + after[:, ::2]).mul_(0.5)
        interpolated += [here[:, :1], to_left[:, :1], here[:, 2:3], to_left[:, 1:]]
        interpolated += [to_right[:, :1], here[:, 1:2], to_right[:, 1:], here[:, 3:]]
    return torch.unflatten(torch.cat(interpolated, 1), 1, (PLANES, PLANES))
