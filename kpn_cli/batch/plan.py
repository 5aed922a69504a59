"""The plan of a run: the bursts among the given files, their folders, and what cannot be done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from ..burst import grouping
from ..burst.files import FoundFolder, FoundRaw, RealPaths, find_folders_below
from ..burst.grouping import Group, Setting
from ..choices import DEFAULT_GAP
from ..errors import KpnError, TransientError
from ..pipeline.names import for_burst
from ..pipeline.options import Options
from ..pipeline.result import Failure, LeftOut
from ..raw.info import Capture
from ..raw.results import is_result
from .captures import Captures
from .clashes import InputFolders, OutputNames

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
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
        no_cache: why what earlier runs have read was not used, though it should; "" if it was.
    """

    jobs: list[Job]
    failures: list[Failure]
    ignored: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    no_cache: str = ""


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

    Files are read and grouped folder by folder, so the memory holds the facts about the files of
    one folder at a time.

    Args:
        paths: files and folders.
        options: for folder and names of the outputs, and for the exposures of a burst.
        how: how to group files.
        capture: reads when and how a file was taken, without its pixels; `Captures` reads several
            at a time.
        on_file: called with the number of files that are examined, and of all files.
        failures: what the user named and could not be found; the plan has them too.
    """
    captures = capture if isinstance(capture, Captures) else Captures(capture, threads=1)
    real = RealPaths()
    found, errors = find_folders_below(paths, real)
    failed = [*failures, *(Failure((path,), str(error)) for path, error in errors.items())]
    work = _Grouping(options, how, captures)
    if how.off:
        work.take_as_given(found)
    else:
        work.group_folders(found, on_file)
    failed += (failure for _, failure in sorted(work.failures, key=itemgetter(0)))
    ignored = [path for _, path in sorted(work.ignored, key=itemgetter(0))]
    failed += _only_results(paths, work.with_frames, ignored)
    for path in ignored:
        real.discard(str(path.parent), path.name)
    names = OutputNames(options, InputFolders(real.names))
    jobs: list[Job] = []
    left_out: list[LeftOut] = []
    planned = work.in_order()
    names.expect(job.folder for job in planned if isinstance(job, Job))
    for each in planned:
        if isinstance(each, LeftOut):
            left_out.append(each)
        elif reason := names.clash(each.files, each.folder, each.name):
            failed.append(Failure(each.files, reason))
        else:
            jobs.append(each)
    return Plan(jobs, failed, ignored, left_out)


@dataclass
class _Files:
    """What was read of the files of a folder.

    Attributes:
        photos: facts by path.
        unread: files in error.
        out_of_reach: files whose names are beside that of one that may be readable next time ->
            its position among all files, and path.
    """

    photos: dict[Path, Capture] = field(default_factory=dict)
    unread: list[Path] = field(default_factory=list)
    out_of_reach: dict[Path, tuple[int, Path]] = field(default_factory=dict)


class _Grouping:
    """Groups files and makes jobs of the groups.

    Attributes:
        failures: position among all files, and failure, of each that cannot be read.
        ignored: position and path of each output of kpn.
        with_frames: folders that have other files.
    """

    def __init__(self, options: Options, how: GroupingOptions, captures: Captures) -> None:
        self.failures: list[tuple[int, Failure]] = []
        self.ignored: list[tuple[int, Path]] = []
        self.with_frames: set[Path] = set()
        self._options, self._how, self._captures = options, how, captures
        self._planned: dict[Path, list[Job | LeftOut]] = {}
        self._outputs: dict[Path, Path] = {}

    def in_order(self) -> list[Job | LeftOut]:
        """Return the bursts by folder; as given, in the order of the files."""
        folders = list(self._planned) if self._how.off else sorted(self._planned)
        return [each for folder in folders for each in self._planned[folder]]

    def take_as_given(self, found: Sequence[FoundFolder]) -> None:
        """Take the named files as one burst, and the files of each folder as one."""
        together: dict[Path | None, list[FoundRaw]] = {}
        position = 0
        for part in found:
            key = None if part.explicit else part.folder
            for file in part.files():
                if is_result(file.path):
                    self.ignored.append((position, file.path))
                else:
                    together.setdefault(key, []).append(file)
                    self.with_frames.add(part.folder)
                position += 1
        for files in together.values():
            group = Group(tuple(file.path for file in files), "as given")
            # A folder may have named files too.
            place = self._planned.setdefault(group.files[0].parent, [])
            place.append(self._job(group, files[0].subfolder, self._captures))

    def group_folders(
        self, found: Sequence[FoundFolder], on_file: Callable[[int, int], None]
    ) -> None:
        """Read and group the files of each folder."""
        total = sum(len(part.names) for part in found)
        starts = accumulate((len(part.names) for part in found), initial=0)
        folders: dict[Path, list[tuple[int, FoundFolder]]] = {}
        for start, part in zip(starts, found, strict=False):
            folders.setdefault(part.folder, []).append((start, part))
        paths = (
            folder / name for folder, parts in folders.items() for _, p in parts for name in p.names
        )
        # Closed before the decoders, whatever happens: its threads use them.
        with closing(self._captures.each(paths)) as results:
            read = _counted(results, lambda done: on_file(done, total))
            for folder, parts in folders.items():
                self._planned[folder] = self._grouped(folder, parts, read)

    def _grouped(
        self,
        folder: Path,
        parts: Sequence[tuple[int, FoundFolder]],
        read: Iterator[Capture | KpnError],
    ) -> list[Job | LeftOut]:
        """Take what was read of the files of a folder; return its bursts."""
        files = _Files()
        subfolders: dict[Path, Path] = {}
        for start, part in parts:
            for position, name in enumerate(part.names, start):
                self._take(position, folder / name, next(read), files)
            if len(parts) > 1:
                subfolders |= dict.fromkeys((folder / n for n in part.names), part.subfolder)
        photos = files.photos
        if self._how.size is not None:
            for each in grouping.stand_ins(list(photos.values()), files.unread):
                photos[each.path] = each
            files.out_of_reach.clear()  # they are frames, which are read again with their burst
        planned = [
            self._job(
                group, subfolders.get(group.files[0], parts[0][1].subfolder), photos.__getitem__
            )
            for group in grouping.group(
                list(photos.values()),
                gap=self._how.gap,
                size=self._how.size,
                exposures=self._options.exposures,
            )
        ]
        return [each for each in planned if not self._may_lack(each, files.out_of_reach)]

    def _take(self, position: int, path: Path, found: Capture | KpnError, files: _Files) -> None:
        """Take what was read of a file: a photo, an output of kpn, or an error."""
        if isinstance(found, Capture) and found.by_kpn:
            self.ignored.append((position, path))
            return
        self.with_frames.add(path.parent)
        if isinstance(found, Capture):
            files.photos[path] = found
            return
        self.failures.append((position, Failure((path,), str(found))))
        files.unread.append(path)
        if isinstance(found, TransientError) or not os.path.lexists(path.parent):
            files.out_of_reach |= dict.fromkeys(grouping.beside(path), (position, path))

    def _may_lack(self, planned: Job | LeftOut, missing: Mapping[Path, tuple[int, Path]]) -> bool:
        """Whether a burst may lack a file that is only out of reach: then it is a failure.

        Without that frame, the next run would give another picture. `missing` is
        `_Files.out_of_reach`.
        """
        near = [missing[path] for path in planned.files if path in missing]
        if not near or isinstance(planned, LeftOut):
            return False
        position, path = near[0]
        reason = (
            f"{path.name} may be one of its frames and could not be read this time; start again, "
            "or leave that file out"
        )
        self.failures.append((position, Failure(planned.files, reason)))
        return True

    def _job(
        self, group: Group, subfolder: Path, capture: Callable[[Path], Capture]
    ) -> Job | LeftOut:
        if left_out := _left_out(group, self._how):
            return left_out
        if subfolder not in self._outputs:
            self._outputs[subfolder] = self._options.output / subfolder
        return Job(
            group.files,
            self._outputs[subfolder],  # one for all bursts of a folder, as memory counts
            group.why,
            group.settings,
            self._how.off or self._how.size is not None,
            for_burst(self._options.name, group.files, capture),
            _pixels(group.files[0], capture),
        )


def _counted(results: Iterable[T], on_file: Callable[[int], None]) -> Iterator[T]:
    """Yield results, and tell how many there were."""
    for done, result in enumerate(results, 1):
        on_file(done)
        yield result


def _left_out(group: Group, how: GroupingOptions) -> LeftOut | None:
    """Return why a burst is not merged; None if it is."""
    if len(group.files) < how.min_frames:
        frames = "1 frame" if len(group.files) == 1 else f"{len(group.files)} frames"
        reason = f"{frames}, fewer than --min-frames {how.min_frames}"
        return LeftOut(group.files, reason, how.min_frames)
    return LeftOut(group.files, group.left_out) if group.left_out else None


def _pixels(file: Path, capture: Callable[[Path], Capture]) -> int:
    """Return the number of pixels of a file; 0 if it cannot be read."""
    try:
        found = capture(file)
    except KpnError:  # told when the burst is read
        return 0
    return found.height * found.width


def _only_results(
    paths: Sequence[Path], with_frames: Iterable[Path], ignored: Sequence[Path]
) -> list[Failure]:
    """Return a failure for each given folder below which there is nothing but outputs of kpn."""
    nothing_else = _with_those_above(path.parent for path in ignored)
    nothing_else -= _with_those_above(with_frames)
    reason = "no raw files below this folder, except results of kpn; give another folder"
    return [
        Failure((path,), f"{path}: {reason}")
        for path in dict.fromkeys(paths)
        if path in nothing_else
    ]


def _with_those_above(files_in: Iterable[Path]) -> set[Path]:
    folders = set(files_in)
    return folders | {above for folder in folders for above in folder.parents}
