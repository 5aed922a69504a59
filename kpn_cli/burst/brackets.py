"""Tells exposure brackets from automatic exposure, by how the exposures of a sequence change.

A bracket is 3, 5, 7 or 9 frames whose exposures are evenly spaced, once or in several rounds.
Automatic exposure follows the light in small steps and may stay where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from ..raw import exposure
from ..raw.exposure import Exposed

#: Numbers of frames of a round.
_LENGTHS = (3, 5, 7, 9)
#: By how much the brightest frame of a bracket exceeds its darkest one, in EV, where the camera
#: does not say that it is one. Automatic exposure jitters by one or two steps of a third, and tags
#: round 1 EV to 0.9 (1/15 and 1/8 s).
_MIN_RANGE_EV = 0.9
#: The steps of a round, sorted, are equal up to this, in EV: as tags round them.
_UNEVEN_EV = 0.15
#: Automatic exposure changes from a frame to the next by at most a stop, and within a burst by at
#: most two: in each setting and in all together, as tags round them (f/11 and f/16: 1.08 EV).
#: Larger changes are another picture, which the photographer set anew.
_AUTO_STEP_EV, _AUTO_RANGE_EV = 1.1, 2.1

E = TypeVar("E", bound=Exposed)


def is_bracket(frames: Sequence[Exposed]) -> bool:
    """Whether frames in order of time are a bracket by their settings; see `is_sequence`.

    Frames that state none are ignored.
    """
    stating = [frame for frame in frames if any(exposure.stated(frame))]
    return len(stating) > 1 and is_sequence(exposure.stops(stating))


def is_sequence(stops: Sequence[float]) -> bool:
    """Whether frames are a bracket by their brightness.

    Every frame has another brightness than the one before it, they spread over about 1 EV, and
    either a step is too large for automatic exposure, or the steps are those of a bracket.

    Args:
        stops: brightness of each frame, in order of time, EV over any level.
    """
    if len(stops) < min(_LENGTHS) or max(stops) - min(stops) < _MIN_RANGE_EV:
        return False
    steps = [abs(other - one) for one, other in pairwise(stops)]
    # Settings that make up for each other, such as those of automatic ISO, are no bracket.
    if min(steps) < exposure.ANOTHER_EV:
        return False
    return max(steps) > _AUTO_STEP_EV or any(_repeats(stops, length) for length in _LENGTHS)


def _repeats(stops: Sequence[float], length: int) -> bool:
    """Whether frames are rounds of evenly spaced exposures; the last may be incomplete."""
    if len(stops) < length:
        return False
    first = sorted(stops[:length])
    mean = (first[-1] - first[0]) / (length - 1)
    even = all(abs(other - one - mean) <= _UNEVEN_EV for one, other in pairwise(first))
    rounds = zip(stops, stops[length:], strict=False)
    return even and all(abs(other - one) < exposure.ANOTHER_EV for one, other in rounds)


def split_where_set_anew(frames: Sequence[E]) -> list[list[E]]:
    """Cut a sequence where the exposure changes by more than automatic exposure does.

    Each frame is compared with the first and the last one since the last cut that state the same
    settings as each other: a frame that states none may be of any burst, and must not join two.
    """
    runs: list[list[E]] = []
    firsts: dict[tuple[bool, ...], E] = {}
    lasts: dict[tuple[bool, ...], E] = {}
    for frame in frames:
        far = any(exposure.difference(one, frame) > _AUTO_RANGE_EV for one in firsts.values())
        if far or any(exposure.difference(one, frame) > _AUTO_STEP_EV for one in lasts.values()):
            firsts.clear()
            lasts.clear()
        if not firsts:
            runs.append([])
        firsts.setdefault(exposure.stated(frame), frame)
        lasts[exposure.stated(frame)] = frame
        runs[-1].append(frame)
    return runs
