"""A page that shows what was done to each burst: `report.html` in the folder of the outputs.

Sections go to a hidden file beside it as bursts are done, so that a week of them takes no more
memory than one; at the end they are put together in the order of the plan. A burst whose outputs
are there already keeps the section it has on the page that is replaced.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import torch

from ..burst.frame import Frame
from ..errors import KpnError, read_error
from ..pipeline import outputs
from ..pipeline.denoise import Computed
from ..pipeline.loading import Reader
from ..pipeline.options import Options
from ..pipeline.result import Failure, Result
from ..system.files import atomic, make_folder, remove_abandoned, scratch, write_error
from ..system.memory import memory_as_error
from . import report_page, report_pictures, report_section
from .html import is_page_of
from .report_page import Batch
from .report_pictures import Pictures

NAME = "report.html"

#: Bytes of pictures for a burst, at most and at least; and for all of them, as far as that goes.
#: On the page a third more.
_MOST, _LEAST, _IN_ALL = 750_000, 200_000, 75_000_000
#: Before a section: its burst's key, and an output, relative to the page, as a URL has it.
_SECTION = re.compile(rb"<!-- kpn section ([0-9a-f]{32}) (\S*) -->\n")
_END = b"<!-- kpn end -->\n"
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Where a section lies.

    Attributes:
        path: of the file.
        start, length: in bytes.
        result: of the burst.
    """

    path: Path
    start: int
    length: int
    result: Result


def check(folder: Path) -> Path:
    """Return the page's path, if nothing else is there.

    Raises:
        KpnError: if something is there that isn't a page of kpn.
    """
    path = folder / NAME
    if os.path.lexists(path) and not is_page_of(path, report_page.PROGRAM):
        raise KpnError(
            f"{path}: is there already, and no report of kpn; move it out of the way, or choose "
            "another folder with -o"
        )
    return path


@dataclass
class Collected:
    """What a process has made of the page.

    Attributes:
        pieces: key of a burst -> its section.
        error: why no more could be written; None if all were.
    """

    pieces: dict[str, Piece] = field(default_factory=dict)
    error: KpnError | None = None


class Sections:
    """Makes the sections of this process's bursts; on disk until `publish`.

    What goes wrong costs pictures, never a burst: it is said in the section, or, if none can
    be written any more, by `publish`.

    Attributes:
        collected: what is made so far.
    """

    def __init__(self, folder: Path, file: Path, planned: int) -> None:
        self.collected = Collected()
        self._folder, self._file = folder, file
        self._budget = budget(planned)
        self._earlier = _index(folder / NAME)
        self._lock = Lock()

    def add(self, computed: Computed, result: Result) -> Result:
        """Make the section of a burst whose outputs are written.

        Returns:
            The result, with the time that this took.
        """
        start = time.monotonic()
        noise = result.noise and result.noise.model
        pictures = _unless_it_fails(
            lambda: report_pictures.make(
                computed.info, computed.reference, computed.denoised.planes, noise, self._budget
            )
        )
        seconds = round(time.monotonic() - start, 3)
        timings = result.timings | {"report": seconds}
        result = replace(result, timings=timings, seconds=round(result.seconds + seconds, 3))
        self._keep(result, pictures)
        return result

    def add_finished(self, result: Result, read: Reader) -> None:
        """Make the section of a burst that was done before, unless the page there has one.

        Of its reference and its DNG; how it was made is known no more.

        Args:
            result: what is there.
            read: reads a file.
        """
        if _key(result, self._folder) in self._earlier:
            return
        if "dng" in result.outputs:
            pictures = _unless_it_fails(lambda: self._of_files(result, read))
        else:
            pictures = "without a DNG among the outputs; --overwrite makes them again"
        self._keep(result, pictures)

    def _of_files(self, result: Result, read: Reader) -> Pictures:
        info, noisy = read(result.reference)
        done, clean = read(result.outputs["dng"])
        if (done.height, done.width) != (info.height, info.width):
            raise KpnError(f"{done.path.name} has another size than {info.path.name}")
        planes = Frame(torch.from_numpy(clean), done.black, done.white).planes()
        reference = Frame(torch.from_numpy(noisy), info.black, info.white)
        return report_pictures.make(info, reference, planes, None, self._budget)

    def _keep(self, result: Result, pictures: Pictures | str) -> None:
        """Write a section to disk, unless that has failed before."""
        key = _key(result, self._folder)
        section = report_section.section(result, pictures, self._folder, key)
        content = b"%s%s\n%s" % (_start(key, result, self._folder), section.encode(), _END)
        with self._lock:  # bursts that were there already come from another thread
            if self.collected.error is not None:
                return
            try:
                start = self._write(content)
            except OSError as error:
                self.collected.error = write_error(self._folder / NAME, error)
            else:
                self.collected.pieces[key] = Piece(self._file, start, len(content), result)

    def _write(self, content: bytes) -> int:
        """Add to the file; return where that begins."""
        with self._file.open("ab") as file:
            start = file.tell()
            file.write(content)
        return start


