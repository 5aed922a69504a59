"""Runs kpn as a user does."""

from __future__ import annotations

import sys
from pathlib import Path

from click.testing import CliRunner, Result

from kpn_cli.cli.app import main

KPN_PROGRAM = Path(sys.executable).with_name("kpn")


def kpn(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def assert_one_line(result: Result, *words: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("kpn: ")
    for word in words:
        assert word in line
