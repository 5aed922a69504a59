"""Which files are frames of one burst: by what cameras say, by time, and by names at last.

Frames of one folder and one camera follow on each other. Two neighbours belong together if the
camera says so (a burst's name, the frame's number in it), or if one begins within a gap after
the other has ended; where files have no time, if their names are numbered on. What follows on
each other is a burst as far as size, ISO, exposure and aperture stay the same. Frames that each
have another exposure are a bracket, which is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..choices import DEFAULT_GAP
from ..raw.info import Capture

#: Neighbours in a bracket differ by this much at least, in EV (a third is the finest step).
_BRACKET_STEP = 0.3
_BRACKET_FRAMES = 3

#: A burst's own name, in the names that phones give: 00001IMG_00001_BURST20200102030405_COVER,
#: IMG_20200102_030405_BURST001.
_BURST = re.compile(
    r"^(?:.*_BURST(?P<long>\d{8,})|(?P<short>IMG_\d{8}_\d{6})_BURST\d+)", re.IGNORECASE
)
_NUMBERED = re.compile(r"^(?P<name>.*?)(?P<number>\d{1,9})$")


@dataclass(frozen=True)
class Group:
    """Files that belong together.

    Attributes:
        files: in order of time.
        why: what says so, for the user.
        refused: why they can't be merged; "" if they can.
    """

    files: tuple[Path, ...]
    why: str
    refused: str = ""


def group(
    captures: Sequence[Capture], *, gap: float = DEFAULT_GAP, size: int | None = None
) -> list[Group]:
    """Share out files among bursts.

    Args:
        captures: of the files, in any order.
        gap: seconds between the end of an exposure and the next, at most, in a burst.
        size: instead of all that: so many files each, in order of time or name.

    Returns:
        Every file is in exactly one group; by folder, then in order of time.
    """
    found = []
    for frames in _by_camera(captures):
        if size is not None:
            found += [
                Group(_files(frames[at : at + size]), f"every {size} files")
                for at in range(0, len(frames), size)
            ]
            continue
        # Some cameras write a fraction of 0 with every time: then it says nothing.
        fine = any(frame.captured and frame.captured.microsecond for frame in frames)
        for run in _split(frames, lambda a, b, fine=fine: _follows(a, b, gap, fine)):
            found += _bursts(run)
    return sorted(found, key=lambda burst: burst.files[0].parent)


def _by_camera(captures: Iterable[Capture]) -> list[list[Capture]]:
    """Sort the frames of each folder and camera by time, those without one by name."""
    cameras: dict[tuple[object, ...], list[Capture]] = {}
    for frame in captures:
        key = (frame.path.parent, frame.make, frame.model, frame.serial, frame.captured is None)
        cameras.setdefault(key, []).append(frame)
    return [
        sorted(frames, key=lambda f: (f.captured or 0, _natural(f.path.stem), f.path.name))
        for frames in cameras.values()
    ]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers: IMG_9 before IMG_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _parts(name)]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d{1,18})", name) if part]


def _split(
    frames: Sequence[Capture], together: Callable[[Capture, Capture], bool]
) -> list[list[Capture]]:
    """Cut a sequence where two neighbours don't belong together."""
    runs = [[frames[0]]]
    for one, other in pairwise(frames):
        if together(one, other):
            runs[-1].append(other)
        else:
            runs.append([other])
    return runs


def _follows(one: Capture, other: Capture, gap: float, fine: bool) -> bool:
    """Whether a frame goes on with the burst of the one before it."""
    ids = _burst_id(one), _burst_id(other)
    if any(ids):
        return ids[0] == ids[1]
    if one.number and other.number and other.number <= one.number:
        return False  # the camera has begun to count anew
    if one.captured is None or other.captured is None:
        return _numbered_on(one.path.stem, other.path.stem)
    pause = (other.captured - one.captured).total_seconds() - (one.exposure_time or 0)
    # Of whole seconds, 0.1 s can look like one.
    return pause <= (gap if fine else max(gap, 1.0))


def _burst_id(frame: Capture) -> str:
    """What the camera calls the burst, in the file or in its name."""
    if frame.burst_id:
        return frame.burst_id
    found = _BURST.match(frame.path.stem)
    return found["long"] or found["short"] if found else ""


def _numbered_on(one: str, other: str) -> bool:
    """Whether two names are the same but for a number that goes on by one."""
    first, second = _NUMBERED.match(one), _NUMBERED.match(other)
    if not first or not second or first["name"] != second["name"]:
        return False
    return int(second["number"]) == int(first["number"]) + 1


def _bursts(run: Sequence[Capture]) -> list[Group]:
    """Make bursts of frames that follow on each other."""
    parts = _split(run, lambda one, other: _exposure(one) == _exposure(other))
    if _is_bracket(run, parts):
        times = ", ".join(dict.fromkeys(_show(frame) for frame in run))
        return [
            Group(
                _files(run),
                "an exposure bracket",
                f"an exposure bracket ({times}): kpn merges frames of one exposure; merge it "
                "with an HDR program, or pass the frames of one exposure with --no-group",
            )
        ]
    return [Group(_files(part), _why(part, len(parts))) for part in parts]


def _exposure(frame: Capture) -> tuple[object, ...]:
    size = frame.height, frame.width
    return size, frame.iso, frame.exposure_time, frame.f_number


def _is_bracket(run: Sequence[Capture], parts: Sequence[Sequence[Capture]]) -> bool:
    if len(parts) > 1 and any(frame.bracketed for frame in run):
        return True
    if len(run) < _BRACKET_FRAMES or len(parts) < len(run):
        return False
    return all(abs(_brightness(a) - _brightness(b)) >= _BRACKET_STEP for a, b in pairwise(run))


def _brightness(frame: Capture) -> float:
    """Exposure in EV; what isn't known counts nothing."""
    time, iso, aperture = (
        math.log2(value or 1.0) for value in (frame.exposure_time, frame.iso, frame.f_number)
    )
    return time + iso - 2 * aperture


def _show(frame: Capture) -> str:
    time = frame.exposure_time
    if time is None:
        text = "unknown time"
    else:
        text = f"{time:g} s" if time >= 0.4 else f"1/{1 / time:.0f} s"
    return f"{text} at ISO {frame.iso:g}" if frame.iso else text


def _why(part: Sequence[Capture], parts: int) -> str:
    if len(part) == 1:
        return "a single frame"
    if _burst_id(part[0]):
        why = f"burst {_burst_id(part[0])}"
    elif part[0].captured is None:
        why = "names that go on, no times"
    else:
        seconds = (part[-1].captured - part[0].captured).total_seconds()
        why = f"taken within {seconds:.1f} s"
    return why if parts == 1 else f"{why}, of equal exposure"


def _files(frames: Iterable[Capture]) -> tuple[Path, ...]:
    return tuple(frame.path for frame in frames)
