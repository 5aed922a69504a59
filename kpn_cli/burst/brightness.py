"""How bright the frames of a burst are: by their tags, or by what they show where tags are wrong.

Two frames are compared block by block where neither is clipped or black. Frames far apart in
exposure have no such blocks in common, so each frame is compared with the next brighter one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_high, median_low
from typing import NamedTuple

import numpy as np

from ..raw import exposure
from ..raw.exposure import Exposed
from ..raw.info import RawInfo
from . import brackets, tones

#: Tags that contradict the brightness of a frame by more than this, in EV, are wrong: shutters are
#: off by less.
MAX_TAG_ERROR = 1 / 3
#: Side of the blocks that are compared, in every second cell.
_SIDE = 8
#: A block with a sample above this share of the clipping point may have lost light.
_CLIPPED = 0.98
#: The darker block of a pair is above black by this many of its standard errors, and by this much
#: in DN: black levels are off by half a DN.
_BRIGHT_ERRORS, _BRIGHT_DN = 10.0, 2.0
#: Fewer blocks show nothing for certain, and neither do blocks whose ratios scatter by more than
#: this, in EV: then the scene differs, and not the exposure.
_MIN_BLOCKS, _MAX_SCATTER = 8, 0.5
#: Least mean signal, over white, whose ratio is taken where no blocks can be compared.
_DARK = 1e-3


@dataclass(frozen=True)
class Brightness:
    """The brightness of the frames of a burst.

    Attributes:
        stops: brightness of each frame in EV, over any level: by its tags, or, where these are
            wrong or missing, by its picture. None where the tags of all frames are right.
        mixed: whether the frames differ in exposure.
    """

    stops: list[float] | None = None
    mixed: bool = False

    def over(self, infos: Sequence[Exposed], one: int, other: int) -> float:
        """Return how much brighter the other frame is by its exposure, in EV."""
        if self.stops is None:
            return exposure.brighter_by(infos[one], infos[other])
        return self.stops[other] - self.stops[one]

    def of(self, kept: Sequence[int]) -> Brightness:
        """Return the brightness of some frames, by their indices."""
        stops = None if self.stops is None else [self.stops[n] for n in kept]
        return Brightness(stops, self.mixed)

    def contradicted(self, infos: Sequence[Exposed]) -> list[int]:
        """Return the frames that show another brightness than they state, by their indices."""
        if self.stops is None:
            return []
        return [
            n
            for n, (stop, stated) in enumerate(zip(self.stops, exposure.stops(infos), strict=True))
            if infos[n].exposure_time is not None and abs(stop - stated) > MAX_TAG_ERROR
        ]

    def with_unseen(self, infos: Sequence[Exposed], unseen: Sequence[Exposed]) -> Brightness:
        """Return the brightness of these frames and of others, of which only the tags are known.

        Args:
            infos: these frames, one of which at least states an exposure time.
            unseen: the others, which all state one.
        """
        if self.stops is None or not unseen:
            return self
        known = [n for n, info in enumerate(infos) if info.exposure_time is not None]
        stops = [
            median_low([self.stops[n] + exposure.brighter_by(infos[n], each) for n in known])
            for each in unseen
        ]
        return Brightness([*self.stops, *stops], self.mixed)


class _Step(NamedTuple):
    """By how much a frame is brighter than another, in EV, and whether that is certain."""

    stops: float
    certain: bool


def brightness(
    infos: Sequence[RawInfo], planes: Sequence[np.ndarray], *, any_exposure: bool
) -> Brightness:
    """Return how bright frames are, by their tags or by what they show.

    Tags are wrong where they contradict the pictures by more than `MAX_TAG_ERROR`; those of most
    frames are taken to be right. Frames that state one exposure are taken for a bracket only if
    their brightness is that of one: light flickers.

    Args:
        infos: the frames in order of time.
        planes: of each frame, `(4, height, width)` in DN.
        any_exposure: whether frames are looked at that state one exposure, or no exposure time.
    """
    mixed = exposure.are_mixed(infos)
    if len(infos) < 2 or not (mixed or any_exposure):
        return Brightness(None, mixed)
    by_tags = exposure.stops(infos)
    stated = [
        stop if info.exposure_time is not None else None
        for info, stop in zip(infos, by_tags, strict=True)
    ]
    chains = _chains(infos, planes)
    shown = {n: stop for chain in chains for n, stop in chain.stops.items()}
    in_time = [shown[n] for n in range(len(infos))]
    if not mixed and not _are_mixed(stated, in_time, certain=len(chains) == 1):
        return Brightness()
    stops = _with_right_tags(stated, chains)
    return Brightness(None if stops == by_tags and None not in stated else stops, mixed=True)


def middle(infos: Sequence[Exposed], stops: Sequence[float] | None) -> int:
    """Return a frame of the exposure that the camera metered: the middle one of the frames'.

    Of two middle exposures, of the brighter one.

    Args:
        infos: the frames, also those that show nothing or cannot be read.
        stops: as in `Brightness`.
    """
    values = exposure.stops(infos) if stops is None else list(stops)
    return values.index(median_high(values))


def alike(infos: Sequence[Exposed], stops: Sequence[float] | None) -> list[list[int]]:
    """Return the indices of frames by exposure, in the order of their first frames.

    Each frame may be of one burst with the first one of its list, by its settings and by `stops`.

    Args:
        infos: the frames.
        stops: as in `Brightness`.
    """
    if stops is None:
        return exposure.alike(infos)
    groups: list[list[int]] = []
    for n, info in enumerate(infos):
        for group in groups:
            near = abs(stops[group[0]] - stops[n]) <= MAX_TAG_ERROR
            if near and exposure.may_be_one_burst(infos[group[0]], info):
                group.append(n)
                break
        else:
            groups.append([n])
    return groups


class _Chain(NamedTuple):
    """Frames each of which shows for certain how much brighter it is than the one before it.

    Attributes:
        stops: brightness of each in EV, the darkest first, over one level for all chains.
    """

    stops: dict[int, float]


def _chains(infos: Sequence[RawInfo], planes: Sequence[np.ndarray]) -> list[_Chain]:
    """Return the frames, from dark to bright, cut where pictures do not tell for certain."""
    order = sorted(range(len(infos)), key=lambda n: tones.mean_signal(infos[n], planes[n]))
    blocks = {n: _Blocks.of(infos[n], planes[n]) for n in order}
    chains = [_Chain({order[0]: 0.0})]
    level = 0.0
    for one, other in pairwise(order):
        step = _step(blocks[one], blocks[other])
        level += step.stops
        if not step.certain:
            chains.append(_Chain({}))
        chains[-1].stops[other] = level
    return chains


def _are_mixed(stated: Sequence[float | None], shown: Sequence[float], *, certain: bool) -> bool:
    """Whether frames whose tags tell of no difference in exposure differ by what they show."""
    if all(stop is not None for stop in stated):
        return certain and brackets.is_sequence(shown)
    differ = max(shown) - min(shown) >= exposure.ANOTHER_EV
    return brackets.is_sequence(shown) or (certain and differ)


def _with_right_tags(stated: Sequence[float | None], chains: Sequence[_Chain]) -> list[float]:
    """Return brightness by the tags, or by what is shown where these are wrong or missing.

    Those of most frames of a chain are taken to be right. A chain without tags follows the one
    before it, as well as pictures tell.
    """
    usual = [_usual_level(stated, chain) for chain in chains]
    level = next((known for known in usual if known is not None), 0.0)
    stops = [0.0] * len(stated)
    for chain, known in zip(chains, usual, strict=True):
        level = level if known is None else known
        for n, shown in chain.stops.items():
            by_tags = stated[n]
            right = by_tags is not None and abs(shown - by_tags - level) <= MAX_TAG_ERROR
            stops[n] = by_tags if right and by_tags is not None else shown - level
    return stops


def _usual_level(stated: Sequence[float | None], chain: _Chain) -> float | None:
    """Return by how much most frames show more than they state, in EV; None without tags."""
    off = [shown - t for n, shown in chain.stops.items() if (t := stated[n]) is not None]
    return median_low(off) if off else None


class _Blocks(NamedTuple):
    """Blocks of a frame.

    Attributes:
        means: `(blocks,)`, mean signal over white.
        clipped: `(blocks,)` bool, whether a sample is clipped.
        least: `(blocks,)`, signal over white from which on a block is brighter than black.
        mean: mean signal of the frame.
    """

    means: np.ndarray
    clipped: np.ndarray
    least: np.ndarray
    mean: float

    @classmethod
    def of(cls, info: RawInfo, planes: np.ndarray) -> _Blocks:
        """Return the blocks of a frame, `(4, height, width)` in DN."""
        thinned = planes[:, ::2, ::2]
        side = min(_SIDE, *thinned.shape[1:])
        rows, columns = (length // side for length in thinned.shape[1:])
        cut = thinned[:, : rows * side, : columns * side].reshape(4, rows, side, columns, side)
        black = np.asarray(info.black)[:, None, None]
        scale = info.white - black
        means = ((cut.mean((2, 4)) - black) / scale).mean(0)
        # The noise of a block, and its detail: where there is any, the block is not black.
        spread = (cut.std((2, 4)) / scale).mean(0)
        error = spread / math.sqrt(4 * side * side)
        brightest = cut.max((0, 2, 4))
        limit = max(info.black) + _CLIPPED * (info.clipped_from - max(info.black))
        least = np.maximum(_BRIGHT_ERRORS * error, _BRIGHT_DN / float(scale.min()))
        mean = tones.mean_signal(info, planes)
        return cls(means.ravel(), (brightest >= limit).ravel(), least.ravel(), mean)


def _step(darker: _Blocks, brighter: _Blocks) -> _Step:
    """Return by how much a frame is brighter than another one of the same scene."""
    usable = ~(darker.clipped | brighter.clipped)
    usable &= (darker.means > darker.least) & (brighter.means > brighter.least)
    if usable.sum() < _MIN_BLOCKS:
        ratio = max(brighter.mean, _DARK) / max(darker.mean, _DARK)
        return _Step(math.log2(ratio), certain=False)
    # The brighter half of the blocks has least noise, and least of an error of the black level.
    usable &= brighter.means >= np.median(brighter.means[usable])
    ratios = np.log2(brighter.means[usable] / darker.means[usable])
    stops = float(np.median(ratios))
    scatter = 1.48 * float(np.median(np.abs(ratios - stops)))
    return _Step(stops, certain=scatter <= _MAX_SCATTER)
