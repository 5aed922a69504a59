"""What commands show: progress and results for people on stderr, paths on stdout."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..choices import MERGE_BRACKETS
from ..errors import printable
from ..system.distributed import launched
from . import streams

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..batch.plan import Plan
    from ..batch.read_ahead import Summary
    from ..image.noise_model import NoiseModel
    from ..inspection.inspect import Inspection
    from ..noise.calibration import Calibration
    from ..noise.selection import NoiseReport
    from ..pipeline.result import Failure, LeftOut, Result, Stage
    from ..training.run import Progress as TrainProgress

T = TypeVar("T")

#: Exit code after Ctrl-C: 128 and the number of the signal, as shells have it.
INTERRUPTED = 130

#: Text of the progress bar while files are searched for bursts.
SCANNING = "scanning files"

#: Gets all lines; `journal.log_to` writes them to a file.
LOG = logging.getLogger("kpn")
LOG.addHandler(logging.NullHandler())  # or logging itself would show some of them
LOG.propagate = False
#: Its level without a log.
NO_LOG = logging.CRITICAL + 1
LOG.setLevel(NO_LOG)


@dataclass
class _Shown:
    """What stderr shows: details too, or nothing while lines are logged only."""

    details: bool = False
    log_only: bool = False


_shown = _Shown()


def mute_other_ranks() -> None:
    """Under `torchrun`, show output of the first process only; the others show errors only."""
    if is_other_rank():
        streams.errors_console().quiet = streams.results_console().quiet = True


def is_other_rank() -> bool:
    """Whether this is a process under `torchrun` other than the first."""
    return launched("WORLD_SIZE", 1) > 1 and launched("RANK", 0) > 0


def set_quiet(quiet: bool) -> None:
    """Choose whether stderr shows errors only: neither progress bars nor other lines."""
    streams.errors_console().quiet = quiet


# --- lines ----------------------------------------------------------------------------


def note(message: str, level: int = logging.INFO) -> None:
    """Show a line on stderr, and log it."""
    log(level, message)
    if not _shown.log_only:
        # File names may contain control characters: a newline must not break the line.
        console = streams.errors_console()
        streams.show(console, printable(message), markup=False, highlight=False, soft_wrap=True)


def detail(message: str) -> None:
    """Show a line on stderr with --verbose only, and log it."""
    if _shown.details:
        note(message, logging.DEBUG)
    else:
        log(logging.DEBUG, message)


def log(level: int, message: str) -> None:
    """Log a line, without showing it."""
    if LOG.isEnabledFor(level):
        LOG.log(level, "%s", printable(message))


def tells_details() -> bool:
    """Whether anybody reads the lines of `detail`."""
    return _shown.details or LOG.isEnabledFor(logging.DEBUG)


def set_verbose(verbose: bool) -> None:
    """Choose whether stderr shows details too."""
    _shown.details = verbose


@contextmanager
def log_only(active: bool) -> Iterator[None]:
    """Log the lines and paths of a block without showing them, if active."""
    before, _shown.log_only = _shown.log_only, active or _shown.log_only
    try:
        yield
    finally:
        _shown.log_only = before


def note_error(message: str) -> None:
    """Show a line on stderr, even with --quiet and while other lines are logged only."""
    console = streams.errors_console()
    quiet, console.quiet = console.quiet, streams.results_console().quiet
    logged_only, _shown.log_only = _shown.log_only, False
    note(message, logging.ERROR)
    console.quiet, _shown.log_only = quiet, logged_only


def fail(message: str) -> NoReturn:
    """Show an error on stderr, even with --quiet, and exit with code 1."""
    streams.errors_console().quiet = False
    note(f"kpn: {message}", logging.ERROR)
    sys.exit(1)


def print_path(path: Path) -> None:
    """Print a path on stdout, for other programs to read."""
    log(logging.INFO, f"wrote       {path}")
    if _shown.log_only:
        return
    _print(streams.write_path, path, "nobody reads the list of results any more; kpn goes on")


def print_text(text: str) -> None:
    """Print a document or a table, the result of a command, on stdout."""
    _print(streams.write_line, text)


def print_json(document: Any) -> None:
    """Print a JSON document on stdout."""
    print_text(json.dumps(document, indent=2))


def print_json_object(document: Mapping[str, Any]) -> None:
    """Print a JSON object on stdout piece by piece, as `print_json` prints it whole.

    Args:
        document: its values; iterators become lists, whose elements are taken as they are printed.
    """
    piece, size = [], 0
    for text in _json_texts(document):
        piece.append(text)
        size += len(text)
        if size > _PIECE:
            _print(partial(streams.write_line, end=""), "".join(piece))
            piece, size = [], 0
    print_text("".join(piece))


#: Characters of JSON that are written at once.
_PIECE = 1 << 16


def _json_texts(document: Mapping[str, Any]) -> Iterator[str]:
    start = "{\n"
    for name, value in document.items():
        yield f"{start}  {json.dumps(name)}: "
        start = ",\n"
        if not isinstance(value, Iterator):
            # JSON has no line breaks within its strings.
            yield json.dumps(value, indent=2).replace("\n", "\n  ")
            continue
        empty = True
        for element in value:
            before = "[\n" if empty else ",\n"
            yield before + "    " + json.dumps(element, indent=2).replace("\n", "\n    ")
            empty = False
        yield "[]" if empty else "\n  ]"
    yield "\n}" if document else "{}"


def print_rich(table: RenderableType) -> None:
    """Print what Rich draws, such as a table, on stdout."""
    _print(partial(streams.show, streams.results_console()), table)


def _print(write: Callable[[T], None], thing: T, if_nobody_reads: str = "") -> None:
    """Write something to stdout; tell once that stdout takes nothing any more.

    Args:
        write: writes it.
        thing: to write.
        if_nobody_reads: what to tell if the reader has gone away, as `head` does; "" for nothing.
    """
    if streams.results_console().quiet or streams.is_stdout_lost():
        return
    write(thing)
    if streams.stdout_error():
        note_error(f"kpn: {streams.stdout_error()}")
    elif streams.is_stdout_lost() and if_nobody_reads:
        note(if_nobody_reads)


# --- progress bars --------------------------------------------------------------------


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr.

    Args:
        description: the text in front of the bar.
        total: number of steps; None if unknown.

    Yields:
        A function that advances the bar by a step, or sets what its keywords name
        (`completed`, `total`, `description`).
    """
    with streams.make_bars() as bars:
        task = bars.add_task(description, total=total)

        def move(**changes: Any) -> None:
            bars.update(task, **changes or {"advance": 1})

        yield move


