"""What commands show: lines and bars on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..batch.overlap import Summary
    from ..batch.plan import Plan
    from ..inspection.inspect import Inspection
    from ..noise.calibration import Calibration
    from ..noise.selection import NoiseReport
    from ..pipeline.result import Result, Stage
    from ..training.run import Progress as TrainProgress

STDERR = Console(stderr=True)
_out = Console()


def let_first_speak() -> None:
    """Of the processes that `torchrun` has started, have the others show nothing but errors."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")):
        STDERR.quiet = _out.quiet = True


def shows_bars() -> bool:
    """Whether progress bars are shown: on a terminal, unless quiet."""
    return STDERR.is_terminal and not STDERR.quiet


def hush(quiet: bool) -> None:
    """Show no bars and no lines but of what has failed."""
    STDERR.quiet = quiet


def fail(message: str) -> NoReturn:
    """Show an error and exit with 1."""
    STDERR.quiet = False
    STDERR.print(_one_line(f"kpn: {message}"), markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


def print_path(path: Path) -> None:
    """Print a path on stdout, for other programs to take."""
    if _out.quiet:
        return
    # As bytes: a name need not be UTF-8.
    click.echo(os.fsencode(path))


def note(message: str) -> None:
    """Show a line on stderr."""
    # What names hold that is no text, such as a new line, must not break it.
    STDERR.print(_one_line(message), markup=False, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Show what has failed on stderr, even if nothing else is to be shown."""
    hushed, STDERR.quiet = STDERR.quiet, _out.quiet
    note(message)
    STDERR.quiet = hushed


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr; yields a function that moves it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=STDERR, transient=True, disable=not shows_bars()) as bar:
        task = bar.add_task(description, total=total)

        def move(**changes: Any) -> None:
            bar.update(task, **changes or {"advance": 1})

        yield move


def progress_line(progress: TrainProgress) -> str:
    """Return a line on a training run: loss, speed and, after a validation, PSNR by gain."""
    line = f"{progress.patches:>9} patches  loss {progress.loss:.4f}  {progress.speed:.1f}/s"
    for name, row in (progress.table or {}).items():
        line += f"  {name} " + " / ".join(f"{figure:.2f}" for figure in row.values())
    return line


def show_inspection(found: Inspection) -> None:
    """Show what was looked at; the paths are printed apart."""
    note(f"reference   {found.info.path.name}, {count_frames(len(found.infos))} used")
    for path, why in found.dropped.items():
        note(f"dropped     {path.name}: {why}")
    note(f"noise       {noise_text(found.noise)}")
    if found.noise.warning:
        note(f"warning     {found.noise.warning}")
    for place, look in found.views.items():
        why = f", {place.why}" if place.why else ""
        weights = " ".join(f"{weight:.0%}" for weight in look.weights)
        note(f"at {place.x},{place.y}{why}: weights {weights}; the reference first")
        for each in found.scaled_views[place]:
            note(
                f"  sigma x {each.scale:g}: radius {each.radius:.1f} px, "
                f"{each.noise_left**0.5:.1%} of sigma left"
            )


@contextmanager
def stages() -> Iterator[Callable[[Stage], None]]:
    """Show a bar for what is being done to one burst."""
    with bar("reading", None) as move:
        yield lambda stage: move(description=stage.name, completed=stage.done, total=stage.total)


def _show_alignment(result: Result) -> str:
    """The other frames' median shifts, and how many of their tiles show something else."""
    far = [max(map(abs, shift)) for shift in result.shifts[1:]]
    rejected = [f"{share:.0%}" for share in sorted(result.rejected[1:])]
    span = dict.fromkeys((rejected[0], rejected[-1]))
    return f"by up to {max(far)} pixels; {' to '.join(span)} of a frame's tiles rejected"


def show_result(result: Result) -> None:
    """Show what became of a burst; on stdout, the paths of its outputs alone."""
    if result.skipped:
        note(f"{result.reference.name}: outputs are there already; --overwrite makes them again")
        return
    noise = result.noise
    note(f"reference   {result.reference.name}, {count_frames(len(result.frames))} used")
    show_remarks(result)
    if len(result.frames) > 1:
        note(f"aligned     {_show_alignment(result)}")
    note(f"noise       {noise_text(noise)}")
    note(f"time        {result.seconds:.1f} s on {result.device}")
    for path in result.outputs.values():
        print_path(path)


def noise_text(noise: NoiseReport) -> str:
    """Return a noise model, mean over the planes, and where it came from."""
    shot, read = (f"{sum(values) / 4:.3g}" for values in (noise.model.shot, noise.model.read))
    return f"S={shot} O={read} {noise.origin}"


def show_remarks(result: Result) -> None:
    """Show what the user should know about a burst."""
    for kind, text in result.remarks():
        note(f"{kind:<12}{text}")


@contextmanager
def looking() -> Iterator[Callable[[int, int], None]]:
    """Show a bar while files are looked at."""
    with bar("looking at files", None) as move:
        yield lambda done, total: move(completed=done, total=total)


def show_summary(summary: Summary) -> None:
    """Show how many bursts are done, what failed, and where the report is."""
    _show_counts(summary)


def _show_counts(summary: Summary) -> None:
    if len(summary.results) + len(summary.failures) < 2:
        for failure in summary.failures:
            complain(f"kpn: {failure.with_path()}")
        return
    skipped = sum(result.skipped for result in summary.results)
    parts = [f"{len(summary.results) - skipped} done"]
    if skipped:
        parts.append(f"{skipped} there already")
    if summary.failures:
        parts.append(f"{len(summary.failures)} failed:")
    note(", ".join(parts))
    for failure in summary.failures:
        complain(f"kpn: {failure.with_path()}")


def show_plan(plan: Plan) -> None:
    """Show the bursts as a table, and what is no frame or can't be done."""
    show_ignored(plan)
    table = Table("frames", "from", "to", "because", "output in")
    for job in plan.jobs:
        cells = (
            str(len(job.files)),
            str(job.files[0]),
            job.files[-1].name,
            job.why,
            str(job.folder),
        )
        table.add_row(*(Text(_one_line(cell)) for cell in cells))
    if plan.jobs:  # for other programs a line each, however long
        (_out if _out.is_terminal else Console(width=10_000)).print(table)
    for failure in plan.failures:
        complain(f"kpn: {failure.with_path()}")


def show_ignored(plan: Plan) -> None:
    """Show how many of the files are results of kpn, which are left out."""
    if plan.ignored:
        note(f"{len(plan.ignored)} of the files are results of kpn, which are no frames")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def count_frames(number: int) -> str:
    """Return a number of frames in words: "1 frame", "8 frames"."""
    return f"{number} frame" + "s" * (number != 1)


def show_calibration(found: Calibration) -> None:
    """Show a camera's noise, one line for each ISO."""
    for level in found.levels:
        shot, read = (f"{sum(values) / 4:.3g}" for values in (level.noise.shot, level.noise.read))
        pairs = f"{level.pairs} pair" + "s" * (level.pairs != 1)
        note(f"ISO {level.iso:<8g}S={shot} O={read}, {pairs}")
        if level.note:
            note(f"warning     {level.note}")


def _show_planes(noise: dict[str, Any]) -> str:
    """A noise model plane by plane: R, G1, G2, B."""
    from ..noise.selection import SOURCES

    shot, read = (" ".join(f"{value:.3g}" for value in noise[name]) for name in ("shot", "read"))
    return f"S {shot}, O {read} (R, G1, G2, B; {SOURCES[noise['source']]})"


def show_info(row: dict[str, Any]) -> None:
    """Show a file's entry as a table."""
    # Text: what a file says of itself is no markup.
    table = Table(title=Text(row["file"]), show_header=False, title_justify="left")
    for key, value in row.items():
        if key == "noise":
            text = "not to be told from this file" if value is None else _show_planes(value)
        else:
            text = "unknown" if value in (None, "") else str(value)
        if key != "file":
            table.add_row(key.replace("_", " "), Text(text))
    _out.print(table)