def budget(planned: int) -> int:
    """Return how many bytes of pictures each of so many bursts may have."""
    return max(min(_MOST, _IN_ALL // max(planned, 1)), _LEAST)


def _unless_it_fails(make: Callable[[], Pictures]) -> Pictures | str:
    """Return pictures, or why there are none."""
    try:
        with memory_as_error():
            return make()
    except KpnError as error:
        return str(error)
    except Exception as error:  # the picture is done and written: its report must not undo that
        return f"{type(error).__name__}: {error}"


@contextmanager
def sections(options: Options, planned: int) -> Iterator[Sections | None]:
    """Collect sections while the block lasts, if a report is wanted.

    Args:
        options: how to denoise.
        planned: bursts in all; of very many, fewer pictures are shown.

    Raises:
        KpnError: if nothing can be written there.
    """
    if not options.report:
        yield None
        return
    make_folder(options.output)
    remove_abandoned(options.output)
    with scratch(options.output / NAME) as file:
        yield Sections(options.output, file, planned)


def publish(
    options: Options,
    results: Sequence[Result],
    failures: Sequence[Failure],
    collected: Sequence[Collected],
    *,
    planned: int,
    seconds: float,
) -> Path:
    """Write the page.

    Args:
        options: how it was denoised.
        results: of all bursts, in order.
        failures: what could not be done.
        collected: what the processes have made.
        planned: bursts there were to do.
        seconds: that it took.

    Raises:
        KpnError: if it can't be written, or something else is there.
    """
    path = check(options.output)
    for part in collected:
        if part.error is not None:
            raise part.error
    pieces = {key: piece for part in collected for key, piece in part.pieces.items()}
    batch = Batch(results, failures, planned, seconds, outputs.now(), budget(planned) < _MOST)
    with atomic(path) as temporary, temporary.open("wb") as page:
        earlier = _index(path)
        page.write(report_page.head(batch, options).encode())
        for number, result in enumerate(results, 1):
            key = _key(result, options.output)
            page.write(report_page.burst_start(number, result.skipped).encode())
            if key in pieces:
                piece = pieces[key]
                _copy(piece.path, piece.start, piece.length, page)
            elif key in earlier:
                _copy(path, *earlier[key][:2], page)
            else:
                page.write(report_section.missing(result, options.output).encode())
            page.write(report_page.burst_end().encode())
        told = {_key(result, options.output) for result in results}
        made = {path for result in results for path in result.outputs.values()}
        # Of other batches, or of this one, if it was interrupted before it came to them.
        others = [
            section
            for key, section in earlier.items()
            if key not in told and section.output not in made and section.output.is_file()
        ]
        for number, section in enumerate(others, len(results) + 1):
            page.write(report_page.burst_start(number, True).encode())
            _copy(path, section.start, section.length, page)
            page.write(report_page.burst_end().encode())
        page.write(report_page.foot().encode())
    return path


def _key(result: Result, folder: Path) -> str:
    """Return what a burst's section is known by: what it is made of, and where it goes."""
    place = [os.path.relpath(path.parent, folder) for path in result.outputs.values()][:1]
    name = os.fsencode("/".join([*place, result.reference.name]))
    return hashlib.sha256(result.fingerprint + name).hexdigest()[:32]


def _start(key: str, result: Result, folder: Path) -> bytes:
    # A URL: no byte of a name ends the comment.
    there = [os.path.relpath(path, folder) for path in result.outputs.values()][:1]
    name = quote(os.fsencode("".join(there))).replace("-", "%2D")
    return b"<!-- kpn section %s %s -->\n" % (key.encode(), name.encode())


class _Earlier(NamedTuple):
    """Where a section of the page lies that is there, and an output of its burst."""

    start: int
    length: int
    output: Path


def _index(path: Path) -> dict[str, _Earlier]:
    """Return the sections of a page; of no page of kpn, none."""
    found: dict[str, _Earlier] = {}
    if not is_page_of(path, report_page.PROGRAM):
        return found
    key, start, position = "", 0, 0
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            if match := _SECTION.fullmatch(line):
                key, start = match[1].decode(), position
                output = path.parent / os.fsdecode(unquote_to_bytes(match[2]))
            position += len(line)
            if line == _END and key:
                found[key] = _Earlier(start, position - start, output)
    return found


def _copy(path: Path, start: int, length: int, page: BinaryIO) -> None:
    parts = _parts(path, start, length)
    while part := next(parts, b""):
        page.write(part)


def _parts(path: Path, start: int, length: int) -> Iterator[bytes]:
    """Read a section; that it is gone is another error than that the page can't be written."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            while length:
                part = file.read(min(length, _AT_ONCE))
                if not part:
                    raise KpnError(f"{path}: has changed while in use; start again")
                yield part
                length -= len(part)
    except OSError as error:
        raise read_error(path, error, "start again") from None
