"""What is to be done: the bursts in a heap of files, where each goes, and what can't be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..burst import grouping
from ..burst.files import Found, find_below
from ..burst.grouping import Group
from ..choices import DEFAULT_GAP
from ..errors import KpnError
from ..pipeline import fingerprint, outputs
from ..pipeline.options import Options
from ..pipeline.result import Failure
from ..raw.info import Capture


@dataclass(frozen=True)
class Grouping:
    """How files become bursts.

    Attributes:
        gap: seconds between the end of an exposure and the next, at most, in a burst.
        size: so many files each instead; None to look at what they say.
        off: whether all files that were named are one burst, and those of each folder.
    """

    gap: float = DEFAULT_GAP
    size: int | None = None
    off: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.gap < float("inf"):
            raise KpnError(f"--gap {self.gap:g}: give seconds, 0 or more")
        if self.size is not None and self.size < 1:
            raise KpnError(f"--burst-size {self.size}: give 1 or more")


@dataclass(frozen=True)
class Job:
    """A burst to denoise.

    Attributes:
        files: its frames.
        folder: where its outputs go.
        why: what says that they are a burst.
    """

    files: tuple[Path, ...]
    folder: Path
    why: str


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        jobs: bursts to denoise.
        failures: what can't be.
        ignored: results of kpn among the files that were named: no frames.
    """

    jobs: list[Job]
    failures: list[Failure]
    ignored: list[Path] = field(default_factory=list)


def make_plan(
    paths: Sequence[Path],
    options: Options,
    how: Grouping,
    capture: Callable[[Path], Capture],
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Find the bursts among files and below folders.

    Args:
        paths: files and folders.
        options: for the names of the outputs.
        how: files become bursts.
        capture: reads when and how a file was taken.
        on_file: told how many files of how many are looked at.
    """
    everything, errors = find_below(paths)
    found = [file for file in everything if not fingerprint.is_result(file.path)]
    ignored = [file.path for file in everything if file not in found]
    failures = [Failure((path,), str(error)) for path, error in errors.items()]
    places = {file.path: file.below for file in found}
    if how.off:
        groups = _as_given(found)
    else:
        captures = []
        for number, file in enumerate(found):
            on_file(number, len(found))
            try:
                captures.append(capture(file.path))
            except KpnError as error:
                failures.append(Failure((file.path,), str(error)))
        groups = grouping.group(captures, gap=how.gap, size=how.size)
    jobs = []
    inputs = frozenset(file.path.resolve() for file in found)
    owners: dict[Path, Path] = {}
    for group in groups:
        folder = options.output / places[group.files[0]]
        error = group.refused or _clash(group, folder, options, inputs, owners)
        if error:
            failures.append(Failure(group.files, error))
        else:
            jobs.append(Job(group.files, folder, group.why))
    return Plan(jobs, failures, ignored)


def _as_given(found: Sequence[Found]) -> list[Group]:
    together: dict[Path | None, list[Path]] = {}
    for file in found:
        together.setdefault(None if file.named else file.path.parent, []).append(file.path)
    return [Group(tuple(files), "as given") for files in together.values()]


def _clash(
    group: Group,
    folder: Path,
    options: Options,
    inputs: frozenset[Path],
    owners: dict[Path, Path],
) -> str:
    """Say why the outputs of a burst can't have their names; "" if they can.

    Any frame may become the reference, which they are named after.

    Args:
        group: the burst.
        folder: where its outputs go.
        options: for their formats.
        inputs: all files, resolved.
        owners: name of an output without its end -> the file it comes from; grows.
    """
    stems = {path: folder / path.stem for path in group.files}
    for path, stem in stems.items():
        other = owners.get(stem)
        if other is not None and other != path:
            return (
                f"{path} and {other} could both become {stem}_kpn; pass the folder above both, or "
                "each with its own -o"
            )
        names = outputs.output_paths(path, folder, options.formats)
        try:
            outputs.check_inputs(list(names.values()), inputs)
        except KpnError as error:
            return str(error)
    for path, stem in stems.items():
        owners.setdefault(stem, path)
    twins = {(path.parent, path.stem): path for path in group.files}
    for path in group.files:
        twin = twins[path.parent, path.stem]
        if twin != path:
            return f"{path} and {twin} seem to be one photo twice; pass one of them"
    return ""
