"""Green equilibration: remove the difference that noise makes between the two greens.

Kernels are the same for all planes, but the noise that they leave is not. Where it makes one
green a little brighter than the other over some cells, demosaicing turns the difference into a
fine pattern of rows and columns, most of all in dark areas. Raw converters (dcraw, RawTherapee,
darktable) do the same, under this name, for sensors whose greens differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..align.robustness import sigma_map
from ..image.filters import box, neighbour

#: Side of the square over which the greens are compared, in cells.
_SIDE = 3
#: Differences well below this share of the noise's sigma are noise; those above it are the
#: picture's. 0.05 to 0.4 were tried on photos (docs/log.md).
_NOISE_SHARE = 0.15


def equilibrate_greens(
    clean: Tensor, reference: Tensor, reference_weight: Tensor, shot: Tensor, read: Tensor
) -> Tensor:
    """Return clean planes whose greens differ only where the picture's do.

    Each green is compared with the mean of the four of the other kind around it, which a
    gradient leaves at zero. Half of the difference, averaged over a square, is moved from one
    to the other: all of it where it is small beside the noise, nothing where it is large.

    Args:
        clean: `(batch, 4, height, width)`, planes R, G1, G2, B, linear.
        reference: `(batch, 4, height, width)`, the reference frame.
        reference_weight: `(batch, height, width)`, the weight of the reference's own sample in
            `clean`: where nothing was merged, nothing is changed.
        shot, read: `(batch, 4)` variance coefficients of the reference's noise.

    Returns:
        `(batch, 4, height, width)`, a copy.
    """
    first, second = clean[:, 1:2], clean[:, 2:3]
    # G1 is right of red, G2 below it.
    around_first = (
        second + neighbour(second, -1, 0) + neighbour(second, 0, 1) + neighbour(second, -1, 1)
    ) / 4
    around_second = (
        first + neighbour(first, 1, 0) + neighbour(first, 0, -1) + neighbour(first, 1, -1)
    ) / 4
    difference = box(((first - around_first) - (second - around_second)) / 2, _SIDE)
    sigma = sigma_map(reference, shot, read)[:, 1:3].mean(1, keepdim=True)
    small = _NOISE_SHARE * sigma * (1 - reference_weight[:, None]).clamp(0, 1)
    change = (
        difference / 2 * small.square() / (small.square() + difference.square()).clamp_min(1e-30)
    )
    return torch.cat([clean[:, :1], first - change, second + change, clean[:, 3:]], 1)
