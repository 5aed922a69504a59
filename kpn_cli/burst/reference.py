"""Checks that frames have the same settings, sorts them by time, chooses the reference frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from ..errors import KpnError, listed
from ..raw import exposure
from ..raw.info import RawInfo

#: Settings that must be the same in all frames, besides the exposure: name in messages, value.
_SAME: tuple[tuple[str, Callable[[RawInfo], object]], ...] = (
    ("camera", lambda info: f"{info.make} {info.model}".strip() or "unknown"),
    ("size", lambda info: f"{info.width}x{info.height}"),
    ("CFA phase", lambda info: info.phase),
)


def sort_by_time(infos: Sequence[RawInfo]) -> list[RawInfo]:
    """Return frames sorted by capture time, and by name where times are equal or missing."""
    timed = all(info.captured for info in infos)

    def key(info: RawInfo) -> tuple[datetime, str, str, int]:
        time = info.captured if timed else None
        return time or datetime.min, info.path.name, str(info.path), info.image

    return sorted(infos, key=key)


def check_same_settings(infos: Sequence[RawInfo]) -> None:
    """Check that all frames have the same camera and size, and an exposure of one burst.

    Exposures that differ by less than `exposure.ANOTHER_EV` may be of one burst.

    Raises:
        KpnError: if not; names the files that differ, their folder, and the setting.
    """
    for name, read in _SAME:
        values = [read(info) for info in infos]
        if len(set(values)) > 1:
            usual = Counter(values).most_common(1)[0][0]
            odd = [info for info in infos if read(info) != usual]
            raise _not_one_burst(infos[values.index(usual)], odd, name, read)
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
        raise _not_one_burst(anchor, odd, name, read)


def _not_one_burst(
    normal: RawInfo, odd: Sequence[RawInfo], name: str, read: Callable[[RawInfo], object]
) -> KpnError:
    """Return the error about frames that differ from a normal one in a setting."""
    others = listed([info.path.name for info in odd[1:]])
    return KpnError(
        f"{odd[0].path.name}: {name} {_show(read(odd[0]))}, but {normal.path.name} has "
        f"{_show(read(normal))}{f' (others that differ: {others})' if others else ''}; pass "
        f"the frames of one burst only (folder {odd[0].path.parent})"
    )


def _show(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


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


def pick_reference(wanted: str, infos: Sequence[RawInfo], sharpness: Sequence[float]) -> int:
    """Return the index of the reference frame.

    Args:
        wanted: `auto` (the sharpest frame of the middle half), `first`, an index from 0
            in order of time, or a file's name or path.
        infos: the frames in order of time.
        sharpness: their `frame_sharpness`.

    Raises:
        KpnError: if no frame matches, or more than one.
    """
    if wanted == "auto":
        # The middle half: its frames have moved least from all others.
        quarter = len(infos) // 4
        middle = range(quarter, len(infos) - quarter)
        return max(middle, key=lambda index: sharpness[index])
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
        f"--reference {wanted}: no such frame; give auto, first, 0 to {len(infos) - 1}, or one of "
        f"{', '.join(names[:8])}"
    )
