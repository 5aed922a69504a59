"""What `--verbose` and `--log` tell beyond the usual lines, through Python's `logging`.

All lines that a command shows go to the logger too (`console.note`); a log file gets them with the
time, also when the terminal is quiet.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import KpnError
from . import console, settings
from .version import full_version

if TYPE_CHECKING:
    from ..batch.plan import Plan
    from ..pipeline.result import Result

#: A line's beginning: local time with its zone (ISO 8601).
_TIME = "%Y-%m-%dT%H:%M:%S"
_ZONED = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ")
#: Libraries whose version decides about the result or its speed.
_LIBRARIES = ("torch", "numpy", "rawpy", "opencv-python-headless", "openvino")
#: Names that a frame's line may take up before its figures.
_COLUMN = 12


@contextmanager
def log_to(path: Path | None) -> Iterator[None]:
    """Append the lines of a block to a log file.

    Under `torchrun`, the first process logs for all.

    Args:
        path: the file, made if it does not exist, with its folder; None for no file.

    Raises:
        KpnError: if it cannot be written, or is a file of another kind.
    """
    if path is None or console.is_other_rank():
        yield
        return
    handler = _handler(path)
    console.LOG.addHandler(handler)
    console.LOG.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        console.LOG.setLevel(console.NO_LOG)
        console.LOG.removeHandler(handler)
        with suppress(OSError):  # on a full disk, which was told when the first line was lost
            handler.close()


class _Handler(logging.FileHandler):
    """Appends lines to a file; if that fails, says so once and lets the work go on."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say that a line is lost; logging's own method would print a traceback."""
        if not self.failed:
            self.failed = True
            error = sys.exc_info()[1]
            reason = getattr(error, "strerror", None) or error
            console.note_error(f"kpn: {self.baseFilename}: the log cannot be written: {reason}")


def _handler(path: Path) -> logging.Handler:
    from ..system.files import check_no_pipe, make_folder, write_error

    check_no_pipe(path, "choose another --log")
    make_folder(path.parent)
    try:
        with path.open("a+b") as file:
            file.seek(0)
            begin = file.read(32)
        if begin and not _ZONED.match(begin):
            raise KpnError(
                f"{path}: is no log of kpn, and kpn appends to no other file; choose another --log"
            )
        handler = _Handler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise write_error(path, error) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", f"{_TIME}%z"))
    return handler


# --- the run --------------------------------------------------------------------------


def tell_settings(context: click.Context) -> None:
    """Tell the program, the machine, and all settings with where they are from."""
    if not console.tells_details():
        return
    import platform

    from ..system.versions import installed

    found = [f"{name} {installed(name) or 'is not installed'}" for name in _LIBRARIES]
    console.detail(
        f"kpn {full_version()} on Python {platform.python_version()}, {', '.join(found)}"
    )
    console.detail(f"{platform.platform()}, in {_current_folder()}")
    console.detail(f"{'inputs':<{_COLUMN}}{', '.join(map(str, context.params['paths']))}")
    for name, (value, where) in settings.settings(context).items():
        line = f"{'setting':<{_COLUMN}}--{name} {_shown(value)}"
        if where:
            console.detail(f"{line} ({where})")
        else:  # the file must tell what a later version may do otherwise
            console.log(logging.DEBUG, line)


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "a folder that is gone"


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not given" if value is None else str(value)


def tell_plan(plan: Plan) -> None:
    """Tell the files of each burst, which are ignored, and why all were read again."""
    if not console.tells_details():
        return
    if plan.no_cache:
        console.detail(f"{'no cache':<{_COLUMN}}{plan.no_cache}")
    for job in plan.jobs:
        names = ", ".join(path.name for path in job.files)
        console.detail(
            f"{'burst':<{_COLUMN}}{names} in {job.files[0].parent} ({job.why}), to {job.folder}"
        )
    for path in plan.ignored:
        console.detail(f"{'ignored':<{_COLUMN}}{path}: kpn has written it")


# --- a burst --------------------------------------------------------------------------


def tell_result(result: Result) -> None:
    """Tell what was decided for a burst, beyond what `console.show_result` shows."""
    if console.tells_details():
        for line in _lines(result):
            console.detail(line)


def _lines(result: Result) -> list[str]:
    if result.skipped:
        return _rows("finished", [str(path) for path in result.outputs.values()])
    lines = _rows("frame", _frames(result))
    if result.noise is not None:
        noise = result.noise
        for name, values in (("S", noise.model.shot), ("O", noise.model.read)):
            shown = " ".join(f"{value:.4g}" for value in values)
            lines += _rows("noise", [f"{name} of R, G1, G2, B: {shown}, {noise.origin}"])
    if result.noise_left is not None:
        lines += _rows("noise", [f"{result.noise_left**0.5:.1%} of sigma remains"])
    arithmetic = f"{result.precision} on {result.device} ({result.precision_reason})"
    lines += _rows("network", [arithmetic])
    if result.fallback_share is not None:
        share = f"{result.fallback_share:.2%} of the picture is the reference's"
        lines += _rows("network", [share])
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result.timings.items())
    return lines + _rows("stages", [stages])


def _rows(kind: str, texts: Sequence[str]) -> list[str]:
    return [f"{kind:<{_COLUMN}}{text}" for text in texts]


def _frames(result: Result) -> list[str]:
    """Return a line for each merged frame: shift, brightness, agreement, rejected tiles."""
    figures = zip(result.shifts, result.exposure, result.agreement, result.rejected, strict=False)
    lines = []
    for path, (shift, gain, agreement, rejected) in zip(result.frames, figures, strict=False):
        down, right = shift
        lines.append(
            f"{path.name}: shifted by {right:+d},{down:+d} pixels (x,y on the sensor), "
            f"{gain:.3f} times as bright, agreement {agreement:.2f}, "
            f"{rejected:.1%} of the tiles rejected"
        )
    return lines
