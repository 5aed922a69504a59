"""Green equilibration: remove the difference that noise makes between the two greens.

Kernels are the same for all planes, but the noise that they leave is not. Where it makes one
green a little brighter than the other over some cells, demosaicing turns the difference into a
fine pattern of rows and columns, most of all in dark areas. Raw converters (dcraw, RawTherapee,
darktable) do the same, under this name, for sensors whose greens differ.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..align.robustness import sigma_map
from ..image.filters import box
from ..system.bands import Band, bands, for_each

#: Side of the square over which the greens are compared, in cells.
_SIDE = 3
#: Differences well below this share of the noise's sigma are noise; those above it are the
#: picture's. 0.05 to 0.4 were tried on photos (docs/log.md).
_NOISE_SHARE = 0.15
#: How far from a cell its change depends on others, in cells; and the cells of which one core of a
#: CPU equilibrates the greens together.
_REACH, _CELLS_AT_ONCE = 1 + _SIDE // 2, 2**15


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
    result = clean.clone()
    height, width = clean.shape[-2:]
    step = max(_CELLS_AT_ONCE // width, 1) if clean.device.type == "cpu" else height

    def work(band: Band) -> None:
        greens, around = clean[:, 1:3, band.around], reference[:, 1:3, band.around]
        sigma = sigma_map(around, shot[:, 1:3], read[:, 1:3]).mean(1, keepdim=True)
        small = (1 - reference_weight[:, None, band.around]).clamp_(0, 1).mul_(sigma)
        change = _change(greens, small.mul_(_NOISE_SHARE))[:, 0, band.inner]
        result[:, 1, band.rows] -= change
        result[:, 2, band.rows] += change

    for_each(lambda: work, bands(height, step, _REACH), clean.device)
    return result


def _change(greens: Tensor, small: Tensor) -> Tensor:
    """Return what is moved from the first green to the second, `(batch, 1, height, width)`.

    Args:
        greens: `(batch, 2, height, width)`, clean.
        small: `(batch, 1, height, width)`, the difference of which half is moved.
    """
    height, width = greens.shape[-2:]
    padded = F.pad(greens, (1, 1, 1, 1), mode="replicate")

    def near(green: int, row: int, column: int) -> Tensor:
        return padded[:, green, None, 1 + row :, 1 + column :][..., :height, :width]

    first, second = greens[:, :1], greens[:, 1:]
    # G1 is right of red, G2 below it.
    around_first = second + near(1, -1, 0)
    around_first.add_(near(1, 0, 1)).add_(near(1, -1, 1)).div_(4)
    around_second = first + near(0, 1, 0)
    around_second.add_(near(0, 0, -1)).add_(near(0, 1, -1)).div_(4)
    between = (first - around_first).sub_(second - around_second).div_(2)
    difference = box(between, _SIDE)
    squares = small.square()
    total = torch.addcmul(squares, difference, difference).clamp_min_(1e-30)
    return difference.div_(2).mul_(squares).div_(total)
