"""What `kpn denoise --dry-run` shows: the bursts, and how much time and space they will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import printable
from . import console, streams

if TYPE_CHECKING:
    from rich.table import Table

    from ..batch.outlook import Outlook
    from ..batch.plan import Job, Plan

_HEADS = ("frames", "first", "last", "output folder", "grouped because")


def show_plan(plan: Plan, outlook: Outlook | None, unseen: str) -> None:
    """Show the bursts, the files in error, and what the run will take.

    On a terminal, the bursts are a table if it fits, else a block of lines each; paths are never
    shortened. Elsewhere each burst is one line, with tabs between its parts.

    Args:
        plan: the bursts.
        outlook: the time and the space that they will take; None if that is not estimated.
        unseen: what a plan does not know.
    """
    console.show_ignored(plan)
    if plan.jobs:
        if not streams.is_stdout_terminal():
            for job in plan.jobs:
                console.print_text("\t".join(_cells(job)))
        elif (table := _table(plan)) is not None:
            console.print_rich(table)
        else:
            for number, job in enumerate(plan.jobs, 1):
                _show_block(job, f"{number}/{len(plan.jobs)}")
        if outlook is not None:
            show_outlook(outlook)
        console.note(unseen)
    console.show_left_out(plan.left_out, only=not plan.jobs and not plan.failures)
    console.show_failures(plan.failures)


def _cells(job: Job) -> list[str]:
    """Number of frames, first and last frame, folder of the outputs, reason, exposures if any."""
    cells = [
        console.count(len(job.files), "frame"),
        str(job.files[0]),
        str(job.files[-1]),
        str(job.folder),
        job.why,
        *([_exposures_text(job)] if job.settings else []),
    ]
    return [printable(cell) for cell in cells]


def _exposures_text(job: Job) -> str:
    """The exposures of a planned burst; EV are over the middle frame: the reference is open."""
    from ..raw.exposure import show_stops

    return "; ".join(
        each.text if each.stops is None else f"{each.text} ({show_stops(each.stops)})"
        for each in job.settings
    )


def _table(plan: Plan) -> Table | None:
    """Return the bursts as a table; None if the terminal is too narrow."""
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    mixed = any(job.settings for job in plan.jobs)
    table = Table(*_HEADS, *["exposures, in capture order"] * mixed)
    for job in plan.jobs:
        number, first, last, *others = _cells(job)
        if job.files[-1].parent == job.files[0].parent:
            last = printable(job.files[-1].name)
        cells = [number.split()[0], first, last, *others]
        table.add_row(*map(Text, cells))
    screen = streams.results_console()
    needed = Measurement.get(screen, screen.options.update(max_width=_UNLIMITED), table).maximum
    return table if needed <= screen.width else None


#: Width at which a table is measured, columns.
_UNLIMITED = 100_000


def _show_block(job: Job, number: str) -> None:
    """Show a burst on lines of its own; a path that is too long goes on in the next line."""
    frames, first, last, folder, why, *exposures = _cells(job)
    console.print_text(f"{number:<11} {frames}, {why}")
    console.print_text(f"  first     {first}")
    if len(job.files) > 1:
        console.print_text(f"  last      {last}")
    for text in exposures:
        console.print_text(f"  exposures {text}")
    console.print_text(f"  output    {folder}")


def show_outlook(outlook: Outlook) -> None:
    """Show the time and the space that a run will take."""
    for name, text in (("time", outlook.time_text()), ("space", outlook.space_text())):
        console.note(f"{name:<12}{text}")
    warn_of_space(outlook)


def warn_of_space(outlook: Outlook) -> None:
    """Warn of disks that are too small for the results, even with --quiet."""
    for warning in outlook.warnings():
        console.note_error(f"kpn: {warning}")
