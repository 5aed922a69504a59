"""Standard output and standard error: terminals, pipes, and readers that go away.

Progress bars are drawn on stderr. A line that goes to the same terminal past them would be
overwritten, so all lines go through this module. Rich is imported when something is shown: it takes
as long as all else that `kpn --help` needs.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISCHR, S_ISREG
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import printable, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.progress import Progress

#: Time for which the bars make way when a path goes into a pipe, whose reader may well show it on
#: the same terminal, as `tee` does; seconds.
_MAKE_WAY_SECONDS = 0.2
#: Columns of what is no terminal.
_ANY_WIDTH = 10_000


@dataclass
class _Listing:
    """What has become of stdout.

    Attributes:
        gone: whether it takes nothing any more.
        error: why, for the user; "" if nobody reads it any more, which is no error.
    """

    gone: bool = False
    error: str = ""


_listing = _Listing()
#: The bars that were made last.
_bars: list[Any] = []


def begin() -> None:
    """Let stdout and stderr take all text: what their encoding lacks is escaped with backslashes.

    To be called before anything is shown.
    """
    _listing.gone, _listing.error = False, ""
    _bars.clear()
    errors_console.cache_clear()
    results_console.cache_clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors="backslashreplace")


@cache
def errors_console() -> Console:
    """Return the console on stderr."""
    return _console(stderr=True)


@cache
def results_console() -> Console:
    """Return the console on stdout."""
    return _console(stderr=False)


def _console(stderr: bool) -> Console:
    from rich.console import Console

    class Standard(Console):
        """Leaves a broken pipe to `show`; Rich's own would end the program."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    # Nobody looks at a pipe or a file through a window of 80 columns: no line is broken there.
    return Standard(stderr=stderr, width=None if stderr or is_stdout_terminal() else _ANY_WIDTH)


def _stdout() -> TextIO | None:
    """Return stdout itself; while bars are shown, Rich stands before it. None if it is closed."""
    stream: TextIO | None = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    return stream


def _stderr() -> TextIO | None:
    stream: TextIO | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    return stream


def is_stdout_terminal() -> bool:
    """Whether a person watches stdout."""
    return _is_terminal(_stdout())


def is_stderr_terminal() -> bool:
    """Whether a person watches stderr."""
    return _is_terminal(_stderr())


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


# --- writing --------------------------------------------------------------------------


def show(console: Console, *things: RenderableType, **how: Any) -> None:
    """Show something on a console; if its reader has gone away, nothing."""
    if _listing.gone and not console.stderr:
        return
    try:
        console.print(*things, **how)
    except OSError as error:
        if console.stderr:
            _discard(_stderr())
        else:
            _stdout_lost(error)


def write_line(line: str | bytes, end: str = "\n") -> None:
    """Write a line to stdout; if its reader has gone away, nothing.

    Not with `click.echo`, which takes ASCII for a mistake and writes UTF-8.
    """
    stream = _stdout()
    if _listing.gone or stream is None:
        return
    try:
        if isinstance(line, str):
            stream.write(line + end)
        elif (binary := getattr(stream, "buffer", None)) is not None:
            stream.flush()
            binary.write(line + end.encode())
        else:
            stream.write(printable(os.fsdecode(line)) + end)
        stream.flush()
    except OSError as error:
        _stdout_lost(error)


def write_path(path: Path) -> None:
    """Write a path to stdout on a line of its own, whatever bars are shown.

    In a pipe or a file, its bytes are those of the name, which need not be valid in any encoding.
    On a terminal, it is escaped.
    """
    watched = is_stdout_terminal()
    if watched and _are_bars_shown() and _is_one_terminal():
        # Above the bars, as other lines are.
        show(errors_console(), printable(str(path)), markup=False, highlight=False, soft_wrap=True)
        return
    if _are_bars_shown() and not _is_file(_stdout()):
        _make_way()
    if watched:
        write_line(printable(str(path)))
    else:  # Windows has no bytes in names: there the encoding is what its programs expect
        write_line(str(path) if sys.platform == "win32" else os.fsencode(path))


def is_stdout_lost() -> bool:
    """Whether stdout takes nothing any more."""
    return _listing.gone


def stdout_error() -> str:
    """Return why stdout could not be written, for the user; "" if it could.

    That its reader has gone away, as `head` does, is no error.
    """
    return _listing.error


def _stdout_lost(error: OSError) -> None:
    """Write nothing to stdout from now on."""
    _listing.gone = True
    # On Windows, a pipe that nobody reads gives "invalid argument".
    closed = error.errno == errno.EPIPE or (sys.platform == "win32" and error.errno == errno.EINVAL)
    if not closed:
        _listing.error = f"the results cannot be listed on stdout: {reason_of(error)}"
    _discard(_stdout())


def _discard(stream: TextIO | None) -> None:
    """Let a stream lead nowhere, so that what it still holds is no error when Python ends."""
    if stream is None:
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
    except (OSError, ValueError):  # the stream is no file of the operating system
        pass


# --- bars -----------------------------------------------------------------------------


def make_bars() -> Progress:
    """Return the progress display that all commands use; disabled unless stderr is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    class Bars(Progress):
        """Bars that can make way for lines that other programs write to the terminal."""

        hidden_until = 0.0

        def get_renderables(self) -> Iterable[RenderableType]:
            """Return what is to be drawn."""
            return () if time.monotonic() < self.hidden_until else super().get_renderables()

    console = errors_console()
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        # Text that others print on the same terminal is shown above the bars; what goes into a
        # pipe stays there.
        redirect_stdout=_is_one_terminal(),
        disable=not is_stderr_terminal() or console.is_dumb_terminal or console.quiet,
    )
    _bars[:] = [bars]
    return bars


def _are_bars_shown() -> bool:
    return any(bars.live.is_started for bars in _bars)


def _make_way() -> None:
    """Erase the bars for a moment."""
    for bars in _bars:
        bars.hidden_until = time.monotonic() + _MAKE_WAY_SECONDS
        bars.refresh()


def _is_one_terminal() -> bool:
    """Whether stdout and stderr are the same terminal."""
    streams = (_stdout(), _stderr())
    if not all(map(_is_terminal, streams)):
        return False
    if sys.platform == "win32":  # a program has one console
        return True
    try:
        first, second = (os.fstat(stream.fileno()).st_rdev for stream in streams if stream)
    except (OSError, ValueError):
        return False
    return first == second


def _is_file(stream: TextIO | None) -> bool:
    """Whether nobody can show what is written to a stream before the program ends."""
    try:
        if stream is None:
            return True
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return True
    return S_ISREG(mode) or (S_ISCHR(mode) and not _is_terminal(stream))
