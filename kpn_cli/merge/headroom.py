"""Fill what the reference has clipped from frames that were exposed less, beyond its white level.

The frames are merged once more with such a frame as the reference, where cells need it. This
replaces the result smoothly as the reference nears its clipping point, by one weight for the four
planes of a cell, so that no colour changes. How near it is, is judged by nine cells; a highlight of
fewer cells is filled where a cell of the reference is clipped and the fill is brighter by far more
than its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..align.clipping import fade_end
from ..align.mixed_exposure import Comparable
from ..burst.frame import Frame
from ..image.filters import box

#: Largest white level, over the reference's clipping point: four EV.
MAX_WHITE = 16.0
#: A frame with this much more room than the reference, or more, can fill it.
_MORE_ROOM = 1.1
#: Frames have as much room as the one with most if they have this share of it: shutters err.
_AS_MUCH_ROOM = 0.8
#: The fade from the result to what shorter exposures show, as a share of the clipping point.
_FADE_LENGTH = 0.2
#: A sample is brighter than the clipping point if it is so by this many sigmas of what fills it;
#: and so are nine cells whose mean is above by a third of that.
_BRIGHTER_SIGMAS = 6.0
#: What fills agrees with the reference if their mean square difference over its noise, in a square
#: of this many cells a side, is below the first of these, and not from the second on; one sample
#: counts with at most so much, and so much of a square must be known.
_SIDE, _SAME, _ANOTHER, _MAX_SQUARE, _LEAST_KNOWN = 5, 1.6, 2.4, 9.0, 0.02
#: A sample below this share of the clipping point is not clipped; two merges of the same scene
#: differ by so much of the signal.
_UNCLIPPED, _MERGED_ALIKE = 0.97, 0.02
#: A thin highlight begins to be filled where a sample of the reference has this share of the
#: clipping point, and the fill exceeds that by this many sigmas; it is whole at twice as many.
_THIN_FROM, _THIN_SIGMAS = 0.9, 4.0
#: A highlight is thin if up to the first of these shares of a square of so many cells a side is
#: clipped, and not from the second on: there, something brighter may have moved before it. Of the
#: cells of the square in which the fill is brighter, the reference may lack up to this share.
_THIN_SIDE, _THIN_SHARE, _WIDE_SHARE = 7, 0.45, 0.6
_FEW_OTHERS = 0.2
#: Where they are darker than the beginning of the fade by this share of it, something has moved.
_MOVED = 0.4


@dataclass(frozen=True)
class Headroom:
    """How a picture goes on beyond the reference's white level.

    Attributes:
        white: the brightest signal over the reference's clipping point, at most `MAX_WHITE`.
        neutral: `(4,)`, planes of a neutral surface at which the last plane clips in the reference.
            Where everything but the reference shows something else, a clipped cell becomes this:
            it would be tinted now that its planes are below white.
    """

    white: float
    neutral: tuple[float, float, float, float]


def brighter_first(frames: Sequence[Frame]) -> list[int] | None:
    """Return the order of frames in which one with most room beyond the reference's white leads.

    None if none has more room than the reference, which is the first of the frames.
    """
    most = max(frame.clip for frame in frames)
    if most < _MORE_ROOM * frames[0].clip:
        return None
    first = next(n for n, frame in enumerate(frames) if frame.clip >= _AS_MUCH_ROOM * most)
    return [first, *(n for n in range(len(frames)) if n != first)]


def extend_highlights(
    clean: Tensor,
    reference: Tensor,
    comparable: Comparable,
    headroom: Headroom,
    merge_brighter: Callable[[], Tensor],
) -> Tensor:
    """Return a result with what frames exposed less recorded where the reference is clipped.

    Args:
        clean: `(batch, 4, height, width)`, the result, linear, in the reference's exposure.
        reference: `(batch, 4, height, width)`, as recorded.
        comparable: of the burst.
        headroom: the limits.
        merge_brighter: merges the burst with a frame of more room as its reference, in the
            exposure of `clean`; called only if the result is needed.
    """
    clip = comparable.clips[:, 0]
    brightest = box(reference, 3).amax(1, keepdim=True)
    end = fade_end(comparable.shot[:, 0], comparable.read[:, 0], clip)
    start = ((end - _FADE_LENGTH) * clip)[:, None, None, None]
    share = _smooth_step((brightest - start) / (_FADE_LENGTH * clip[:, None, None, None]))
    clipped = _nearly_clipped(reference, clip)
    wide = bool((share > 0).any())
    if not wide and not bool((clipped > 0).any()):
        return clean
    shown = merge_brighter()
    thin = _thin_highlights(clipped, _far_brighter(shown, comparable))
    if not wide and not bool((thin > 0).any()):
        return clean
    agrees = box(shown, 3).amax(1, keepdim=True).sub_((1 - _MOVED) * start).div_(_MOVED * start)
    neutral = clean.new_tensor(headroom.neutral)[:, None, None].expand_as(shown)
    filled = torch.lerp(neutral, shown, _smooth_step(agrees))
    same = _same_below_clipping(shown, reference, comparable, shown)
    # Beside a thin highlight, two merges differ by a share of its light.
    beside = F.max_pool2d(shown, 3, 1, 1)
    thin = thin * _same_below_clipping(shown, reference, comparable, beside)
    white = headroom.white * float(comparable.clips[0, 0])
    # Of a thin highlight the nine cells around are dark: it would become neutral.
    extended = torch.lerp(clean, filled.clamp_max_(white), share * same)
    return torch.lerp(extended, shown.clamp(max=white), thin)


def _nearly_clipped(reference: Tensor, clip: Tensor) -> Tensor:
    """Return 1 where a sample of a cell of the reference is clipped, else 0: `(batch, 1, ...)`."""
    brightest = reference.amax(1, keepdim=True) / clip[:, None, None, None]
    return _smooth_step((brightest - _THIN_FROM) / (_UNCLIPPED - _THIN_FROM))


def _thin_highlights(clipped: Tensor, brighter: Tensor) -> Tensor:
    """Return 1 at highlights of few cells that the reference clips and the fill shows, else 0.

    Something else that has moved there is bright where the reference is not.

    Args:
        clipped, brighter: `(batch, 1, height, width)`, 0 to 1: as `_nearly_clipped` and
            `_far_brighter` return them.
    """
    around = box((clipped > 0).to(clipped.dtype), _THIN_SIDE)
    thin = 1 - _smooth_step((around - _THIN_SHARE) / (_WIDE_SHARE - _THIN_SHARE))
    contradicting = box(brighter * (1 - clipped), _THIN_SIDE) / box(brighter, _THIN_SIDE).clamp_min(
        1e-6
    )
    found = thin * (1 - _smooth_step((contradicting - _FEW_OTHERS) / _FEW_OTHERS))
    return found * clipped * brighter


def _far_brighter(shown: Tensor, comparable: Comparable) -> Tensor:
    """Return 1 where what fills is brighter than the reference can hold, by far more than noise."""
    sigmas = (shown - comparable.clips[0, 0]) / _sigma_of_fills(comparable)
    return _smooth_step(sigmas.amax(1, keepdim=True) / _THIN_SIGMAS - 1)


def _same_below_clipping(
    shown: Tensor, reference: Tensor, comparable: Comparable, merged: Tensor
) -> Tensor:
    """Return 1 where what fills agrees with samples of the reference that are not clipped, else 0.

    Where something moved it does not. Cells without such samples nearby are filled.

    Args:
        shown, reference: `(batch, 4, height, width)`.
        comparable: of the burst.
        merged: of the same shape: the signal by whose share two merges differ.

    Returns:
        `(batch, 1, height, width)`, 0 to 1.
    """
    shot, read = (value[:, 0, :, None, None] for value in (comparable.shot, comparable.read))
    clip = comparable.clips[0, 0]
    signal = shown.clamp_min(0)
    variance = signal * shot + read + (_MERGED_ALIKE * merged.clamp_min(0)).square()
    # Beside the clipping point, samples that are bright by chance are missing.
    below = (shown < clip - 3 * variance.sqrt()) & (reference < _UNCLIPPED * clip)
    below = below.to(shown.dtype)
    square = ((reference - shown).square() / variance).clamp_max_(_MAX_SQUARE)
    known = box(below.mean(1, keepdim=True), _SIDE)
    square = box((square * below).mean(1, keepdim=True), _SIDE) / known.clamp_min(_LEAST_KNOWN)
    return 1 - _smooth_step((square - _SAME) / (_ANOTHER - _SAME))


def is_brighter(picture: Tensor, comparable: Comparable) -> bool:
    """Whether a result is brighter than the reference can hold, by more than the noise of fills.

    Args:
        picture: `(batch, 4, height, width)`, as `extend_highlights` returns it.
        comparable: of the burst.
    """
    if not _fills(comparable):
        return False
    limit = _BRIGHTER_SIGMAS * _sigma_of_fills(comparable)
    beyond = picture - comparable.clips[0, 0]
    return bool((beyond > limit).any()) or bool((box(beyond, 3) > limit / 3).any())


def _sigma_of_fills(comparable: Comparable) -> Tensor:
    """Return the noise of the mean of the frames with room, at the clipping point: `(4, 1, 1)`."""
    fills, clip = _fills(comparable), comparable.clips[0, 0]
    variance = (comparable.shot[0, fills] * clip + comparable.read[0, fills]).clamp_min(1e-10)
    return variance.reciprocal().sum(0).rsqrt()[:, None, None]


def _fills(comparable: Comparable) -> list[int]:
    """Return the frames with room beyond the reference's clipping point."""
    clips = comparable.clips[0].tolist()
    return [n for n, clip in enumerate(clips) if clip > _MORE_ROOM * clips[0]]


def _smooth_step(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
