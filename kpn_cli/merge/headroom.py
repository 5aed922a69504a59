"""Fill what the reference has clipped from frames that were exposed less, beyond its white level.

The frames are merged once more with such a frame as the reference, where cells need it. This
replaces the result smoothly as the reference nears its clipping point, by one weight for the four
planes of a cell, so that no colour changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
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
    if not bool((share > 0).any()):
        return clean
    shown = merge_brighter()
    agrees = box(shown, 3).amax(1, keepdim=True).sub_((1 - _MOVED) * start).div_(_MOVED * start)
    neutral = clean.new_tensor(headroom.neutral)[:, None, None].expand_as(shown)
    filled = torch.lerp(neutral, shown, _smooth_step(agrees))
    share = share * _same_below_clipping(shown, reference, comparable)
    filled.clamp_max_(headroom.white * float(comparable.clips[0, 0]))
    return torch.lerp(clean, filled, share)


def _same_below_clipping(shown: Tensor, reference: Tensor, comparable: Comparable) -> Tensor:
    """Return 1 where what fills agrees with samples of the reference that are not clipped, else 0.

    Where something moved it does not. Cells without such samples nearby are filled.

    Args:
        shown, reference: `(batch, 4, height, width)`.
        comparable: of the burst.

    Returns:
        `(batch, 1, height, width)`, 0 to 1.
    """
    shot, read = (value[:, 0, :, None, None] for value in (comparable.shot, comparable.read))
    clip = comparable.clips[0, 0]
    signal = shown.clamp_min(0)
    variance = signal * shot + read + (_MERGED_ALIKE * signal).square()
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
    fills = _fills(comparable)
    if not fills:
        return False
    clip = comparable.clips[0, 0]
    variance = (comparable.shot[0, fills] * clip + comparable.read[0, fills]).clamp_min(1e-10)
    limit = _BRIGHTER_SIGMAS * variance.reciprocal().sum(0).rsqrt()[:, None, None]
    beyond = picture - clip
    return bool((beyond > limit).any()) or bool((box(beyond, 3) > limit / 3).any())


def _fills(comparable: Comparable) -> list[int]:
    """Return the frames with room beyond the reference's clipping point."""
    clips = comparable.clips[0].tolist()
    return [n for n, clip in enumerate(clips) if clip > _MORE_ROOM * clips[0]]


def _smooth_step(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
