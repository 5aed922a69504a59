"""Compares the exposures of two frames: the same but for rounding, another, or in between.

Cameras round what they write, each tag in its own way (1/60 s or 16667/1000000 s; f/1.8 or
1799/1000), and phones write the clock of the sensor (16665000, 16665973, 16664027 ns in one
burst). So no two values are compared for equality. Steps are in EV: doubling the exposure time
or the ISO is 1 EV, and so is opening the aperture by a factor of the square root of 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import combinations_with_replacement
from statistics import median_low
from typing import Protocol, TypeVar

#: Up to this difference, in EV, of each setting and of their sum, two exposures are the same;
#: from the other one on they differ. The smallest step of a camera is a third of an EV, which
#: rounded tags show as 0.26 (1/60 and 1/50 s); rounding alone is below 0.05.
SAME_EV, ANOTHER_EV = 0.05, 0.25
#: Largest difference to the reference of a frame that is merged with it: 4 EV, as tags round it.
MAX_EV = 4.2


class Exposed(Protocol):
    """What has an exposure: `Capture`, `RawInfo`; None where a setting is unknown."""

    @property
    def iso(self) -> float | None:
        """Sensitivity."""

    @property
    def exposure_time(self) -> float | None:
        """Seconds."""

    @property
    def f_number(self) -> float | None:
        """Aperture."""


E = TypeVar("E", bound=Exposed)


class Match(Enum):
    """How far two exposures agree."""

    SAME = "same"
    #: The tags do not tell: what the frames show decides (`pipeline/denoise.py`).
    UNDECIDED = "undecided"
    ANOTHER = "another"


#: The settings of an exposure: name in messages, value, brightness in EV of a value.
SETTINGS: tuple[
    tuple[str, Callable[[Exposed], float | None], Callable[[float], float]], ...
] = (
    ("ISO", lambda frame: frame.iso, lambda value: math.log2(value)),
    ("exposure time", lambda frame: frame.exposure_time, lambda value: math.log2(value)),
    ("aperture", lambda frame: frame.f_number, lambda value: -2 * math.log2(value)),
)  # fmt: skip


def stated(frame: Exposed) -> tuple[bool, ...]:
    """Return which of `SETTINGS` a frame states."""
    return tuple(read(frame) is not None for _, read, _ in SETTINGS)


def steps(one: Exposed, other: Exposed) -> list[float]:
    """Return how much brighter the other frame is by each of `SETTINGS`, in EV.

    0 where a frame does not state a setting.
    """
    return [_step(brightness, read(one), read(other)) for _, read, brightness in SETTINGS]


def _step(brightness: Callable[[float], float], one: float | None, other: float | None) -> float:
    return 0.0 if one is None or other is None else brightness(other) - brightness(one)


def difference(one: Exposed, other: Exposed) -> float:
    """Return by how much two exposures differ at most, in EV: in a setting, or all together.

    Settings that only one of the frames states are left out.
    """
    by_setting = steps(one, other)
    return max(abs(step) for step in (*by_setting, math.fsum(by_setting)))


def match(one: Exposed, other: Exposed) -> Match:
    """Return how far two exposures agree, each setting and all together.

    A setting that only one of them states is undecided, unless another setting differs.
    """
    off = difference(one, other)
    if off >= ANOTHER_EV:
        return Match.ANOTHER
    return Match.SAME if off <= SAME_EV and stated(one) == stated(other) else Match.UNDECIDED


def brighter_by(one: Exposed, other: Exposed) -> float:
    """Return how much brighter the other frame is by its settings, in EV; 0 where they agree.

    Settings that only one of the frames states are left out.
    """
    return 0.0 if match(one, other) is Match.SAME else math.fsum(steps(one, other))


def may_be_one_burst(one: Exposed, other: Exposed) -> bool:
    """Whether two frames may be of one burst, as far as their tags tell."""
    return match(one, other) is not Match.ANOTHER


def are_mixed(frames: Sequence[Exposed]) -> bool:
    """Whether any two frames differ in exposure, as far as their tags tell."""
    alike: dict[tuple[bool, ...], list[list[float]]] = {}
    for frame in frames:
        values = [0.0 if (v := read(frame)) is None else to_ev(v) for _, read, to_ev in SETTINGS]
        alike.setdefault(stated(frame), []).append(values)
    # By the extremes, not by pairs: a run may hold thousands of frames.
    return any(
        _largest_difference(
            [_stated_by_both(values, one, other) for values in alike[one]],
            [_stated_by_both(values, one, other) for values in alike[other]],
        )
        >= ANOTHER_EV
        for one, other in combinations_with_replacement(alike, 2)
    )


def _stated_by_both(
    values: Sequence[float], one: tuple[bool, ...], other: tuple[bool, ...]
) -> list[float]:
    """Return the values that both of two kinds of frames state, and their sum."""
    both = [v if a and b else 0.0 for v, a, b in zip(values, one, other, strict=True)]
    return [*both, math.fsum(both)]


def _columns(rows: Sequence[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _largest_difference(ones: Sequence[list[float]], others: Sequence[list[float]]) -> float:
    """Return the largest difference in a column between a row of each of two tables."""
    return max(
        max(max(a) - min(b), max(b) - min(a))
        for a, b in zip(_columns(ones), _columns(others), strict=True)
    )


def stops(frames: Sequence[Exposed]) -> list[float]:
    """Return how much brighter each frame is than the middle one of them all, in EV.

    Of two middle ones, the darker one is 0. Settings that a frame does not state are left out.
    """
    complete = max(frames, key=lambda frame: sum(stated(frame)))
    over_complete = [brighter_by(complete, frame) for frame in frames]
    middle = median_low(over_complete)
    return [stop - middle for stop in over_complete]


def largest_step(one: Exposed, other: Exposed) -> tuple[str, Callable[[Exposed], object]]:
    """Return the setting in which two exposures differ most: its name, and how to read it.

    Where no setting alone makes them differ, the whole exposure.
    """
    by_setting = [abs(step) for step in steps(one, other)]
    name, read, _ = SETTINGS[by_setting.index(max(by_setting))]
    return (name, read) if max(by_setting) >= ANOTHER_EV else ("exposure", show)


def split(frames: Sequence[E]) -> list[list[E]]:
    """Cut a sequence where a frame has another exposure than the first one since the last cut.

    The first one of those that state the same settings, too: a frame that states none may be of
    any burst, and must not join two of them.
    """
    runs: list[list[E]] = []
    firsts: dict[tuple[bool, ...], E] = {}
    for frame in frames:
        if not all(may_be_one_burst(first, frame) for first in firsts.values()):
            firsts.clear()
        if not firsts:
            runs.append([])
        firsts.setdefault(stated(frame), frame)
        runs[-1].append(frame)
    return runs


def alike(frames: Sequence[Exposed]) -> list[list[int]]:
    """Return the indices of frames by exposure, in the order of their first frames.

    Each frame may be of one burst with the first one of its list (`may_be_one_burst`).
    """
    groups: list[list[int]] = []
    for n, frame in enumerate(frames):
        for group in groups:
            if may_be_one_burst(frames[group[0]], frame):
                group.append(n)
                break
        else:
            groups.append([n])
    return groups


def show_time(seconds: float) -> str:
    """Return an exposure time as cameras show it: "1/60 s", "2.5 s"."""
    if seconds <= 0:
        return "0 s"
    return f"{round(seconds, 1):g} s" if seconds >= 0.4 else f"1/{1 / seconds:.0f} s"


def show_aperture(f_number: float) -> str:
    """Return an aperture as cameras show it: "f/1.8", though phones write 1.7999."""
    return f"f/{round(f_number, 2):g}"


def show_iso(iso: float) -> str:
    """Return a sensitivity as text: "ISO 800"; all digits of the highest too."""
    return f"ISO {iso:.8g}"


def show_stops(stops: float) -> str:
    """Return a difference of exposure as text: "+2.0 EV", "-0.3 EV", "0 EV"."""
    return "0 EV" if abs(stops) < 0.05 else f"{stops:+.1f} EV"


def show(frame: Exposed) -> str:
    """Return an exposure as text: "1/60 s, f/1.8, ISO 800"; without what it does not state."""
    time = frame.exposure_time
    parts = ["unknown time" if time is None else show_time(time)]
    if frame.f_number:
        parts.append(show_aperture(frame.f_number))
    if frame.iso:
        parts.append(show_iso(frame.iso))
    return ", ".join(parts)
