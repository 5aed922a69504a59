"""Output on a terminal: bars, colours, --quiet."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import KPN_PROGRAM, kpn


def _in_a_terminal(command: list[object], **environment: str) -> tuple[str, str]:
    """Run a command with stderr in a terminal of its own; return stdout and what that shows."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    own, its = pty.openpty()
    shown = []
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=its,
        env=clean | {"TERM": "xterm-256color"} | environment,
    )
    os.close(its)
    with suppress(OSError):  # the terminal's end
        while part := os.read(own, 65536):
            shown.append(part)
    os.close(own)
    out = process.communicate()[0]
    assert process.returncode == 0
    return out.decode(), b"".join(shown).decode()


def test_a_terminal_shows_bars_in_colour_unless_no_color_or_quiet_is_set(burst, weights, tmp_path):
    command = [KPN_PROGRAM, "denoise", *burst[0], "--weights", weights, "--overwrite"]
    command += ["-o", tmp_path, "--format", "dng"]
    colour = re.compile(r"\x1b\[[0-9;]*m")
    out, shown = _in_a_terminal(command)
    assert "━━" in shown and colour.search(shown)
    _, plain = _in_a_terminal(command, NO_COLOR="1")
    assert "━━" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]|\x1b\[38", plain)
    same, silent = _in_a_terminal([*command, "--quiet"])
    assert silent == ""
    assert same == out != ""


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
