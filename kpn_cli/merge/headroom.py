"""Fill what the reference has clipped from frames that were exposed less, beyond its white level.

Such frames have little noise where the reference clips: the mean of what they recorded there, by
the inverse of its variance, needs no network. It replaces the result smoothly as the reference
nears its clipping point, by one weight for the four planes of a cell, so that no colour changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..align.clipping import fade_end
from ..align.mixed_exposure import Comparable
from ..image.filters import box

#: Largest white level, over the reference's: four EV.
MAX_WHITE = 16.0
#: A frame with this much more room than the reference, or more, can fill it.
_MORE_ROOM = 1.1
#: Share of the clipping point from which on a sample counts as clipped.
_CLIPPED = 0.99
#: The fade from the result to what shorter exposures show, as a share of the clipping point.
_FADE_LENGTH = 0.2
#: Where they are darker than the beginning of the fade by this share of it, something has moved.
_MOVED = 0.4


@dataclass(frozen=True)
class Headroom:
    """How a picture goes on beyond the reference's white level.

    Attributes:
        white: the signal that becomes white, at most `MAX_WHITE`.
        neutral: `(4,)`, planes of a neutral surface at which the last plane clips in the reference.
            Where everything but the reference shows something else, a clipped cell becomes this:
            it would be tinted now that its planes are below white.
    """

    white: float
    neutral: tuple[float, float, float, float]


def extend_highlights(
    clean: Tensor, burst: Tensor, comparable: Comparable, headroom: Headroom
) -> Tensor:
    """Return a result with what frames exposed less recorded where the reference is clipped.

    Args:
        clean: `(batch, 4, height, width)`, the result, linear, in the reference's exposure.
        burst: `(batch, frames, 4, height, width)`, aligned and linear, the reference first, not yet
            clipped where the reference is.
        comparable: of the burst.
        headroom: the limits.
    """
    clips = comparable.clips[0].tolist()
    fills = [n for n, clip in enumerate(clips) if clip > _MORE_ROOM * clips[0]]
    brightest = box(burst[:, 0], 3).amax(1, keepdim=True)
    end = fade_end(comparable.shot[:, 0], comparable.read[:, 0], comparable.clips[:, 0])
    start = ((end - _FADE_LENGTH) * comparable.clips[:, 0])[:, None, None, None]
    share = _smooth_step((brightest - start) / (_FADE_LENGTH * clips[0]))
    if not fills or not bool((share > 0).any()):
        return clean
    shown = _highlights(burst[:, fills], comparable, fills)
    agrees = box(shown, 3).amax(1, keepdim=True).sub_((1 - _MOVED) * start).div_(_MOVED * start)
    neutral = clean.new_tensor(headroom.neutral)[:, None, None].expand_as(shown)
    filled = torch.lerp(neutral, shown, _smooth_step(agrees)).clamp_max(headroom.white)
    return torch.lerp(clean, filled, share)


def _highlights(burst: Tensor, comparable: Comparable, fills: list[int]) -> Tensor:
    """Return the mean of frames by the inverse of their variance, without clipped cells.

    Where all are clipped, the frame with most room.

    Args:
        burst: `(batch, fills, 4, height, width)`.
        comparable: of the whole burst.
        fills: indices of the frames.
    """
    clips = comparable.clips[0, fills]
    variance = (
        comparable.shot[0, fills] * comparable.clips[0, 0] + comparable.read[0, fills]
    ).mean(1)
    unclipped = (burst < _CLIPPED * clips[:, None, None, None]).all(2, keepdim=True)
    weights = unclipped / variance.clamp_min(1e-10)[:, None, None, None]
    total = weights.sum(1)
    mean = (burst * weights).sum(1) / total.clamp_min(1e-20)
    return torch.where(total > 0, mean, burst[:, int(clips.argmax())])


def _smooth_step(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
