"""Output on a terminal: bars, colours, --quiet."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from command_line import kpn
from terminals import in_a_terminal

from kpn_cli.cli import console, streams

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


@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_a_json_object_in_pieces_is_that_in_one(piece, monkeypatch, capsys):
    monkeypatch.setattr(console, "_PIECE", piece)
    values = [{"a": [1, {"b": []}], "text": "line\nbreak \N{SNOWMAN}"}, [], None, 1.5]
    for document in (
        {"bursts": values, "one": values[:1], "none": [], "nested": {"x": {}}, "n": None},
        {"none": []},
        {},
    ):
        console.print_json_object(
            {name: iter(v) if isinstance(v, list) else v for name, v in document.items()}
        )
        assert capsys.readouterr().out == json.dumps(document, indent=2) + "\n"


def test_errors_are_shown_while_other_lines_are_logged_only(capsys):
    streams.begin()
    with console.log_only(True):
        console.note("a line")
        console.note_error("an error")
        console.note("a line")
    assert capsys.readouterr().err.splitlines() == ["an error"]


def test_a_program_without_stderr_has_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert not streams.is_stderr_terminal()
