"""Groups files into bursts: by the camera's burst tags, by time, or by file names.

The frames of each folder and camera are sorted by time. Two successive frames are in one run if
the camera says so (the burst's name, the frame's number), or if the pause between them is at
most the gap; where files have no time, if their names have successive numbers. A run is split
into bursts where the size changes. If frames of one exposure are wanted, it is also split where the
exposure changes by more than automatic exposure does within a burst (`brackets.py`), and a run that
is an exposure bracket is left out: if the camera says so, or by the sequence of its exposures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

from ..choices import DEFAULT_GAP, EXPOSURES, MERGE_BRACKETS
from ..errors import listed
from ..raw import exposure
from ..raw.info import Capture
from . import brackets

#: The burst's name in file names of phones: 00001IMG_00001_BURST20200102030405_COVER,
#: IMG_20200102_030405_BURST001.
_BURST = re.compile(
    r"^(?:.*_BURST(?P<long>\d{8,})|(?P<short>IMG_\d{8}_\d{6})_BURST\d+)", re.IGNORECASE
)
#: A name that ends in a number, which desktops put in brackets: IMG_0001, "a (1)", "a [1]".
_NUMBERED = re.compile(r"^(?P<name>.*?)(?P<number>\d{1,9})(?P<end>[)\]]?)$")


@dataclass(frozen=True, slots=True)
class Setting:
    """The exposure of a frame among others.

    Attributes:
        text: of the settings: "1/60 s, f/1.8, ISO 800".
        stops: how much brighter the frame is than the middle one of its burst, EV; None for one
            that states no exposure time, where others do.
    """

    text: str
    stops: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Files that are one burst.

    Attributes:
        files: in order of time.
        why: why these files are a burst, for the user.
        left_out: why they are not merged unless the user asks for it; "" if they are.
        settings: the exposure of each file; empty if all have the same.
    """

    files: tuple[Path, ...]
    why: str
    left_out: str = ""
    settings: tuple[Setting, ...] = ()


def group(
    captures: Sequence[Capture],
    *,
    gap: float = DEFAULT_GAP,
    size: int | None = None,
    exposures: str = EXPOSURES[0],
) -> list[Group]:
    """Group files into bursts.

    Args:
        captures: the facts about the files, in any order.
        gap: longest pause in a burst, from the end of an exposure to the next, seconds.
        size: if given, every `size` files in order of time or name are a burst, whatever
            their tags, times and names.
        exposures: of `choices.EXPOSURES`: whether a bracket is left out, or is a burst.

    Returns:
        The bursts by folder, then in order of time; each file is in exactly one of them.
    """
    bursts: list[Group] = []
    for frames in _by_camera(captures):
        if size is not None:
            bursts += [
                _group(frames[at : at + size], f"every {size} files")
                for at in range(0, len(frames), size)
            ]
            continue
        # Cameras that record whole seconds may write a fraction of 0 with every time.
        subseconds = any(frame.captured and frame.captured.microsecond for frame in frames)
        for run in _split(frames, partial(_continues, gap=gap, subseconds=subseconds)):
            bursts += _bursts(run, exposures)
    return sorted(bursts, key=lambda burst: burst.files[0].parent)


def stand_ins(captures: Sequence[Capture], unread: Iterable[Path]) -> list[Capture]:
    """Return captures for damaged files, so that they keep their places among `size` files.

    A damaged frame that left its burst would move the frames of all later bursts.

    Args:
        captures: of the files of a folder that can be read.
        unread: the other files. Those whose names do not count on from a photo's, or up to one, are
            left out: they may be no photos, or another camera's.
    """
    found: dict[Path, Capture] = {}
    numbered = {capture.path: capture for capture in captures}
    in_order = sorted(unread, key=lambda path: natural_order(path.stem))
    for steps, paths in ((1, in_order), (-1, in_order[::-1])):
        for path in paths:
            neighbour = numbered.get(_counted_on(path, -steps))
            if neighbour is not None and path not in numbered:
                numbered[path] = found[path] = replace(neighbour, path=path)
    return list(found.values())


def beside(path: Path) -> set[Path]:
    """Return the paths whose names count up to a path's and on from it."""
    return {_counted_on(path, steps) for steps in (-1, 1)} - {path}


