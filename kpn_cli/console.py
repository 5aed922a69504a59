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
    from .calibration import Calibration
    from .pipeline import Result
    from .raw import RawInfo
    from .train import Progress as TrainProgress

_err = Console(stderr=True)
_out = Console()


def be_quiet() -> None:
    """Show nothing but errors from now on; for processes that are not the first."""
    _err.quiet = _out.quiet = True


def fail(message: str) -> NoReturn:
    """Show an error and exit with 1."""
    _err.quiet = False
    _err.print(f"kpn: {message}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


def print_path(path: Path) -> None:
    """Print a path on stdout, for other programs to take."""
    if _out.quiet:
        return
    # As bytes: a name need not be UTF-8.
    click.echo(os.fsencode(path))


def note(message: str) -> None:
    """Show a line on stderr."""
    _err.print(message, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr; yields a function that moves it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bar:
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


def burst_json(result: Result) -> dict[str, Any]:
    """Return a burst's entry in the JSON of `kpn denoise`."""
    noise = result.noise
    return {
        "reference": str(result.reference),
        "frames": [str(path) for path in result.frames],
        "dropped": {str(path): why for path, why in result.dropped.items()},
        "outputs": {name: str(path) for name, path in result.outputs.items()},
        "noise": noise
        and {
            "source": noise.source,
            "shot": noise.model.shot,
            "read": noise.model.read,
            "warning": noise.warning,
            "file": noise.file and str(noise.file),
        },
        "noise_left": result.noise_left,
        "shifts": result.shifts,
        "agreement": result.agreement,
        "exposure": result.exposure,
        "fallen_back": result.fallen_back,
        "device": result.device,
        "seconds": result.seconds,
        "timings": result.timings,
        "skipped": result.skipped,
    }


def show_result(result: Result) -> None:
    """Show what became of a burst; on stdout, the paths of its outputs alone."""
    if result.skipped:
        note(f"{result.reference.name}: outputs are there already; --overwrite makes them again")
        return
    noise = result.noise
    note(f"reference   {result.reference.name}, {_frames(len(result.frames))} used")
    for path, why in result.dropped.items():
        note(f"dropped     {path.name}: {why}")
    for path, exposure in zip(result.frames, result.exposure, strict=True):
        if abs(exposure - 1) > 0.02:
            note(f"note        {path.name} is {exposure:.3f} times as bright; matched")
    if result.fallen_back > 0.02:
        note(f"note        {result.fallen_back:.0%} of the picture is left to the reference")
    shot, read = (f"{sum(values) / 4:.3g}" for values in (noise.model.shot, noise.model.read))
    source = _SOURCES[noise.source] + (f" in {noise.file.name}" if noise.file else "")
    note(f"noise       S={shot} O={read}, {source}")
    if noise.warning:
        note(f"warning     {noise.warning}")
    note(f"time        {result.seconds:.1f} s on {result.device}")
    for path in result.outputs.values():
        print_path(path)


def _frames(number: int) -> str:
    return f"{number} frame" + "s" * (number != 1)


def show_calibration(found: Calibration) -> None:
    """Show a camera's noise, one line for each ISO."""
    for level in found.levels:
        shot, read = (f"{sum(values) / 4:.3g}" for values in (level.noise.shot, level.noise.read))
        pairs = f"{level.pairs} pair" + "s" * (level.pairs != 1)
        note(f"ISO {level.iso:<8g}S={shot} O={read}, {pairs}")
        if level.note:
            note(f"warning     {level.note}")


_SOURCES = {
    "given": "as given",
    "profile": "from the NoiseProfile",
    "iso": "typical of the ISO",
    "measured": "measured from the frames",
}


def info_json(found: RawInfo) -> dict[str, Any]:
    """Return a file's entry in the JSON of `kpn info`."""
    from .noise_estimate import from_iso

    noise, source = found.noise_profile, "profile"
    if noise is None and found.iso:
        noise, source = from_iso(found.iso), "iso"
    return {
        "file": str(found.path),
        "make": found.make,
        "model": found.model,
        "cfa": found.phase,
        "width": found.width,
        "height": found.height,
        "black": found.black,
        "white": found.white,
        "iso": found.iso,
        "exposure_time": found.exposure_time,
        "f_number": found.f_number,
        "focal_length": found.focal_length,
        "captured": found.captured and found.captured.isoformat(),
        "orientation": found.orientation,
        "noise": noise and {"source": source, "shot": noise.shot, "read": noise.read},
    }


def show_info(row: dict[str, Any]) -> None:
    """Show a file's entry as a table."""
    # Text: what a file says of itself is no markup.
    table = Table(title=Text(row["file"]), show_header=False, title_justify="left")
    for key, value in row.items():
        if key == "noise":
            text = "measured from the burst" if value is None else (
                f"S {value['shot']} O {value['read']} ({_SOURCES[value['source']]})"
            )  # fmt: skip
        else:
            text = "unknown" if value in (None, "") else str(value)
        if key != "file":
            table.add_row(key.replace("_", " "), Text(text))
    _out.print(table)
