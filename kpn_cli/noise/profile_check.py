"""Check a stated noise model against the frames: do they show more noise than it states?

A NoiseProfile may understate the noise, and so may a user. The network would then leave noise, the
robust weights would take other frames for another scene, and the guard
(`guard.fall_back_to_reference`) would take the noise of the reference for a contradiction, and
bring it back. So what the frames certainly show is assumed instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..align.alignment import sample_squares
from ..align.robustness import sigma_map
from ..align.warp import warp_frames
from ..burst.frame import Frame, noise_coefficients
from ..image.noise_model import NoiseModel
from ..system.threads import map_in_threads

#: Side of the regions that are examined, in the middle of `alignment.sample_squares`, and of the
#: blocks whose variance is measured, in cells.
_REGION_SIDE, _BLOCK_SIDE = 128, 8
#: A block with a sample from here on has lost noise to clipping.
_CLIPPED = 0.98
#: Fewer blocks are too few to judge; so are fewer frames, which may all be misaligned by half a
#: cell of grain.
_MIN_BLOCKS, _MIN_FRAMES = 100, 4
#: Share of the blocks, the flattest, whose variance is measured.
_FLATTEST_SHARE = 0.05
#: The sum of two frames, which judges flatness, should vary as their difference, which shows the
#: noise; where it varies by this factor more, there is texture (docs/log.md has what else was
#: tried).
_TEXTURED = 1.7
#: Where they are textured, differences still show noise alone if those of the more textured half of
#: the blocks vary by no more than this factor above the flattest, though these have this much less
#: texture: what texture adds to the flattest is then 5 % at most.
_ALIKE, _LESS_TEXTURE = 1.1, 3.0
#: A larger ratio is reported as this one.
MAX_RATIO = 2.0
#: From this ratio on frames certainly have more noise than is stated: with the true noise stated,
#: hand-held bursts of crops of validation photos showed up to 1.23 times the sigma at gain 0, of
#: four frames, and 1.02 times from gain 1 on.
UNDERSTATED = 1.25


def observed_sigma_ratio(
    frames: Sequence[Frame], shifts: Sequence[Tensor], noise: NoiseModel
) -> float:
    """Return how many times the stated sigma the frames show in their flattest blocks, 1 to 2.

    The noise is measured in the difference of two frames. Flatness is judged by their sum, which
    has independent noise, but the same texture. Where the sum varies by more, the flattest blocks
    have texture too. Then the ratio is certain only if textured blocks show it as well, as on a
    tripod.

    Args:
        frames: of equal size, the reference first.
        shifts: of each frame (`alignment.AlignedBurst`).
        noise: as it is stated for the reference.

    Returns:
        1 if the frames show no more noise than is stated, if nothing is certain, and for fewer
        than 4 frames. Texture that is as fine as noise, covers the whole picture and moves, or is
        misaligned by half a cell in every other frame, would pass for noise.
    """
    if len(frames) < _MIN_FRAMES:
        return 1.0
    device = frames[0].samples.device
    recorded = {frame.noise: noise_coefficients(frame.noise or noise, device) for frame in frames}

    def of_square(square: tuple[slice, slice]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return what is seen in a square, for each other frame."""
        burst = warp_frames(frames, shifts, *map(_middle, square))
        # A frame brought to the reference's exposure by a gain has other noise.
        kinds = {(frame.noise, frame.gain) for frame in frames}
        variance = {kind: _variance(burst[:1], *recorded[kind[0]], kind[1]) for kind in kinds}
        unclipped = [_unclipped(planes, f.clip) for planes, f in zip(burst, frames, strict=True)]
        first = variance[frames[0].noise, frames[0].gain]
        return [
            _compare_pair(
                burst[[0, n]],
                torch.stack([first, variance[frames[n].noise, frames[n].gain]]),
                unclipped[0] & unclipped[n],
            )
            for n in range(1, len(frames))
        ]

    squares = list(sample_squares(*frames[0].size))
    sides = [span.stop - span.start for span in map(_middle, squares[0])]
    if min(sides) < _BLOCK_SIDE:
        return 1.0
    by_square = list(map_in_threads(of_square, squares, on_cpu=device.type == "cpu"))
    observed = []
    for of_frame in zip(*by_square, strict=True):
        observed.append(_flattest_variance(*map(torch.cat, zip(*of_frame, strict=True))))
    # The frame that varies least is aligned best.
    _, ratio = min(observed)
    return min(max(1.0, ratio), MAX_RATIO)


