"""Output on a terminal: bars, colours, --quiet."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from command_line import kpn
from terminals import in_a_terminal

#: A command with a bar, and -q if it is given.
WORK = """
import sys, time
from kpn_cli.cli import console, streams
streams.begin()
console.set_quiet("-q" in sys.argv)
with console.bar("working", 2) as move:
    move()
    time.sleep(0.15)  # until the bar is drawn
    console.note("a line")
console.note_error("an error")
"""


def test_a_terminal_shows_bars_in_colour_unless_no_color_or_quiet_is_set():
    command = [sys.executable, "-c", WORK]
    shown = in_a_terminal(command)
    assert "working" in shown.raw and re.search(r"\x1b\[[0-9;]*m", shown.raw)
    plain = in_a_terminal(command, NO_COLOR="1")
    assert "working" in plain.raw
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]|\x1b\[38", plain.raw)
    assert shown.lines == plain.lines == ["a line", "an error"]
    assert in_a_terminal([*command, "-q"]).raw.split() == ["an", "error"]


def test_quiet_shows_errors_only(burst, weights, tmp_path):
    (tmp_path / "in").mkdir()
    broken = tmp_path / "in" / "broken.dng"
    broken.write_bytes(b"no raw at all")
    command = ["denoise", *burst[0], broken, "--weights", weights, "--format", "dng", "-q"]
    result = kpn(*command, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert [Path(line).parent for line in result.stdout.splitlines()] == [tmp_path / "out"]
    (line,) = result.stderr.splitlines()
    assert "broken.dng" in line
