"""How much more noise frames have than is stated of them.

A NoiseProfile may state too little, and so may a user. What the network then leaves of the
noise does little harm; but what guards against errors (`guard.guarded`) would take the noise of
the reference for a contradiction, and bring it back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..align.alignment import squares
from ..align.robustness import sigma_map
from ..align.warp import aligned_part
from ..burst.frame import Frame, noise_coefficients
from ..image.noise_model import NoiseModel

#: Side of the places that are looked at, in the middle of `alignment.squares`, and of the blocks in
#: them whose variance is taken, in cells.
_PLACE, _BLOCK = 128, 8
#: A block with a sample from here on has lost noise to clipping.
_CLIPPED = 0.98
#: Fewer blocks say nothing; nor do fewer frames, of which grain may lie half a cell off in all.
_FEWEST, _FEWEST_FRAMES = 100, 4
#: So many of them are looked at, the flattest.
_FLATTEST = 0.05
#: What judges their flatness should vary as what shows the noise; where it does by so many times
#: as much, there is texture (docs/log.md has what else was tried).
_TEXTURED = 1.7
#: Beyond this nothing is believed.
MOST = 2.0


def understatement(frames: Sequence[Frame], shifts: Sequence[Tensor], noise: NoiseModel) -> float:
    """Return the sigma that frames show in their flattest blocks, over the stated one; 1 to 2.

    They show it by what they differ in. Flatness is judged by the sum of two frames, which has
    independent noise, but the same texture. Where that varies by more, there is texture in the
    flattest blocks too, and nothing is certain.

    Args:
        frames: of equal size, the reference first.
        shifts: where they lie over it (`alignment.line_up`).
        noise: as it is stated of the reference.

    Returns:
        1 where they show no more than is stated, where nothing is certain, of fewer than 4 frames.
        Texture that is as fine as noise, all over the picture, and lies half a cell off in every
        other frame, would pass for noise.
    """
    if len(frames) < _FEWEST_FRAMES:
        return 1.0
    shot, read = noise_coefficients(noise, frames[0].samples.device)
    found: list[list[tuple[Tensor, Tensor]]] = []  # place by place
    for rows, columns in squares(*frames[0].size):
        part = aligned_part(frames, shifts, _middle(rows), _middle(columns))
        if min(part.shape[-2:]) < _BLOCK:
            return 1.0
        # A frame brought to the reference's brightness by a gain has other noise.
        variances = torch.cat(
            [sigma_map(part[:1], shot * f.gain, read * f.gain**2).square() for f in frames]
        )
        whole = torch.stack([_unclipped(p, f.gain) for p, f in zip(part, frames, strict=True)])
        found.append(
            [
                _of_pair(part[[0, n]], variances[[0, n]], whole[0] & whole[n])
                for n in range(1, len(frames))
            ]
        )
    shown = (
        _shown(*map(torch.cat, zip(*of_one, strict=True))) for of_one in zip(*found, strict=True)
    )
    # Of the frame that varies least: it lies best over the reference.
    _, ratio = min(shown)
    return min(max(1.0, ratio), MOST)


def _middle(where: slice) -> slice:
    first = where.start + max(where.stop - where.start - _PLACE, 0) // 2
    return slice(first, min(first + _PLACE, where.stop))


def _unclipped(planes: Tensor, gain: float) -> Tensor:
    """Tell of each block whether it has lost no noise to clipping: `(4, rows, columns)` -> bool.

    A camera that clips at black leaves samples of exactly 0, and none below.
    """
    bright = F.max_pool2d(planes.amax(0, keepdim=True), _BLOCK)[0]
    dark = -F.max_pool2d(-planes.amin(0, keepdim=True), _BLOCK)[0]
    return (bright < _CLIPPED * gain) & (dark != 0)


def _of_pair(pair: Tensor, variances: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each block shows, and its flatness, both over the stated variance."""
    variance = F.avg_pool2d(variances.sum(0), _BLOCK)
    shown = (_variance(pair[1] - pair[0]) / variance).mean(0)
    flatness = (_variance(pair[1] + pair[0]) / variance).mean(0)
    return shown[whole], flatness[whole]


def _variance(planes: Tensor) -> Tensor:
    """Variance within blocks."""
    mean = F.avg_pool2d(planes, _BLOCK)
    # Not mean of squares less square of mean, which cancel where noise is low.
    rest = planes[:, : mean.shape[1] * _BLOCK, : mean.shape[2] * _BLOCK]
    rest = rest - mean.repeat_interleave(_BLOCK, 1).repeat_interleave(_BLOCK, 2)
    return F.avg_pool2d(rest.square(), _BLOCK) * (_BLOCK**2 / (_BLOCK**2 - 1))


def _shown(variances: Tensor, flatness: Tensor) -> tuple[float, float]:
    """Return the variance of the flattest blocks, and the ratio of sigmas that it shows."""
    if len(variances) < _FEWEST:
        return math.inf, 1.0
    flattest = flatness.argsort()[: round(_FLATTEST * len(flatness))]
    variance = float(variances[flattest].mean())
    flat = float(flatness[flattest].mean()) < _TEXTURED * variance
    return variance, variance**0.5 if flat else 1.0