def raise_noise(
    frames: Sequence[Frame], noise: NoiseModel, ratio: float
) -> tuple[list[Frame], NoiseModel]:
    """Return frames and the reference's noise with what the frames show in place of what is stated.

    Args:
        frames: of a burst; those with a noise model of their own get another one.
        noise: of the reference, as stated.
        ratio: from `observed_sigma_ratio`. Below `UNDERSTATED`, everything stays.
    """
    if ratio < UNDERSTATED:
        return list(frames), noise
    raised = [
        f if f.noise is None else replace(f, noise=f.noise.with_strength(ratio)) for f in frames
    ]
    return raised, noise.with_strength(ratio)


def _middle(span: slice) -> slice:
    """Return the middle of a span, at most `_REGION_SIDE` long."""
    first = span.start + max(span.stop - span.start - _REGION_SIDE, 0) // 2
    return slice(first, min(first + _REGION_SIDE, span.stop))


def _variance(reference: Tensor, shot: Tensor, read: Tensor, gain: float) -> Tensor:
    """Return the variance of a frame's samples, gain included: `(4, rows, columns)`."""
    return sigma_map(reference, shot * gain, read * gain**2).square()[0]


def _unclipped(planes: Tensor, clip: float) -> Tensor:
    """Return which blocks of `(4, rows, columns)` have lost no noise to clipping, as bool.

    A camera that clips at black leaves samples of exactly 0, and none below.
    """
    bright = F.max_pool2d(planes.amax(0, keepdim=True), _BLOCK_SIDE)[0]
    dark = -F.max_pool2d(-planes.amin(0, keepdim=True), _BLOCK_SIDE)[0]
    return (bright < _CLIPPED * clip) & (dark != 0)


def _compare_pair(
    pair: Tensor, variances: Tensor, unclipped: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the variance of the difference and of the sum of two frames, over the stated one.

    The third is that of the difference if it is white, and less where neighbours are alike, as in
    what moves, or flickers, or is misaligned.

    Args:
        pair: `(2, 4, rows, columns)`.
        variances: of the same shape, as stated.
        unclipped: `(block_rows, block_columns)`, the blocks to use.

    Returns:
        `(blocks,)` each, the mean over the planes.
    """
    stated = F.avg_pool2d(variances.sum(0), _BLOCK_SIDE)
    change = pair[1] - pair[0]
    difference = (_block_variance(change) / stated).mean(0)
    total = (_block_variance(pair[1] + pair[0]) / stated).mean(0)
    mixed = F.pad(change.diff(dim=1).diff(dim=2), (0, 1, 0, 1), mode="replicate")
    white = (F.avg_pool2d(mixed.square(), _BLOCK_SIDE) / (4 * stated)).mean(0)
    return difference[unclipped], total[unclipped], white[unclipped]


def _block_variance(planes: Tensor) -> Tensor:
    """Return the variance within each block, `(4, block_rows, block_columns)`."""
    mean = F.avg_pool2d(planes, _BLOCK_SIDE)
    # Not the mean of squares minus the square of the mean, which cancel where noise is low.
    rest = planes[:, : mean.shape[1] * _BLOCK_SIDE, : mean.shape[2] * _BLOCK_SIDE]
    rest = rest - mean.repeat_interleave(_BLOCK_SIDE, 1).repeat_interleave(_BLOCK_SIDE, 2)
    return F.avg_pool2d(rest.square(), _BLOCK_SIDE) * (_BLOCK_SIDE**2 / (_BLOCK_SIDE**2 - 1))


def _flattest_variance(differences: Tensor, sums: Tensor, white: Tensor) -> tuple[float, float]:
    """Return the relative variance of the flattest blocks, and the ratio of sigmas that it shows.

    Args:
        differences, sums, white: `(blocks,)`, variances from `_compare_pair`.
    """
    if len(differences) < _MIN_BLOCKS:
        return math.inf, 1.0
    order = sums.argsort()
    flattest, textured = order[: round(_FLATTEST_SHARE * len(sums))], order[len(order) // 2 :]
    variance, texture = float(differences[flattest].mean()), sums - differences
    is_flat = float(sums[flattest].mean()) < _TEXTURED * variance
    is_still = float(differences[textured].mean()) < _ALIKE * variance and float(
        texture[textured].mean()
    ) > _LESS_TEXTURE * float(texture[flattest].mean())
    certain = float(white[flattest].mean())  # noise is white
    if certain * _ALIKE > variance:  # but for chance
        certain = variance
    return variance, certain**0.5 if is_flat or is_still else 1.0
