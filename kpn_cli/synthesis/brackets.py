"""Bursts that a camera brackets: exposures in turn, inexact shutters, shake of long exposures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..raw.exposure import ANOTHER_EV

#: Largest difference to the reference's exposure, in EV: more than kpn merges, to test that too.
LARGEST_EV = 8.0
#: Largest number of exposures that cameras bracket.
_MOST_EXPOSURES = 9
#: Relative error of a shutter: standard deviation, and the most.
_SHUTTER_ERROR, _LARGEST_ERROR = 0.03, 0.08
#: Smear of the reference by shake, in photo pixels, at most: half a mosaic pixel. It is drawn for
#: each burst. Other frames smear in proportion to their exposure time, up to the second value.
_LARGEST_SHAKE, _LONGEST_SMEAR = 1.0, 64.0


@dataclass(frozen=True)
class Bracket:
    """The exposures of a bracketed burst, by time alone; the reference is first.

    Attributes:
        evs: exposure of each frame as its file states it, in EV over the metered one.
        gains: `(count,)` float32, signal that each frame truly records over the reference's.
        shake: `(count, 2)`, (x, y): path of the scene during each exposure, in photo pixels; zero
            without shake.
    """

    evs: tuple[float, ...]
    gains: np.ndarray
    shake: np.ndarray

    @property
    def stated(self) -> list[float]:
        """Brightness of each frame over the reference's, as the files state it."""
        return [2 ** (ev - self.evs[0]) for ev in self.evs]

    @property
    def of_reference(self) -> list[int]:
        """Indices of the frames that are exposed like the reference, itself included."""
        return [n for n, ev in enumerate(self.evs) if ev == self.evs[0]]

    @property
    def longest(self) -> float:
        """Signal of the longest exposure over the reference's, 1 or more."""
        return float(self.gains.max())

    def expose(self, clean: np.ndarray) -> np.ndarray:
        """Return noiseless frames in the exposure of each, not clipped.

        Args:
            clean: `(count, 4, rows, columns)` float32, linear, in the reference's exposure.
        """
        exposed: np.ndarray = clean * self.gains[:, None, None, None]
        return exposed

    def record(self, clean: np.ndarray, noise: NoiseModel, rng: np.random.Generator) -> np.ndarray:
        """Return what the sensor records: each frame in its exposure, noisy, clipped at white.

        Args:
            clean: as for `expose`.
            noise: of every frame as recorded: the ISO is the same.
            rng: of the noise.
        """
        recorded = noise.sample(self.expose(clean), rng)
        recorded.clip(max=1, out=recorded)
        return recorded


def check_evs(evs: Sequence[float]) -> None:
    """Check the exposures of a bracket.

    Raises:
        KpnError: unless they are 2 to 9 numbers within 8 EV of the reference's, which are equal
            or far enough apart not to be taken for equal exposures.
    """
    if not 2 <= len(evs) <= _MOST_EXPOSURES:
        raise KpnError(f"give 2 to {_MOST_EXPOSURES} exposures, such as -2,0,2, not {len(evs)}")
    reference = in_turn(evs, 1)[0]
    for ev in evs:
        if not math.isfinite(ev):
            raise KpnError(f"{ev:g} is no exposure; give numbers of EV, such as -2,0,2")
        if abs(ev - reference) > LARGEST_EV:
            raise KpnError(
                f"{ev:g} EV is too far from the first frame's exposure, {reference:g} EV; give at "
                f"most {LARGEST_EV:g} EV more or less"
            )
    levels = sorted(set(evs))
    if len(levels) == 1:
        raise KpnError(f"all exposures are {levels[0]:g} EV; leave --ev out for equal exposures")
    for one, other in pairwise(levels):
        if other - one < ANOTHER_EV:
            raise KpnError(
                f"{one:g} and {other:g} EV are too near to each other to be two exposures; give "
                f"steps of {ANOTHER_EV:g} EV or more, or leave --ev out for equal exposures"
            )


def in_turn(evs: Sequence[float], count: int) -> tuple[float, ...]:
    """Return the exposure of each frame of a burst.

    Frames get the exposures in turn. The turn starts at the reference's exposure: 0 EV, or the
    first one if 0 is not listed. So 8 frames of -2,0,2 are 0, 2, -2, 0, 2, -2, 0, 2: two of -2,
    three of 0 and three of 2 EV.

    Args:
        evs: as listed.
        count: number of frames.
    """
    start = evs.index(0) if 0 in evs else 0
    return tuple(float(evs[(start + n) % len(evs)]) for n in range(count))


def draw_bracket(
    rng: np.random.Generator, evs: Sequence[float], count: int, *, shaken: bool = True
) -> Bracket:
    """Return a random bracket.

    The time of each exposure is off by 3 % (one sigma, at most 8 %), against the reference's.

    Args:
        rng: source of all randomness.
        evs: exposures as listed, see `in_turn`.
        count: number of frames.
        shaken: whether frames smear, in proportion to their exposure time.
    """
    given = in_turn(evs, count)
    steps = np.array(given) - given[0]
    errors = (_SHUTTER_ERROR * rng.standard_normal(count)).clip(-_LARGEST_ERROR, _LARGEST_ERROR)
    errors[0] = 0
    gains = 2**steps * (1 + errors)
    lengths = np.minimum(rng.uniform(0, _LARGEST_SHAKE) * gains, _LONGEST_SMEAR) * shaken
    angles = rng.uniform(0, 2 * np.pi, count)
    shake = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return Bracket(given, gains.astype(np.float32), shake)