@contextmanager
def stage_bar() -> Iterator[Callable[[Stage], None]]:
    """Show a bar for the stages of one burst; yields the function that reports a stage."""
    with bar("reading", None) as move:
        yield lambda stage: move(description=stage.name, completed=stage.done, total=stage.total)


@contextmanager
def scan_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar while files are scanned; yields a function of the number done and in total."""
    with bar(SCANNING, None) as move:
        yield lambda done, total: move(completed=done, total=total)


# --- one burst ------------------------------------------------------------------------


def show_result(result: Result) -> None:
    """Show how a burst was denoised on stderr, and print the paths of its outputs on stdout."""
    if result.skipped:
        note(f"{result.reference.name}: outputs exist already; use --overwrite to replace them")
        return
    note(f"reference   {result.frames[0].name}, {count(len(result.frames), 'frame')} used")
    show_remarks(result)
    if len(result.frames) > 1:
        note(f"alignment   {_alignment_text(result)}")
    note(f"noise       {noise_text(result.noise)}")
    note(f"time        {result.seconds:.1f} s on {result.device} in {result.precision}")
    for path in result.outputs.values():
        print_path(path)


def show_remarks(result: Result) -> None:
    """Show the dropped frames, notes and warnings of a burst."""
    for kind, text in result.remarks():
        note(f"{kind:<12}{text}")


def _alignment_text(result: Result) -> str:
    """The largest median shift of a frame, and the range of the frames' rejected tiles."""
    largest = max(max(map(abs, shift)) for shift in result.shifts[1:])
    shares = sorted(result.rejected[1:])
    span = dict.fromkeys((f"{shares[0]:.0%}", f"{shares[-1]:.0%}"))
    return f"shifts up to {largest} pixels; {' to '.join(span)} of each frame's tiles rejected"


def noise_text(noise: NoiseReport | None) -> str:
    """Return a noise model as text: the means of S and O over the planes, and their source."""
    if noise is None:
        return "unknown"
    return f"{_mean_model(noise.model)}, {noise.origin}"


def _mean_model(model: NoiseModel) -> str:
    shot, read = (f"{sum(values) / 4:.3g}" for values in (model.shot, model.read))
    return f"S={shot} O={read}"


def count(number: int, noun: str) -> str:
    """Return a number and its noun: "1 frame", "8 frames"."""
    return f"{number} {noun}" + "s" * (number != 1)


