"""The report for programs: `report.jsonl` beside the page, a line of JSON for each burst.

The lines of bursts have the keys of `kpn denoise --json`; those of failures and of bursts that were
left out, too. Bursts of earlier runs keep their line while their outputs exist, and so do bursts
that were skipped: their new line would not know how they were denoised.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..pipeline.result import Result
from ..system.files import atomic
from .report_page import ReportFacts
from .result_json import burst_json, failure_json, left_out_json

NAME = "report.jsonl"
#: Keys that each line has: of a burst, of a failure, of a burst that was left out.
_KEYS = ({"reference", "outputs"}, {"files", "error"}, {"files", "reason"})
#: A longer line is none of a report.
_MAX_LINE = 1 << 24


def is_ours(path: Path) -> bool:
    """Whether a file, not a symbolic link, is such a list: empty, or its first line is of one."""
    if path.is_symlink() or not path.is_file():
        return False
    with suppress(OSError), path.open("rb") as file:
        line = file.readline(_MAX_LINE)
        return not line or _parsed(line) is not None
    return False


def write_lines(folder: Path, facts: ReportFacts) -> Path:
    """Write the list.

    Args:
        folder: of the report.
        facts: of the run.

    Raises:
        KpnError: if it cannot be written.
    """
    path = folder / NAME
    outputs = {_place(file) for each in facts.results for file in each.outputs.values()}
    skipped = {_key(each): n for n, each in enumerate(facts.results) if each.skipped}
    old: dict[int, str] = {}
    others: list[str] = []
    for line, document in _lines_of(path):
        made = list(document.get("outputs", {}).values())
        key = frozenset(map(_place, made))
        if key in skipped:
            old[skipped[key]] = line
        elif made and not key & outputs and all(map(os.path.lexists, made)):
            others.append(line)
    with atomic(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        for number, result in enumerate(facts.results):
            file.write(old.get(number) or json.dumps(burst_json(result)) + "\n")
        file.writelines(json.dumps(failure_json(each)) + "\n" for each in facts.failures)
        file.writelines(json.dumps(left_out_json(each)) + "\n" for each in facts.left_out)
        file.writelines(others)
    return path


def _key(result: Result) -> frozenset[str]:
    return frozenset(map(_place, result.outputs.values()))


def _place(path: Path | str) -> str:
    return os.path.normcase(os.path.abspath(path))


def _lines_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of an old list, as text and parsed; without those that are none."""
    if not is_ours(path):
        return
    with suppress(OSError), path.open("rb") as file:
        while line := file.readline(_MAX_LINE):
            document = _parsed(line)
            if document is not None and line.endswith(b"\n"):
                yield line.decode("ascii"), document


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not any(keys <= document.keys() for keys in _KEYS):
        return None
    made = document.get("outputs", {})
    is_text = isinstance(made, dict) and all(
        isinstance(each, str) and "\0" not in each for each in made.values()
    )
    return document if is_text else None
