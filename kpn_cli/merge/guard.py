"""Guard against errors: where the result contradicts the reference, fall back to the reference.

A clean picture differs from the noisy reference by that frame's noise and by nothing else.
Where the difference is larger, the rest is the result's own error: a ghost, smeared texture,
or, in bursts with hardly any noise, what the kernels lose. Result and reference are then mixed
in proportion to their errors; the mix has a lower error than either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.filters import box

#: Side of the square over which the difference is judged, in cells: 100 samples of noise,
#: whose mean square is known to 14 %. Smaller errors take more samples to tell from noise: an
#: area of this many squares beside and below each other has 900, known to 5 %.
_SIDE, _SQUARES = 5, 3
#: By how much the mean square of one square exceeds the expected one, as a share of it, where
#: the fallback begins, and where it is complete; and the same for an area. A picture has millions
#: of squares: at fewer than five standard deviations, specks of the reference's noise would show
#: in a smooth result that is right.
_EXCESS_ONSET, _EXCESS_FULL = 0.65, 1.0
_AREA_EXCESS_ONSET, _AREA_EXCESS_FULL = 0.25, 0.45
#: A single sample counts as three sigmas at most: a hot pixel of the reference must not cause a
#: fallback.
_MAX_SQUARE = 9.0
#: Square beyond which a sample is off by more than any noise: once in 500 million.
_OUTLIER_SQUARE = 36.0
_MIN_VARIANCE = 1e-10  # the rounding of 14 bits has 3e-10
_MIN_INDEPENDENT = 0.01  # weight of all but the reference's own sample
#: A sample from here on is clipped.
CLIPPED = 0.999
#: Result and reference agree where both are clipped, which says nothing about their neighbours.
#: Less than one informative cell in a square is too little to cause a fallback.
_MIN_INFORMATIVE = 1 / _SIDE**2


def fall_back_to_reference(
    clean: Tensor,
    reference: Tensor,
    reference_weight: Tensor,
    shot: Tensor,
    read: Tensor,
    others: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the result, mixed with the reference where it contradicts it, and the result's share.

    Let the reference be truth + n, and the result truth + a n + e, where a is the weight
    that the kernels give the reference's own sample, and e, the rest of the error, is
    independent of n. The mix with the least error then has a share of
    (1 - a) n^2 / ((1 - a)^2 n^2 + e^2) of the result, whose denominator is the mean square
    of the difference. For a = 0 it is the shrinkage of James and Stein, towards a noisy
    picture instead of zero.

    Args:
        clean: `(batch, 4, height, width)`, the result, linear.
        reference: `(batch, 4, height, width)`, the reference frame.
        reference_weight: `(batch, height, width)`, a.
        shot, read: `(batch, 4)` variance coefficients of the reference's noise.
        others: `(batch, frames, 4, height, width)`, the other frames, aligned to the reference.
            They decide which is right where a single sample is off by more than any noise.

    Returns:
        The mix, `(batch, 4, height, width)`, and the result's share in it,
        `(batch, 1, height, width)`, 0 to 1.
    """
    # Beside something bright, a mean over neighbours overstates the noise of shadows; and a ghost
    # may be brighter than what it hides. So the lower of the two signals is taken.
    signal = torch.minimum(clean, box(reference, 3)).clamp_min_(0)
    variance = (shot[:, :, None, None] * signal + read[:, :, None, None]).clamp_min(_MIN_VARIANCE)
    independent = (1 - reference_weight[:, None]).clamp(_MIN_INDEPENDENT, 1)
    squares = (clean - reference).square() / (variance * independent)
    informative = (reference < CLIPPED) | (clean < 1 - _MAX_SQUARE**0.5 * variance.sqrt())
    squares *= informative
    informative_share = box(informative.float().mean(1, keepdim=True), _SIDE)
    informative_share = informative_share.clamp_min(_MIN_INFORMATIVE)
    mean_square = box(squares.mean(1, keepdim=True), _SIDE) / informative_share
    # Zero padding: replicated borders would let nine cells decide a corner.
    excess = (squares.clamp_max(_MAX_SQUARE) - informative.float()).mean(1, keepdim=True)
    excess = box(excess, _SIDE, padding_mode="constant")
    area_excess = box(excess, _SQUARES, _SIDE, "constant") / box(informative_share, _SQUARES, _SIDE)
    fallback = torch.maximum(
        _ramp(excess / informative_share, _EXCESS_ONSET, _EXCESS_FULL),
        _ramp(area_excess, _AREA_EXCESS_ONSET, _AREA_EXCESS_FULL),
    )
    share = 1 - fallback * (1 - 1 / mean_square.clamp_min(1))
    mixed = torch.lerp(reference, clean, share)
    if others is not None and others.shape[1]:
        _keep_confirmed(mixed, squares > _OUTLIER_SQUARE, clean, reference, others)
    return mixed, share


def _ramp(x: Tensor, first: float, last: float) -> Tensor:
    return ((x - first) / (last - first)).clamp(0, 1)


def _keep_confirmed(
    mixed: Tensor, outliers: Tensor, clean: Tensor, reference: Tensor, others: Tensor
) -> None:
    """Put outliers back to the reference's sample unless most other frames confirm the result's.

    A frame confirms the result if its sample is nearer to the result's than to the
    reference's, and nearer than the reference's is. Where every frame has other texture at that
    place, none confirms either: they agree only against what is wrong in the reference alone,
    such as a hot pixel.

    Args:
        mixed: `(batch, 4, height, width)`, changed in place.
        outliers: bool, of the same shape.
        clean, reference, others: as in `fall_back_to_reference`.
    """
    batch, plane, row, column = outliers.nonzero(as_tuple=True)
    if not len(batch):
        return
    result, original = (x[batch, plane, row, column] for x in (clean, reference))
    samples = others[batch, :, plane, row, column]
    from_result = (samples - result[:, None]).abs()
    from_original = (samples - original[:, None]).abs()
    limit = torch.minimum(from_original, (original - result).abs()[:, None])
    confirmed = (from_result < limit).float().mean(1) > 0.5
    mixed[batch, plane, row, column] = torch.where(
        confirmed, mixed[batch, plane, row, column], original
    )
