"""The plan of a run: the bursts among the given files, their folders, and what cannot be done."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..burst import grouping
from ..burst.files import FoundRaw, find_raws_below
from ..burst.grouping import Group, Setting
from ..choices import DEFAULT_GAP
from ..errors import KpnError
from ..pipeline import outputs
from ..pipeline.names import for_burst, has_reference
from ..pipeline.options import Options
from ..pipeline.result import Failure, LeftOut
from ..raw.info import Capture
from ..raw.results import is_result

#: What a plan does not know, for the user.
UNSEEN = (
    "a dry run does not look at the pictures: damaged files, copies of a photo, "
    "and several raw images in one file show only when the bursts are denoised"
)


@dataclass(frozen=True)
class GroupingOptions:
    """How files are grouped into bursts.

    Attributes:
        gap: longest pause in a burst, in seconds from the end of an exposure to the next start.
        size: files in each burst, whatever their times; None to group by their metadata.
        off: whether to take all named files as one burst, and all files of each folder as one.
        min_frames: bursts of fewer files are left out.

    Raises:
        KpnError: if a value is outside its range.
    """

    gap: float = DEFAULT_GAP
    size: int | None = None
    off: bool = False
    min_frames: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.gap < float("inf"):
            raise KpnError(f"--gap {self.gap:g}: give seconds, 0 or more")
        if self.size is not None and self.size < 1:
            raise KpnError(f"--burst-size {self.size}: give 1 or more")
        if self.min_frames < 1:
            raise KpnError(f"--min-frames {self.min_frames}: give 1 or more")


@dataclass(frozen=True)
class Job:
    """A burst to denoise.

    Attributes:
        files: its frames.
        folder: of its outputs.
        why: reason to take them for a burst, for the user.
        settings: exposure of each frame; empty if all have the same, or if it is not known.
        as_given: whether the user says that these frames are a burst.
        name: template of the outputs' names, whose only field is `{reference}`
            (`names.for_burst`); "" for that of the options.
        pixels: of a frame, about; 0 if its size is not known.
    """

    files: tuple[Path, ...]
    folder: Path
    why: str
    settings: tuple[Setting, ...] = ()
    as_given: bool = False
    name: str = ""
    pixels: int = 0


@dataclass(frozen=True)
class Plan:
    """The bursts of a run.

    Attributes:
        jobs: bursts to denoise.
        failures: bursts and files that cannot be denoised.
        ignored: outputs of kpn among the given files; they are no frames.
        left_out: brackets that are not to be merged, and bursts of few frames; no failures.
    """

    jobs: list[Job]
    failures: list[Failure]
    ignored: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def make_plan(
    paths: Sequence[Path],
    options: Options,
    how: GroupingOptions,
    capture: Callable[[Path], Capture],
    on_file: Callable[[int, int], None] = lambda done, total: None,
    *,
    failures: Sequence[Failure] = (),
) -> Plan:
    """Find the bursts among files and below folders.

    Args:
        paths: files and folders.
        options: for folder and names of the outputs, and for the exposures of a burst.
        how: how to group files.
        capture: reads when and how a file was taken, without its pixels.
        on_file: called with the number of files that are examined, and of all files.
        failures: what the user named and could not be found; the plan has them too.
    """
    everything, errors = find_raws_below(paths)
    failed = [*failures, *(Failure((path,), str(error)) for path, error in errors.items())]
    folders = {file.path: file.subfolder for file in everything}
    captures: dict[Path, Capture] = {}
    if how.off:
        ignored = [file.path for file in everything if is_result(file.path)]
        groups = _as_given(_without(everything, ignored))
    else:
        for number, file in enumerate(everything):
            on_file(number, len(everything))
            try:
                captures[file.path] = capture(file.path)
            except KpnError as error:
                failed.append(Failure((file.path,), str(error)))
        ignored = [path for path, found in captures.items() if found.by_kpn]
        photos = [found for found in captures.values() if not found.by_kpn]
        groups = grouping.group(photos, gap=how.gap, size=how.size, exposures=options.exposures)
    frames = _without(everything, ignored)
    failed += _only_results(paths, frames, ignored)
    jobs = []
    left_out = list(filter(None, (_left_out(group, how) for group in groups)))
    inputs = outputs.Inputs(frozenset(file.path.resolve() for file in frames))
    owners: dict[str, Path] = {}
    as_given = how.off or how.size is not None
    for group in groups:
        if _left_out(group, how):
            continue
        job = Job(
            group.files,
            options.output / folders[group.files[0]],
            group.why,
            group.settings,
            as_given,
            for_burst(options.name, group.files, lambda path: captures.get(path) or capture(path)),
            _pixels(group.files[0], captures, capture),
        )
        reason = _name_clash(job, options, inputs, owners)
        if reason:
            failed.append(Failure(group.files, reason))
        else:
            jobs.append(job)
    return Plan(jobs, failed, ignored, left_out)


def _left_out(group: Group, how: GroupingOptions) -> LeftOut | None:
    """Return why a burst is not merged; None if it is."""
    if len(group.files) < how.min_frames:
        frames = "1 frame" if len(group.files) == 1 else f"{len(group.files)} frames"
        reason = f"{frames}, fewer than --min-frames {how.min_frames}"
        return LeftOut(group.files, reason, how.min_frames)
    return LeftOut(group.files, group.left_out) if group.left_out else None


def _pixels(
    file: Path, captures: Mapping[Path, Capture], capture: Callable[[Path], Capture]
) -> int:
    """Return the number of pixels of a file; 0 if it cannot be read."""
    try:
        found = captures.get(file) or capture(file)
    except KpnError:  # told when the burst is read
        return 0
    return found.height * found.width


def _without(files: Sequence[FoundRaw], ignored: Sequence[Path]) -> list[FoundRaw]:
    left_out = set(ignored)
    return [file for file in files if file.path not in left_out]


def _only_results(
    paths: Sequence[Path], frames: Sequence[FoundRaw], ignored: Sequence[Path]
) -> list[Failure]:
    """Return a failure for each given folder below which there is nothing but outputs of kpn."""
    with_frames = _folders_above([file.path for file in frames])
    with_results = _folders_above(ignored)
    reason = "no raw files below this folder, except results of kpn; give another folder"
    return [
        Failure((path,), f"{path}: {reason}")
        for path in dict.fromkeys(paths)
        if path in with_results - with_frames
    ]


def _folders_above(files: Sequence[Path]) -> set[Path]:
    folders = {path.parent for path in files}
    return folders | {above for folder in folders for above in folder.parents}


def _key(output: Path) -> str:
    """Return a path as the file system compares it: Windows and macOS ignore its case."""
    text = os.path.normcase(output)
    if sys.platform in ("win32", "darwin"):
        return unicodedata.normalize("NFC", text).casefold()
    return text


def _as_given(frames: Sequence[FoundRaw]) -> list[Group]:
    """Return the named files as one group, and the files of each folder as one."""
    together: dict[Path | None, list[Path]] = {}
    for file in frames:
        together.setdefault(None if file.explicit else file.path.parent, []).append(file.path)
    return [Group(tuple(files), "as given") for files in together.values()]


def _name_clash(job: Job, options: Options, inputs: outputs.Inputs, owners: dict[str, Path]) -> str:
    """Return why the outputs of a burst cannot have their names; "" if they can.

    Outputs may be named after the reference, and any frame may become the reference.

    Args:
        job: the burst.
        options: for the formats.
        inputs: all photos of the run.
        owners: path of an output -> the frame that it belongs to; those of this burst are added.
    """
    taken: dict[str, Path] = {}
    for path in job.files:
        made = outputs.output_paths(path, job.folder, options.formats, job.name)
        for output in made.values():
            other = owners.get(_key(output))
            if other is not None and path.stem != other.stem and not has_reference(options.name):
                return (
                    f"{path} and {other} could both become {output}; tell them apart with --name, "
                    "such as by {reference}, {time} or {first}"
                )
            if other is not None:
                return (
                    f"{path} and {other} could both become {output}; pass the folder above both, "
                    "or each with its own -o, or tell them apart with --name"
                )
            taken.setdefault(_key(output), path)
        try:
            inputs.check(list(made.values()))
        except KpnError as error:
            return f"{error}, or another --name"
    owners |= taken
    twins = {(path.parent, path.stem): path for path in job.files}
    for path in job.files:
        twin = twins[path.parent, path.stem]
        if twin != path:
            return f"{path} and {twin} seem to be the same photo twice; pass one of them"
    return ""
