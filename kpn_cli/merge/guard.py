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
from ..system.bands import Band, bands, for_each

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
#: How far from a cell its share depends on others, in cells; and the cells that one core of a CPU
#: judges together.
_REACH, _CELLS_AT_ONCE = 3 // 2 + _SIDE // 2 + _SQUARES // 2 * _SIDE, 2**15
#: From this share of a square on that is clipped in the reference, the result is drawn to clipping.
_MOSTLY_CLIPPED = 0.95
_MIN_VARIANCE = 1e-10  # the rounding of 14 bits has 3e-10
_MIN_INDEPENDENT = 0.01  # weight of all but the reference's own sample
#: A sample from this share of the clipping point on is clipped.
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
    *,
    clip: float = 1.0,
    unclipped: Tensor | None = None,
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
        clip: signal from which on the reference is clipped.
        unclipped: `(batch, frames, height, width)`, how far the other frames are not clipped
            (`clipping.exclude_clipped`), 0 to 1; None if they clip where the reference does.

    Returns:
        The mix, `(batch, 4, height, width)`, and the result's share in it,
        `(batch, 1, height, width)`, 0 to 1.
    """
    mixed, share = torch.empty_like(clean), torch.empty_like(clean[:, :1])
    height, width = clean.shape[-2:]
    step = max(_CELLS_AT_ONCE // width, 2 * _REACH) if clean.device.type == "cpu" else height

    def work(band: Band) -> None:
        whole, original = clean[:, :, band.around], reference[:, :, band.around]
        weight = reference_weight[:, band.around]
        judged, squares = _share(whole, original, weight, (shot, read), clip)
        share[:, :, band.rows] = judged[:, :, band.inner]
        whole, original = clean[:, :, band.rows], reference[:, :, band.rows]
        part = torch.lerp(original, whole, share[:, :, band.rows])
        if others is not None and others.shape[1]:
            outliers = squares[:, :, band.inner] > _OUTLIER_SQUARE
            usable = None if unclipped is None else unclipped[:, :, band.rows] > 0.5
            _keep_confirmed(part, outliers, whole, original, others[..., band.rows, :], usable)
        mixed[:, :, band.rows] = part

    for_each(lambda: work, bands(height, step, _REACH), clean.device)
    return mixed, share


def keep_clipped(clean: Tensor, reference: Tensor, clip: float) -> Tensor:
    """Return a result that is clipped where all of the reference's samples are.

    Noisier frames, whose noise is cut off at the clipping point too, make it a little darker there.

    Args:
        clean, reference: as in `fall_back_to_reference`.
        clip: signal from which on the reference is clipped.
    """
    around = box((reference >= CLIPPED * clip).to(clean.dtype), _SIDE)
    share = ((around - _MOSTLY_CLIPPED) / (1 - _MOSTLY_CLIPPED)).clamp_(0, 1)
    return clean + share * (clip - clean).clamp_min_(0)


def _share(
    clean: Tensor,
    reference: Tensor,
    reference_weight: Tensor,
    coefficients: tuple[Tensor, Tensor],
    clip: float,
) -> tuple[Tensor, Tensor]:
    """Return the result's share, and the squares of the differences over their variance.

    Args:
        clean, reference, reference_weight, clip: as in `fall_back_to_reference`.
        coefficients: shot and read noise.
    """
    shot, read = coefficients
    # Beside something bright, a mean over neighbours overstates the noise of shadows; and a ghost
    # may be brighter than what it hides. So the lower of the two signals is taken.
    signal = torch.minimum(clean, box(reference, 3)).clamp_min_(0)
    variance = signal.mul_(shot[:, :, None, None]).add_(read[:, :, None, None])
    variance.clamp_min_(_MIN_VARIANCE)
    independent = (1 - reference_weight[:, None]).clamp_(_MIN_INDEPENDENT, 1)
    squares = (clean - reference).square_().div_(variance * independent)
    # Clipped as far as noise can tell; where no sample of the reference is, all are informative.
    clipped = reference >= CLIPPED * clip
    if clipped.any():
        limit = variance.sqrt_().mul_(-(_MAX_SQUARE**0.5)).add_(clip)
        informative = clipped.logical_not_().logical_or_(clean < limit).to(clean.dtype)
        squares *= informative
        informative_share = box(informative.mean(1, keepdim=True), _SIDE)
        informative_share.clamp_min_(_MIN_INFORMATIVE)
        excess = squares.clamp_max(_MAX_SQUARE).sub_(informative)
        around = box(informative_share, _SQUARES, _SIDE)
    else:
        informative_share = around = clean.new_ones(())
        excess = squares.clamp_max(_MAX_SQUARE).sub_(1)
    mean_square = box(squares.mean(1, keepdim=True), _SIDE).div_(informative_share)
    # Zero padding: replicated borders would let nine cells decide a corner.
    excess = box(excess.mean(1, keepdim=True), _SIDE, padding_mode="constant")
    area_excess = box(excess, _SQUARES, _SIDE, "constant").div_(around)
    fallback = torch.maximum(
        _ramp(excess.div_(informative_share), _EXCESS_ONSET, _EXCESS_FULL),
        _ramp(area_excess, _AREA_EXCESS_ONSET, _AREA_EXCESS_FULL),
    )
    return 1 - fallback * (1 - 1 / mean_square.clamp_min_(1)), squares


def _ramp(x: Tensor, first: float, last: float) -> Tensor:
    return (x - first).div_(last - first).clamp_(0, 1)


def _keep_confirmed(
    mixed: Tensor,
    outliers: Tensor,
    clean: Tensor,
    reference: Tensor,
    others: Tensor,
    usable: Tensor | None,
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
        usable: `(batch, frames, height, width)`, cells of others that are not clipped; None if all
            are used.
    """
    batch, plane, row, column = outliers.nonzero(as_tuple=True)
    if not len(batch):
        return
    result, original = (x[batch, plane, row, column] for x in (clean, reference))
    samples = others[batch, :, plane, row, column]
    from_result = (samples - result[:, None]).abs()
    from_original = (samples - original[:, None]).abs()
    limit = torch.minimum(from_original, (original - result).abs()[:, None])
    counted = torch.ones_like(samples)
    if usable is not None:
        counted = usable[batch, :, row, column].to(samples.dtype)
    confirmed = (counted * (from_result < limit)).sum(1) > 0.5 * counted.sum(1)
    mixed[batch, plane, row, column] = torch.where(
        confirmed, mixed[batch, plane, row, column], original
    )
