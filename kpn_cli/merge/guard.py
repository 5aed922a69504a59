"""Never worse than the reference: where the result contradicts it, the reference counts.

A clean picture differs from the noisy reference by that frame's noise and by nothing else.
Where the difference is larger, the rest is the result's own error: a ghost, a texture
smeared, or, of bursts with hardly any noise, what kernels lose. Result and reference are
then mixed as their errors demand; the mix errs less than either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.filters import box

#: Side of the square over which the difference is judged, in cells: 100 samples of noise,
#: whose mean square is known to 14 %. What is wrong by less is told from noise by more samples:
#: so many squares beside and below each other, 900 samples, 5 %.
_SIDE, _SQUARES = 5, 3
#: What the mean square of one square has over the expected one, as a share of it, from which on
#: the result is doubted, and wholly so; and that of all of them. A picture has millions of
#: squares: five standard deviations, or where nothing is wrong specks of the reference's noise
#: stand in the smooth result.
_DOUBTED, _WHOLLY = 0.65, 1.0
_ALL_DOUBTED, _ALL_WHOLLY = 0.25, 0.45
#: A single sample says no more than three sigmas: hot pixels of the reference are no reason.
_MOST = 9.0
#: Square beyond which a sample is off by more than any noise: once in 500 million.
_FAR = 36.0
_LEAST = 1e-10  # of the variance: the rounding of 14 bits has 3e-10
_LEAST_NEWS = 0.01  # share of the result that is not the reference's own sample
#: From here on a sample is clipped.
CLIPPED = 0.999
#: Result and reference agree where both are clipped, which says nothing of the samples beside
#: them. Fewer cells than one that do say something are no reason for doubt.
_LEAST_TOLD = 1 / _SIDE**2


def guarded(
    clean: Tensor,
    reference: Tensor,
    own: Tensor,
    shot: Tensor,
    read: Tensor,
    others: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the result, mixed with the reference where it has to be, and the result's share.

    Let the reference be truth + n, and the result truth + a n + e, where a is the weight
    that the kernels give the reference's own sample, and e, the rest of the error, is
    independent of n. The mix with the least error then has a share of
    (1 - a) n^2 / ((1 - a)^2 n^2 + e^2) of the result, whose denominator is the mean square
    of the difference. For a = 0 it is the shrinkage of James and Stein, towards a noisy
    picture instead of zero.

    Args:
        clean: `(batch, 4, height, width)`, linear.
        reference: the same of the reference frame.
        own: `(batch, height, width)`, a.
        shot, read: `(batch, 4)` variance coefficients of the reference's noise.
        others: `(batch, frames, 4, height, width)`, the other frames over the reference. They
            tell which is right where a single sample is off by more than any noise.

    Returns:
        `(batch, 4, height, width)` and `(batch, 1, height, width)`, 0 to 1.
    """
    # Beside something bright, a mean over neighbours takes shadows for noisier than they are;
    # a ghost may be brighter than what it hides: the lower of the two is right.
    signal = torch.minimum(clean, box(reference, 3)).clamp_min_(0)
    variance = (shot[:, :, None, None] * signal + read[:, :, None, None]).clamp_min(_LEAST)
    news = (1 - own[:, None]).clamp(_LEAST_NEWS, 1)
    squares = (clean - reference).square() / (variance * news)
    telling = (reference < CLIPPED) | (clean < 1 - _MOST**0.5 * variance.sqrt())
    squares *= telling
    told = box(telling.float().mean(1, keepdim=True), _SIDE).clamp_min(_LEAST_TOLD)
    whole = box(squares.mean(1, keepdim=True), _SIDE) / told
    # None outside of the picture: a corner would be judged by nine cells.
    excess = (squares.clamp_max(_MOST) - telling.float()).mean(1, keepdim=True)
    excess = box(excess, _SIDE, padding_mode="constant")
    around = box(excess, _SQUARES, _SIDE, padding_mode="constant") / box(told, _SQUARES, _SIDE)
    doubt = torch.maximum(
        _ramp(excess / told, _DOUBTED, _WHOLLY), _ramp(around, _ALL_DOUBTED, _ALL_WHOLLY)
    )
    share = 1 - doubt * (1 - 1 / whole.clamp_min(1))
    mixed = torch.lerp(reference, clean, share)
    if others is not None and others.shape[1]:
        _vindicate(mixed, squares > _FAR, clean, reference, others)
    return mixed, share


def _ramp(x: Tensor, first: float, last: float) -> Tensor:
    return ((x - first) / (last - first)).clamp(0, 1)


def _vindicate(
    mixed: Tensor, off: Tensor, clean: Tensor, reference: Tensor, others: Tensor
) -> None:
    """Put samples of the reference back unless most of the other frames show the result's.

    A frame shows the result's where it is nearer to it than to the reference's, and nearer than
    the reference's is. Where texture lies elsewhere in every frame, they show neither: only
    what is off in the reference alone, such as a hot pixel, have the others agree upon.
    """
    batch, plane, row, column = off.nonzero(as_tuple=True)
    if not len(batch):
        return
    ours, theirs = (x[batch, plane, row, column] for x in (clean, reference))
    seen = others[batch, :, plane, row, column]
    to_ours = (seen - ours[:, None]).abs()
    apart = torch.minimum((seen - theirs[:, None]).abs(), (theirs - ours).abs()[:, None])
    believed = (to_ours < apart).float().mean(1) > 0.5
    mixed[batch, plane, row, column] = torch.where(
        believed, mixed[batch, plane, row, column], theirs
    )
