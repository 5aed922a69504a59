"""Find the frame of a burst whose NoiseProfile alone is wrong.

Frames of one camera have profiles that differ with the ISO only. Where most frames of a burst agree
and one states something else, that one is wrong, whatever the pictures show.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..raw import exposure
from ..raw.info import RawInfo

#: Profiles agree if their variances at one ISO differ by less than this factor.
_MAX_FACTOR = 2.0
#: Signals at which they are compared: middle grey; and deep shadow between frames of one ISO, as
#: the read noise of cameras follows the ISO in many ways.
_MIDDLE_GREY, _SHADOW = 0.18, 0.005
#: Fewer frames that agree with each other do not tell which profile is wrong.
_MIN_AGREEING = 2
#: Smaller variances are told as this one.
_LEAST = 1e-18


def replace_odd_profiles(infos: Sequence[RawInfo], doubtful: Collection[int] = ()) -> list[RawInfo]:
    """Return frames, with the others' noise at its ISO for one whose profile alone is wrong.

    A note names how far its own profile is off. Unless most frames agree with each other, all stay.

    Args:
        infos: of one burst, in any order.
        doubtful: frames whose exposure is not what they state: if no other frame has their ISO,
            the ISO may be wrong, and not the profile.
    """
    usual_isos = {info.iso for n, info in enumerate(infos) if n not in doubtful}
    stating = [
        n
        for n, info in enumerate(infos)
        if info.noise_profile is not None and (n not in doubtful or info.iso in usual_isos)
    ]
    with_iso = [n for n in stating if infos[n].iso]
    # Without an ISO, nothing tells how the profiles should differ; unless no frame states one.
    compared = with_iso or stating
    grey = {n: _variance(infos[n], _MIDDLE_GREY) / (infos[n].iso or 1.0) for n in compared}
    if len(grey) <= _MIN_AGREEING:
        return list(infos)
    usual = float(np.median(list(grey.values())))
    agreeing = [n for n in compared if _agree(grey[n], usual)]
    agreeing = [n for n in agreeing if not _is_odd_in_shadows(infos, n, agreeing)]
    odd = [n for n in compared if n not in agreeing]
    if len(agreeing) < max(_MIN_AGREEING, len(odd) + 1):
        return list(infos)
    replaced = list(infos)
    for n in odd:
        replaced[n] = _with_profile_of(infos[n], [infos[other] for other in agreeing])
    return replaced


def _variance(info: RawInfo, signal: float) -> float:
    """Return the variance that a frame's profile states at a signal, mean over the planes."""
    noise = _profile(info)
    return float(np.mean(np.asarray(noise.shot) * signal + np.asarray(noise.read)))


def _profile(info: RawInfo) -> NoiseModel:
    if info.noise_profile is None:
        raise ValueError(f"{info.frame} states no noise")
    return info.noise_profile


def _agree(one: float, other: float) -> bool:
    # Not by a ratio: a profile may be so small that its variance is rounded to 0.
    return one <= _MAX_FACTOR * other and other <= _MAX_FACTOR * one


def _is_odd_in_shadows(infos: Sequence[RawInfo], n: int, others: Sequence[int]) -> bool:
    """Whether a frame's profile differs in deep shadow from those of most frames of its ISO."""
    iso = infos[n].iso or 1.0
    shadows = [
        _variance(infos[other], _SHADOW)
        for other in others
        if abs(math.log2((infos[other].iso or 1.0) / iso)) <= exposure.SAME_EV
        # Read noise of 0, as some phones state, is replaced later.
        and all(_profile(infos[other]).read)
    ]
    if not all(_profile(infos[n]).read) or len(shadows) <= _MIN_AGREEING:
        return False
    return not _agree(_variance(infos[n], _SHADOW), float(np.median(shadows)))


def _with_profile_of(info: RawInfo, others: Sequence[RawInfo]) -> RawInfo:
    """Return a frame with the noise of the one of the others whose ISO is nearest, at its ISO."""
    iso = info.iso or 1.0

    def distance(other: RawInfo) -> float:
        return abs(math.log2((other.iso or 1.0) / iso))

    nearest = min(others, key=distance)
    likely = _profile(nearest)
    if distance(nearest) > exposure.SAME_EV:
        try:
            likely = likely.at_iso(iso / (nearest.iso or 1.0))
        except KpnError:  # no such noise at an ISO so far away: that ISO is no better known
            return info
    right = replace(info, noise_profile=likely)
    ratios = [
        math.sqrt(max(_variance(info, signal), _LEAST) / max(_variance(right, signal), _LEAST))
        for signal in (_MIDDLE_GREY, _SHADOW)
    ]
    ratio = max(ratios, key=lambda value: abs(math.log(value)))
    note = (
        f"its NoiseProfile states {ratio:.2g} times the sigma of the other frames' at its ISO: "
        "theirs is used"
    )
    return replace(right, notes=(*info.notes, note))
