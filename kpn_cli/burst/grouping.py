"""Groups files into bursts: by the camera's burst tags, by time, or by file names.

The frames of each folder and camera are sorted by time. Two successive frames are in one run if
the camera says so (the burst's name, the frame's number), or if the pause between them is at
most the gap; where files have no time, if their names have successive numbers. A run is split
into bursts where size, ISO, exposure time or aperture change. If every frame of a run has a
different exposure, it is an exposure bracket, which kpn does not merge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

from ..choices import DEFAULT_GAP
from ..raw.info import Capture

#: Smallest difference of successive frames in a bracket, in EV (cameras step by a third), and
#: fewest frames.
_BRACKET_STEP = 0.3
_MIN_BRACKET_FRAMES = 3

#: The burst's name in file names of phones: 00001IMG_00001_BURST20200102030405_COVER,
#: IMG_20200102_030405_BURST001.
_BURST = re.compile(
    r"^(?:.*_BURST(?P<long>\d{8,})|(?P<short>IMG_\d{8}_\d{6})_BURST\d+)", re.IGNORECASE
)
#: A name that ends in a number, which desktops put in brackets: IMG_0001, "a (1)", "a [1]".
_NUMBERED = re.compile(r"^(?P<name>.*?)(?P<number>\d{1,9})(?P<end>[)\]]?)$")


@dataclass(frozen=True)
class Group:
    """Files that are one burst.

    Attributes:
        files: in order of time.
        why: why these files are a burst, for the user.
        refused: why they cannot be merged; "" if they can.
    """

    files: tuple[Path, ...]
    why: str
    refused: str = ""


def group(
    captures: Sequence[Capture], *, gap: float = DEFAULT_GAP, size: int | None = None
) -> list[Group]:
    """Group files into bursts.

    Args:
        captures: the facts about the files, in any order.
        gap: longest pause in a burst, from the end of an exposure to the next, seconds.
        size: if given, every `size` files in order of time or name are a burst, whatever
            their tags, times and names.

    Returns:
        The bursts by folder, then in order of time; each file is in exactly one of them.
    """
    bursts: list[Group] = []
    for frames in _by_camera(captures):
        if size is not None:
            bursts += [
                Group(_files(frames[at : at + size]), f"every {size} files")
                for at in range(0, len(frames), size)
            ]
            continue
        # Cameras that record whole seconds may write a fraction of 0 with every time.
        subseconds = any(frame.captured and frame.captured.microsecond for frame in frames)
        for run in _split(frames, partial(_continues, gap=gap, subseconds=subseconds)):
            bursts += _bursts(run)
    return sorted(bursts, key=lambda burst: burst.files[0].parent)


def _by_camera(captures: Iterable[Capture]) -> list[list[Capture]]:
    """Return the frames of each folder and camera, sorted by time, without a time by name."""
    cameras: dict[tuple[object, ...], list[Capture]] = {}
    for frame in captures:
        key = (frame.path.parent, frame.make, frame.model, frame.serial, frame.captured is None)
        cameras.setdefault(key, []).append(frame)
    return [
        sorted(
            frames, key=lambda f: (f.captured or datetime.min, _natural(f.path.stem), f.path.name)
        )
        for frames in cameras.values()
    ]


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by value: IMG_9 before IMG_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _parts(name)]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d{1,18})", name) if part]


def _split(
    frames: Sequence[Capture], together: Callable[[Capture, Capture], bool]
) -> list[list[Capture]]:
    """Cut a sequence between successive frames that are not `together`."""
    runs = [[frames[0]]]
    for one, other in pairwise(frames):
        if together(one, other):
            runs[-1].append(other)
        else:
            runs.append([other])
    return runs


def _continues(one: Capture, other: Capture, *, gap: float, subseconds: bool) -> bool:
    """Whether a frame continues the run of the one before it."""
    ids = _burst_id(one), _burst_id(other)
    if any(ids):
        return ids[0] == ids[1]
    if one.number and other.number and other.number <= one.number:
        return False  # the camera started to count again
    if one.captured is None or other.captured is None:
        return _has_next_number(one.path.stem, other.path.stem)
    pause = (other.captured - one.captured).total_seconds() - (one.exposure_time or 0)
    # In whole seconds, a pause of 0.1 s can look like 1 s.
    return pause <= (gap if subseconds else max(gap, 1.0))


def _burst_id(frame: Capture) -> str:
    """Return the burst's name from the tags or the file name; "" if unknown."""
    if frame.burst_id:
        return frame.burst_id
    match = _BURST.match(frame.path.stem)
    return match["long"] or match["short"] if match else ""


def _has_next_number(one: str, other: str) -> bool:
    """Whether the second name is the first one with its last number increased by one."""
    first, second = _NUMBERED.match(one), _NUMBERED.match(other)
    if not first or not second:
        return False
    if (first["name"], first["end"]) != (second["name"], second["end"]):
        return False
    return int(second["number"]) == int(first["number"]) + 1


def _bursts(run: Sequence[Capture]) -> list[Group]:
    """Return the bursts of a run, or the run as a bracket."""
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
    if len(run) < _MIN_BRACKET_FRAMES or len(parts) < len(run):
        return False
    return all(abs(_brightness(a) - _brightness(b)) >= _BRACKET_STEP for a, b in pairwise(run))


def _brightness(frame: Capture) -> float:
    """Return the exposure in EV, up to a constant; unknown settings are left out."""
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
    elif (first := part[0].captured) is None or (last := part[-1].captured) is None:
        why = "successive numbers in names, no times"
    else:
        why = f"taken within {(last - first).total_seconds():.1f} s"
    return why if parts == 1 else f"{why}, same exposure"


def _files(frames: Iterable[Capture]) -> tuple[Path, ...]:
    return tuple(frame.path for frame in frames)
