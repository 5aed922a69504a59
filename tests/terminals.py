"""Runs commands in a pseudo-terminal and shows what a person would see there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyte
import pytest

#: Environment variables that change what programs show on a terminal.
_SET_BY_USERS = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONIOENCODING")


@dataclass(frozen=True)
class Shown:
    """What a command has left on its terminal.

    Attributes:
        code: exit code.
        lines: of the screen and of what scrolled off it, without empty lines at the end.
        raw: what was sent to the terminal.
        out: what went to stdout, if that is no terminal.
    """

    code: int
    lines: list[str]
    raw: str
    out: bytes

    @property
    def joined(self) -> str:
        """The lines as one text, in which a line that the terminal has wrapped is whole again."""
        return "".join(self.lines)


def in_a_terminal(
    command: Sequence[object],
    *,
    columns: int = 80,
    rows: int = 24,
    piped: bool = False,
    **environment: str,
) -> Shown:
    """Run a command with stdout and stderr in a terminal of its own.

    Args:
        command: program and arguments.
        columns, rows: size of the terminal.
        piped: whether stdout is a pipe instead.
        environment: variables to add.
    """
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    import fcntl
    import struct
    import termios

    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=1)
    stream = pyte.ByteStream(screen)
    clean = {name: value for name, value in os.environ.items() if name not in _SET_BY_USERS}
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=its,
        stdout=subprocess.PIPE if piped else its,
        stderr=its,
        env=clean | {"TERM": "xterm-256color"} | environment,
    )
    os.close(its)
    sent = []
    with suppress(OSError):  # the terminal's end
        while part := os.read(own, 65536):
            stream.feed(part)
            sent.append(part)
    os.close(own)
    out = process.communicate()[0] or b""
    above = ["".join(line[x].data for x in range(columns)) for line in screen.history.top]
    lines = [line.rstrip() for line in above + screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return Shown(process.returncode, lines, b"".join(sent).decode("utf-8", "replace"), out)
