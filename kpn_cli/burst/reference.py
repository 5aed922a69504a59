"""Checks that frames have the same settings, sorts them by time, chooses the reference frame.

In a burst of several exposures, the reference is the frame that a photographer would develop: of
the metered exposure, hardly clipped, sharp.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median_high, median_low

import numpy as np

from ..choices import EXPOSURES
from ..errors import KpnError, listed
from ..raw import exposure
from ..raw.exposure import Exposed
from ..raw.info import RawInfo
from . import brackets, brightness
from .grouping import natural_order

#: A frame of which at most this share of the cells is clipped is well exposed.
_HARDLY_CLIPPED = 0.03

#: Settings that must be the same in all frames, besides the exposure: name in messages, value.
_SAME: tuple[tuple[str, Callable[[RawInfo], object]], ...] = (
    ("camera", lambda info: f"{info.make} {info.model}".strip() or "unknown"),
    ("size", lambda info: f"{info.width}x{info.height}"),
    ("CFA phase", lambda info: info.phase),
)


def sort_by_time(infos: Sequence[RawInfo]) -> list[RawInfo]:
    """Return frames sorted by capture time, and by name where times are equal or missing."""
    timed = all(info.captured for info in infos)

    def key(info: RawInfo) -> tuple[datetime, list[tuple[int, str]], Path, int]:
        time = info.captured if timed else None
        return time or datetime.min, natural_order(info.path.name), info.path, info.image

    return sorted(infos, key=key)


def check_same_settings(infos: Sequence[RawInfo], exposures: str = EXPOSURES[0]) -> None:
    """Check that all frames have the same camera and size, and exposures that may be merged.

    Exposures that differ by less than `exposure.ANOTHER_EV` may be merged, and those that differ
    as automatic exposure does within a burst (`brackets`).

    Args:
        infos: the frames, in any order.
        exposures: of `choices.EXPOSURES`; with "mixed", any exposures may be merged.

    Raises:
        KpnError: if not; names the files that differ, their folder, and the setting.
    """
    for name, read in _SAME:
        values = [read(info) for info in infos]
        if len(set(values)) > 1:
            usual = Counter(values).most_common(1)[0][0]
            odd = [info for info in infos if read(info) != usual]
            raise _not_one_burst(infos[values.index(usual)], odd, name, read)
    in_order = sort_by_time(infos)
    automatic = len(brackets.split_where_set_anew(in_order)) == 1
    if exposures == "mixed" or (automatic and not brackets.is_bracket(in_order)):
        return
    # A frame that states few settings agrees with frames that do not agree with each other.
    alike: dict[tuple[bool, ...], list[RawInfo]] = {}
    for info in infos:
        alike.setdefault(exposure.stated(info), []).append(info)
    groups = sorted(alike.values(), key=len)
    for group in groups:
        _check_exposures(_anchor(group), group)
    _check_exposures(_anchor(groups[-1]), infos)


def _anchor(infos: Sequence[RawInfo]) -> RawInfo:
    """Return the frame that most agree with: along a chain of frames, steps add up."""
    return max(infos, key=lambda one: sum(exposure.may_be_one_burst(one, o) for o in infos))


def _check_exposures(anchor: RawInfo, infos: Sequence[RawInfo]) -> None:
    odd = [info for info in infos if not exposure.may_be_one_burst(anchor, info)]
    if odd:
        name, read = exposure.largest_step(anchor, odd[0])
        raise _not_one_burst(anchor, odd, name, read, ", or merge them all with --exposures mixed")


def _not_one_burst(
    normal: RawInfo,
    odd: Sequence[RawInfo],
    name: str,
    read: Callable[[RawInfo], object],
    remedy: str = "",
) -> KpnError:
    """Return the error about frames that differ from a normal one in a setting."""
    others = listed([info.path.name for info in odd[1:]])
    return KpnError(
        f"{odd[0].path.name}: {name} {_show(name, read(odd[0]))}, but {normal.path.name} has "
        f"{_show(name, read(normal))}{f' (others that differ: {others})' if others else ''}; pass "
        f"the frames of one burst only (folder {odd[0].path.parent}){remedy}"
    )


def _show(name: str, value: object) -> str:
    if value is None:
        return "none"
    if not isinstance(value, float):
        return str(value)
    if name == "exposure time":
        return exposure.show_time(value)
    return exposure.show_aperture(value) if name == "aperture" else f"{value:.8g}"


def frame_sharpness(planes: np.ndarray) -> float:
    """Return a measure of a frame's sharpness, to compare the frames of one burst.

    The mean square of the second differences of the sum of both green planes, along rows
    and columns, on every second cell. Noise adds the same amount in all frames of a burst,
    blur lowers it.

    Args:
        planes: `(4, height, width)`, in DN or linear; the same unit for all frames.

    Returns:
        A number >= 0, in that unit squared.
    """
    green = planes[1].astype(np.float32)[::2, ::2] + planes[2].astype(np.float32)[::2, ::2]
    return float(sum(np.square(np.diff(green, 2, axis)).mean() for axis in (0, 1) if
                     green.shape[axis] > 2))  # fmt: skip


def pick_reference(
    wanted: str,
    infos: Sequence[RawInfo],
    sharpness: Sequence[float],
    clipped: Sequence[float] | None = None,
    *,
    blank: Sequence[Exposed] = (),
    stops: Sequence[float] | None = None,
) -> int:
    """Return the index of the reference frame.

    Args:
        wanted: `auto`, `darkest`, `first`, an index from 0 in order of time, or a file's name or
            path. `auto` is the sharpest frame of the middle half of the burst; where exposures
            differ, of the middle half of the frames of one exposure: the middle one, or, if more
            than 3 % of its cells are clipped, the brightest that is hardly clipped. `darkest` is
            the sharpest frame of the middle half of those of the darkest exposure.
        infos: the frames in order of time.
        sharpness: their `frame_sharpness`.
        clipped: share of the cells of each frame that are clipped, where exposures differ; None
            where they do not.
        blank: the frames that were left out because they show nothing or cannot be read: they
            tell which exposure is the middle one.
        stops: brightness of the frames and of the blank ones where tags do not tell it
            (`brightness.Brightness`).

    Raises:
        KpnError: if no frame matches, or more than one.
    """
    if wanted in ("auto", "darkest"):
        chosen: Sequence[int] = range(len(infos))
        if clipped is not None:
            everything: list[Exposed] = [*infos, *blank]
            levels = _exposures(everything, stops)
            alike = [[n for n in frames if n < len(infos)] for frames in levels]
            level_of = sorted(n for n, frames in enumerate(levels) for _ in frames)
            darkest = next(frames for frames in alike if frames)
            chosen = _well_exposed(alike, clipped, level_of) if wanted == "auto" else darkest
        # The middle half: its frames have moved least from all others.
        quarter = len(chosen) // 4
        return max(chosen[quarter : len(chosen) - quarter], key=lambda index: sharpness[index])
    if wanted == "first":
        return 0
    names = [info.frame.name for info in infos]
    same = [n for n, info in enumerate(infos) if wanted in (info.frame.name, str(info.frame))]
    if len(same) == 1:
        return same[0]
    if same:
        raise KpnError(f"--reference {wanted}: {len(same)} frames have that name; give the index")
    if wanted.isdecimal() and int(wanted) < len(infos):
        return int(wanted)
    raise KpnError(
        f"--reference {wanted}: no such frame; give auto, first, darkest, 0 to {len(infos) - 1}, "
        f"or one of {', '.join(names[:8])}"
    )


def _exposures(infos: Sequence[Exposed], stops: Sequence[float] | None = None) -> list[list[int]]:
    """Return the indices of the frames of each exposure, the darkest first, in order of time.

    Only frames of one exposure have the same noise, so that their sharpness can be compared.
    """
    values = exposure.stops(infos) if stops is None else stops
    order = sorted(range(len(infos)), key=lambda index: values[index])
    sorted_stops = None if stops is None else [stops[index] for index in order]
    alike = brightness.alike([infos[index] for index in order], sorted_stops)
    return [sorted(order[n] for n in frames) for frames in alike]


def _well_exposed(
    alike: Sequence[Sequence[int]], clipped: Sequence[float], level_of: Sequence[int]
) -> Sequence[int]:
    """Return the frames of the exposure that a photographer would develop.

    Args:
        alike: indices of the frames of each exposure, the darkest first; none for an exposure all
            of whose frames are blank.
        clipped: share of the cells of each frame that are clipped.
        level_of: the exposure of each frame, blank ones too, sorted: its index in `alike`.
    """
    shown = [n for n, frames in enumerate(alike) if frames]
    shares = {n: float(np.median([clipped[index] for index in alike[n]])) for n in shown}
    hardly = [n for n in shown if shares[n] <= _HARDLY_CLIPPED]
    # The camera's metered exposure is the middle one; then the brightest, then the darkest.
    metered = median_high(level_of), median_low(level_of)
    nearest = [min(shown, key=lambda n: (abs(n - middle), -n)) for middle in metered]
    order = [*nearest, *reversed(shown)]
    return alike[next((n for n in order if n in hardly), shown[0])]