def _counted_on(path: Path, steps: int) -> Path:
    """Return the path with another number at the end of its stem; itself if it has no number."""
    match = _NUMBERED.match(path.stem)
    if not match or int(match["number"]) + steps < 0:
        return path
    number = f"{int(match['number']) + steps:0{len(match['number'])}}"
    return path.with_name(match["name"] + number + match["end"] + path.suffix)


def _by_camera(captures: Iterable[Capture]) -> list[list[Capture]]:
    """Return the frames of each folder and camera, sorted by time, without a time by name."""
    cameras: dict[tuple[object, ...], list[Capture]] = {}
    for frame in captures:
        key = (frame.path.parent, frame.make, frame.model, frame.serial, frame.captured is None)
        cameras.setdefault(key, []).append(frame)
    return [
        sorted(
            frames,
            key=lambda f: (f.captured or datetime.min, natural_order(f.path.stem), f.path.name),
        )
        for frames in cameras.values()
    ]


def natural_order(name: str) -> list[tuple[int, str]]:
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
    if one.number and other.number and not _counts_on(one, other):
        return False  # the camera started to count again
    if one.captured is None or other.captured is None:
        return _has_next_number(one.path.stem, other.path.stem)
    pause = (other.captured - one.captured).total_seconds() - (one.exposure_time or 0)
    # In whole seconds, a pause of 0.1 s can look like 1 s.
    return pause <= (gap if subseconds else max(gap, 1.0))


def _counts_on(one: Capture, other: Capture) -> bool:
    """Whether the second frame's number in its burst is larger, or both are the same photo."""
    numbers = one.number or 0, other.number or 0
    same_photo = numbers[0] == numbers[1] and one.captured == other.captured is not None
    return numbers[0] < numbers[1] or same_photo


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


def _bursts(run: Sequence[Capture], exposures: str) -> list[Group]:
    """Return the bursts of a run, and its brackets."""
    sizes = _split(run, lambda one, other: (one.height, one.width) == (other.height, other.width))
    bursts: list[Group] = []
    count = sum(len(exposure.split(frames)) for frames in sizes)
    for frames in sizes:
        if exposures == "mixed":
            bursts.append(_mixed(frames, "different exposures"))
        elif len(exposure.split(frames)) == 1:
            bursts.append(_group(frames, _why(frames, count)))
        elif any(frame.bracketed for frame in frames) or brackets.is_bracket(frames):
            bursts.append(_left_out(frames))
        else:
            parts = brackets.split_where_set_anew(frames)
            bursts += [_mixed(part, "automatic exposure", len(parts)) for part in parts]
    return bursts


def _mixed(frames: Sequence[Capture], what: str, parts: int = 1) -> Group:
    """Return a burst, one of several `parts` of a run, whose frames may differ in exposure."""
    if not exposure.are_mixed(frames):
        return _group(frames, _why(frames, parts))
    stops = exposure.stops(frames)
    span = max(stops) - min(stops)
    return _group(frames, f"{_why(frames, 1)}, {what} over {span:.1f} EV")


def _left_out(frames: Sequence[Capture]) -> Group:
    names = listed([frame.path.name for frame in frames])
    shown = "; ".join(dict.fromkeys(exposure.show(frame) for frame in frames))
    reason = (
        f"{names} in {frames[0].path.parent} are an exposure bracket ({shown}); {MERGE_BRACKETS}"
    )
    return Group(_files(frames), "an exposure bracket", reason, _settings(frames))


def _group(frames: Sequence[Capture], why: str) -> Group:
    return Group(_files(frames), why, settings=_settings(frames))


def _settings(frames: Sequence[Capture]) -> tuple[Setting, ...]:
    """Return the exposure of each frame; nothing if all have the same."""
    if not exposure.are_mixed(frames):
        return ()
    return tuple(
        Setting(exposure.show(frame), stops)
        for frame, stops in zip(frames, _stated_stops(frames), strict=True)
    )


def _stated_stops(frames: Sequence[Capture]) -> list[float | None]:
    """Return the brightness of each frame by its tags over the middle one's, as in `Setting`."""
    timed = [frame for frame in frames if frame.exposure_time is not None]
    if not timed:
        return [*exposure.stops(frames)]
    known = iter(exposure.stops(timed))
    return [None if frame.exposure_time is None else next(known) for frame in frames]


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
