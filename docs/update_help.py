"""Bring the help texts in the pages up to date: `python docs/update_help.py [PAGE...]`.

A block of code that starts with `$ kpn COMMAND --help` gets the output of that command.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from click.testing import CliRunner

from kpn_cli.cli.app import main

#: Columns of the help texts; tests/test_docs.py compares them at this width.
WIDTH = 78
_BLOCK = re.compile(r"(```console\n\$ kpn (?:(\w+) )?--help\n)(.*?)(```)", re.DOTALL)


def _with_help(block: re.Match[str]) -> str:
    start, command, _, end = block.groups()
    words = [command, "--help"] if command else ["--help"]
    result = CliRunner().invoke(main, words, prog_name="kpn", terminal_width=WIDTH)
    return f"{start}{result.output.strip()}\n{end}"


def update(text: str) -> str:
    """Return the text of a page, its help texts being those of the program."""
    return _BLOCK.sub(_with_help, text)


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:] or Path(__file__).parent.glob("*.md")):
        old = page.read_text("utf-8")
        if (new := update(old)) != old:
            page.write_text(new, "utf-8")
            print(page)
