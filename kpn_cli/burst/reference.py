"""Check that frames were taken alike, sort them by time, pick the reference frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import KpnError
from ..raw.info import RawInfo

#: What has to be the same in all frames, in the words of a message.
_SAME: tuple[tuple[str, Callable[[RawInfo], object]], ...] = (
    ("camera", lambda info: f"{info.make} {info.model}".strip() or "unknown"),
    ("size", lambda info: f"{info.width}x{info.height}"),
    ("CFA phase", lambda info: info.phase),
    ("ISO", lambda info: info.iso),
    ("exposure time", lambda info: info.exposure_time),
    ("aperture", lambda info: info.f_number),
)


def sort_by_time(infos: Sequence[RawInfo]) -> list[RawInfo]:
    """Sort frames by capture time; by name where times are equal or missing."""
    timed = all(info.captured for info in infos)
    return sorted(infos, key=lambda i: (i.captured if timed else 0, i.path.name, str(i.path)))


def check_same(infos: Sequence[RawInfo]) -> None:
    """Check that frames are of one camera, size and exposure.

    Raises:
        KpnError: naming the odd file and what is odd about it.
    """
    for name, read in _SAME:
        values = Counter(read(info) for info in infos)
        if len(values) == 1:
            continue
        usual, _ = values.most_common(1)[0]
        odd = next(info for info in infos if read(info) != usual)
        normal = next(info for info in infos if read(info) == usual)
        raise KpnError(
            f"{odd.path.name}: {name} {_show(read(odd))}, but {normal.path.name} has "
            f"{_show(usual)}; pass the frames of one burst only"
        )


def _show(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def sharpness(planes: np.ndarray) -> float:
    """Return how sharp a frame is, against others of its burst.

    The mean square of second differences of the green planes on every second
    cell: noise adds the same to all frames of a burst, blur takes from one.

    Args:
        planes: `(4, height, width)`, DN or linear.
    """
    green = planes[1].astype(np.float32)[::2, ::2] + planes[2].astype(np.float32)[::2, ::2]
    return float(sum(np.square(np.diff(green, 2, axis)).mean() for axis in (0, 1) if
                     green.shape[axis] > 2))  # fmt: skip


def pick_reference(wanted: str, infos: Sequence[RawInfo], sharp: Sequence[float]) -> int:
    """Return the index of the reference frame.

    Args:
        wanted: `auto` (the sharpest of the middle half), `first`, an index from 0 in
            order of time, or a file's name or path.
        infos: the frames in order of time.
        sharp: their `sharpness`.

    Raises:
        KpnError: if there is no such frame, or more than one.
    """
    if wanted == "auto":
        # The middle half: its frames have the shortest way to all others.
        quarter = len(infos) // 4
        middle = range(quarter, len(infos) - quarter)
        return max(middle, key=lambda index: sharp[index])
    if wanted == "first":
        return 0
    names = [info.path.name for info in infos]
    same = [n for n, info in enumerate(infos) if wanted in (info.path.name, str(info.path))]
    if len(same) == 1:
        return same[0]
    if same:
        raise KpnError(f"--reference {wanted}: there are {len(same)} of that name; give its index")
    if wanted.isdecimal() and int(wanted) < len(infos):
        return int(wanted)
    raise KpnError(
        f"--reference {wanted}: no such frame; give auto, first, 0 to {len(infos) - 1}, or one of "
        f"{', '.join(names[:8])}"
    )