def show_inspection(inspection: Inspection) -> None:
    """Show the frames, the noise and the kernels of an inspected burst."""
    frames = count(len(inspection.infos), "frame")
    note(f"reference   {inspection.info.frame.name}, {frames} used")
    for path, why in inspection.dropped.items():
        note(f"dropped     {path.name}: {why}")
    note(f"noise       {noise_text(inspection.noise)}")
    if inspection.noise.warning:
        note(f"warning     {inspection.noise.warning}")
    precision = inspection.precision
    note(f"network     on {inspection.device} in {precision.name} ({precision.reason})")
    if precision.note:
        note(f"note        {precision.note}")
    for place, look in inspection.views.items():
        why = f" ({place.why})" if place.why else ""
        weights = " ".join(f"{weight:.0%}" for weight in look.weights)
        note(f"at {place.x},{place.y}{why}: frame weights {weights}, the reference first")
        for scaled in inspection.scaled_views[place]:
            note(
                f"  noise sigma x {scaled.scale:g}: kernel radius {scaled.radius:.1f} px, "
                f"{scaled.noise_left**0.5:.1%} of sigma remains"
            )


# --- many bursts ----------------------------------------------------------------------


def show_left_out(left_out: Sequence[LeftOut], *, only: bool) -> None:
    """Show a line for each bracket that is not to be merged, and one for all bursts of few frames.

    If there is nothing else, say so. How to merge brackets is said once.
    """
    from ..pipeline.result import left_out_lines

    for line, _ in left_out_lines(left_out):
        note(f"left out    {line}")
    if left_out and only:
        note_error(f"kpn: nothing to denoise but {_nothing_but(left_out)}")
    elif any(burst.is_mergeable for burst in left_out):
        note(f"left out    {MERGE_BRACKETS}")


def _nothing_but(left_out: Sequence[LeftOut]) -> str:
    """Return what was left out, and how to denoise it."""
    brackets = [each for each in left_out if not each.fewer_than]
    few = [each for each in left_out if each.fewer_than]
    parts = []
    if few:
        burst = "a burst" if len(few) == 1 else "bursts"
        parts.append(f"{burst} of fewer than {few[0].fewer_than} frames; lower --min-frames")
    if brackets:
        one = len(brackets) == 1
        what, which = ("an exposure bracket", "it") if one else ("exposure brackets", "them")
        can_be = any(bracket.is_mergeable for bracket in brackets)
        parts.append(what + (f"; add --exposures mixed to merge {which}" if can_be else ""))
    return ", and ".join(parts)


def show_ignored(plan: Plan) -> None:
    """Show how many of the files are outputs of kpn, which are not denoised again."""
    if plan.ignored:
        note(f"skipped {count(len(plan.ignored), 'file')} that kpn has written")


def show_summary(summary: Summary) -> None:
    """Show how many bursts are done, and which have failed."""
    if len(summary.results) + len(summary.failures) + len(summary.left_out) > 1:
        skipped = sum(result.skipped for result in summary.results)
        parts = [f"{len(summary.results) - skipped} done"]
        if skipped:
            parts.append(f"{skipped} skipped (outputs exist)")
        if summary.left_out:
            parts.append(f"{len(summary.left_out)} left out")
        if summary.failures:
            parts.append(f"{len(summary.failures)} failed")
        note(", ".join(parts) + ":" * bool(summary.failures or summary.left_out))
    show_left_out(summary.left_out, only=not summary.results and not summary.failures)
    show_failures(summary.failures)


def show_failures(failures: Sequence[Failure]) -> None:
    """Show a line for each burst or file that failed, even with --quiet."""
    for failure in failures:
        note_error(f"kpn: {failure.message()}")


# --- the other commands ---------------------------------------------------------------


def progress_line(progress: TrainProgress) -> str:
    """Return a line on a training run: loss, speed and, after a validation, PSNR by gain."""
    line = f"{progress.patches:>9} patches  loss {progress.loss:.4f}  {progress.speed:.1f}/s"
    for name, row in (progress.table or {}).items():
        line += f"  {name} " + " / ".join(f"{psnr:.2f}" for psnr in row.values())
    return line


def show_calibration(calibration: Calibration) -> None:
    """Show a camera's noise, one line for each ISO."""
    for level in calibration.levels:
        pairs = count(level.pairs, "pair")
        note(f"ISO {level.iso:<8.8g}{_mean_model(level.noise)}, from {pairs} of frames")
        if level.note:
            note(f"warning     {level.note}")
    if calibration.defects is None:
        note("warning     the surface is not even: no list of defects")
    else:
        note(f"defects     {count(len(calibration.defects.rows), 'pixel')}")


def show_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Show labels and values as a table on stdout."""
    from rich.table import Table
    from rich.text import Text

    # `Text`, because a file's own words are not markup. A title of the table would be wrapped.
    print_text(printable(title))
    table = Table(show_header=False)
    for label, value in rows:
        table.add_row(label, Text(printable(value), overflow="fold"))
    print_rich(table)
