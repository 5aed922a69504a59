"""The report for programs: `report.jsonl` beside the page, a line of JSON for each burst.

The lines have the keys of `kpn denoise --json`, with absolute paths. Bursts of earlier runs keep
their line while their outputs exist. So do bursts that were skipped: a new line would not know how
they were denoised.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

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
    if os.path.islink(path) or not os.path.isfile(path):
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
        KpnError: if it cannot be written, or the old one not be read.
    """
    path = folder / NAME
    with (
        atomic(path) as temporary,
        path.open("rb") if is_ours(path) else nullcontext(BytesIO()) as old,
        temporary.open("wb") as file,
    ):
        known, others = _old_lines(old, facts.results)
        for number, result in enumerate(facts.results):
            if number in known:
                file.write(_line_at(old, known[number]))
            else:
                file.write(_line(burst_json(result, os.path.abspath)))
        file.writelines(_line(failure_json(each, os.path.abspath)) for each in facts.failures)
        file.writelines(_line(left_out_json(each, os.path.abspath)) for each in facts.left_out)
        file.writelines(_line_at(old, place) for place in others)
    return path


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode("ascii") + b"\n"


def _old_lines(old: BinaryIO, results: Sequence[Result]) -> tuple[dict[int, int], list[int]]:
    """Find the lines of an old list that stay.

    Returns:
        Number of a skipped burst -> place of the line from when it was denoised; places of the
        lines of other bursts whose outputs exist.
    """
    written = {_place(path) for each in results for path in each.outputs.values()}
    skipped = {
        (each.fingerprint.hex(), _place(path)): number
        for number, each in enumerate(results)
        if each.skipped
        for path in each.outputs.values()
    }
    known: dict[int, int] = {}
    others: list[int] = []
    for place, document in _lines_of(old):
        paths = list(map(_place, document.get("outputs", {}).values()))
        for path in paths:
            number = skipped.get((document.get("fingerprint", ""), path))
            if number is not None:
                known[number] = place
        if paths and written.isdisjoint(paths) and all(map(os.path.lexists, paths)):
            others.append(place)
    return known, others


def _place(path: Path | str) -> str:
    return os.path.normcase(os.path.abspath(path))


def _line_at(old: BinaryIO, place: int) -> bytes:
    old.seek(place)
    return old.readline(_MAX_LINE)


def _lines_of(old: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield place and document of each line of an old list; not of those that are none."""
    place = 0
    while line := old.readline(_MAX_LINE):
        document = _parsed(line)
        if document is not None and line.endswith(b"\n"):
            yield place, document
        place += len(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not any(keys <= document.keys() for keys in _KEYS):
        return None
    made = document.get("outputs", {})
    is_text = isinstance(made, dict) and all(
        isinstance(each, str) and "\0" not in each
        for each in [*made.values(), document.get("fingerprint", "")]
    )
    return document if is_text else None
