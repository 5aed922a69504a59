"""The HTML report: `report.html` in the folder of the outputs, with a section for each burst.

Finished sections are collected in a hidden file beside the page, so memory does not grow with the
number of bursts. At the end they are copied to the page in the order of the plan: of many bursts,
to several pages, whose index `report.html` is (`report_pages`). A burst whose outputs existed
before the run keeps its section from the page that is replaced.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import torch

from ..burst.frame import Frame
from ..errors import KpnError
from ..output.dng_levels import source_white_in_output
from ..pipeline import outputs
from ..pipeline.denoise import Computed
from ..pipeline.loading import Reader
from ..pipeline.options import Options
from ..pipeline.result import Failure, LeftOut, Result
from ..system.faults import bug
from ..system.files import (
    atomic,
    lock_folder,
    make_folder,
    remove_abandoned,
    scratch_file,
    write_error,
)
from ..system.memory import memory_as_error
from . import (
    report_burst,
    report_lines,
    report_page,
    report_pages,
    report_pictures,
    report_store,
)
from .html import is_page_of
from .report_page import ReportFacts
from .report_pictures import Pictures
from .report_store import NAME as NAME
from .report_store import Entry, ExistingSection, StoredSection

#: Limits in bytes of JPEG: most and least for the pictures of a burst; for the pictures of a page,
#: unless the least for each burst is more. On the page, in Base64, they take a third more.
_MAX_BURST_BYTES, _MIN_BURST_BYTES, _MAX_PAGE_BYTES = 750_000, 200_000, 75_000_000
#: For how many seconds to wait while another run writes its report to the folder.
_WAIT = 600.0


def check_path(folder: Path) -> Path:
    """Return the path of the page, after checking that no other file has its name.

    Args:
        folder: folder of the outputs.

    Raises:
        KpnError: if another file has the name of the page, or of what is beside it.
    """
    path = folder / NAME
    others = (
        (path, is_page_of(path, report_page.PROGRAM)),
        (folder / report_store.PAGES, bool(report_store.pages_in(folder))),
        (folder / report_lines.NAME, report_lines.is_ours(folder / report_lines.NAME)),
    )
    for other, is_ours in others:
        if os.path.lexists(other) and not is_ours:
            raise KpnError(
                f"{other}: already exists and is no report of kpn; move it, or choose another "
                "folder with -o"
            )
    return path


@dataclass
class CollectedSections:
    """The sections that one process made.

    Attributes:
        sections: key of a burst -> its section.
        error: why later sections could not be written; None if all were written.
    """

    sections: dict[str, StoredSection] = field(default_factory=dict)
    error: KpnError | None = None


class SectionWriter:
    """Makes the sections of this process's bursts and stores them in a file until `publish`.

    An error never fails a burst. The section shows it instead of pictures; if no section can be
    written any more, `publish` raises it.

    Attributes:
        collected: the sections so far.
    """

    def __init__(self, folder: Path, file: Path, planned: int) -> None:
        self.collected = CollectedSections()
        self._folder, self._file = folder, file
        self._planned = planned
        self._existing = report_store.existing_sections(folder)
        self._lock = Lock()

    def add(self, computed: Computed, result: Result) -> Result:
        """Make the section of a burst whose outputs have just been written.

        Args:
            computed: the burst, with its noisy reference.
            result: of the burst.

        Returns:
            The result, with the time that its section took.
        """
        result, content = made_section(computed, result, self._folder, self._planned)
        self.store(result, content)
        return result

    def add_finished(self, result: Result, read: Reader) -> None:
        """Make the section of a burst whose outputs existed, unless the old page has one.

        Its pictures come from its reference and its DNG. Noise and alignment are not known.

        Args:
            result: of the burst, skipped.
            read: reads a raw file.
        """
        if _key(result, self._folder) in self._existing:
            return
        if "dng" in result.outputs:
            pictures = _pictures_or_reason(lambda: self._pictures_from_files(result, read))
        else:
            pictures = "there is no DNG among the outputs; make them again with --overwrite"
        self.store(result, whole_section(result, pictures, self._folder))

    def _pictures_from_files(self, result: Result, read: Reader) -> Pictures:
        info, noisy = read(result.reference)
        output, clean = read(result.outputs["dng"])
        if (output.height, output.width) != (info.height, info.width):
            raise KpnError(f"{output.path.name} has another size than {info.path.name}")
        white = output.white if info.saturation is None else source_white_in_output(info)
        planes = Frame(torch.from_numpy(clean), output.black, white).planes()
        reference = Frame(torch.from_numpy(noisy), info.black, info.white)
        return report_pictures.make_pictures(
            info, reference, planes, None, picture_budget(self._planned)
        )

    def store(self, result: Result, content: bytes) -> None:
        """Write a section, of `whole_section` to the file, unless writing has failed before."""
        key = _key(result, self._folder)
        with self._lock:  # `add_finished` is called from another thread
            if self.collected.error is not None:
                return
            try:
                start = self._write(content)
            except OSError as error:
                self.collected.error = write_error(self._folder / NAME, error)
            else:
                self.collected.sections[key] = StoredSection(
                    self._file, start, len(content), result
                )

    def _write(self, content: bytes) -> int:
        """Append to the file; return the position where the content begins."""
        with self._file.open("ab") as file:
            start = file.tell()
            file.write(content)
        return start


def made_section(
    computed: Computed, result: Result, folder: Path, planned: int
) -> tuple[Result, bytes]:
    """Make the section of a burst whose outputs have just been written.

    Args:
        computed, result: see `SectionWriter.add`.
        folder: of the page.
        planned: number of bursts of the run.

    Returns:
        The result, with the time that its section took; the section for `SectionWriter.store`.
    """

    def make() -> Pictures:
        noise = None if result.noise is None else result.noise.model
        if computed.reference is None:
            raise KpnError("the noisy reference was not kept")
        return report_pictures.make_pictures(
            computed.info,
            computed.reference,
            computed.denoised.planes,
            noise,
            picture_budget(planned),
        )

    start = time.monotonic()
    pictures = _pictures_or_reason(make)
    seconds = round(time.monotonic() - start, 3)
    timings = result.timings | {"report": seconds}
    result = replace(result, timings=timings, seconds=round(result.seconds + seconds, 3))
    return result, whole_section(result, pictures, folder)


def whole_section(result: Result, pictures: Pictures | str, folder: Path) -> bytes:
    """Return a section for `SectionWriter.store`.

    Args:
        result: of the burst.
        pictures: of the burst, or the reason why there are none.
        folder: of the page.
    """
    key = _key(result, folder)
    section = report_burst.burst_section(result, pictures, folder, key)
    start = report_store.start_line(key, result, folder)
    return b"%s%s\n%s" % (start, section.encode(), report_store.END)


def picture_budget(planned: int) -> int:
    """Return the limit in bytes for the pictures of each of `planned` bursts."""
    return max(min(_MAX_BURST_BYTES, _MAX_PAGE_BYTES // max(planned, 1)), _MIN_BURST_BYTES)


def _pictures_or_reason(make: Callable[[], Pictures]) -> Pictures | str:
    """Return the pictures, or the reason why there are none."""
    try:
        with memory_as_error():
            return make()
    except KpnError as error:
        return str(error)
    except Exception as error:  # the outputs are written: the report must not fail the burst
        return str(bug(error, "drawing the report"))


@contextmanager
def collect_sections(options: Options, planned: int) -> Iterator[SectionWriter]:
    """Collect the sections of a run, within a `with` block.

    Args:
        options: how to denoise.
        planned: number of bursts of all processes; with very many, each gets fewer pictures.

    Yields:
        The writer of sections.

    Raises:
        KpnError: if the folder cannot be written.
    """
    make_folder(options.output)
    remove_abandoned(options.output)
    with scratch_file(options.output / NAME) as file:
        yield SectionWriter(options.output, file, planned)


def publish(
    options: Options,
    results: Sequence[Result],
    failures: Sequence[Failure],
    collected: Sequence[CollectedSections],
    *,
    planned: int,
    seconds: float,
    left_out: Sequence[LeftOut] = (),
) -> Path:
    """Write the list for programs and the page.

    Args:
        options: how the bursts were denoised.
        results: of all bursts, in the order of the plan.
        failures: of bursts and files.
        collected: the sections of each process.
        planned: number of bursts, failures and brackets that are left out included.
        seconds: duration of the run.
        left_out: brackets that are not to be merged, and bursts of few frames.

    Returns:
        The path of the page.

    Raises:
        KpnError: if the page or a section could not be written, or another file has its name.
    """
    folder = options.output
    facts = ReportFacts(
        results,
        failures,
        planned,
        seconds,
        outputs.now(),
        picture_budget(planned) < _MAX_BURST_BYTES,
        left_out,
    )
    with lock_folder(folder, wait=_WAIT):  # other runs keep their reports there, too
        path = check_path(folder)
        report_lines.write_lines(folder, facts)  # first: of a full disk it needs the least
        for part in collected:
            if part.error is not None:
                raise part.error
        _write_pages(path, facts, options, collected)
    return path


def _write_pages(
    path: Path, facts: ReportFacts, options: Options, collected: Sequence[CollectedSections]
) -> None:
    folder = path.parent
    report_pages.restore_pages(folder)
    made = {key: section for part in collected for key, section in part.sections.items()}
    existing = report_store.existing_sections(folder)
    entries = [_entry(result, folder, made, existing) for result in facts.results]
    shown = {entry.key for entry in entries}
    written = {path for result in facts.results for path in result.outputs.values()}
    # Sections of other runs, or of bursts that this run did not reach before an interrupt.
    entries += [
        Entry(key, True, section)
        for key, section in existing.items()
        if key not in shown and section.output not in written and os.path.isfile(section.output)
    ]
    if len(entries) > report_pages.BURSTS_OF_A_PAGE:
        report_pages.write_pages(path, facts, options, entries)
    else:
        _write_page(path, facts, options, entries)
        report_pages.remove_pages(folder)


def _entry(
    result: Result,
    folder: Path,
    made: Mapping[str, StoredSection],
    existing: Mapping[str, ExistingSection],
) -> Entry:
    key = _key(result, folder)
    section = made.get(key) or existing.get(key)
    if result.skipped:  # a section that was made from its files knows less
        section = existing.get(key) or section
    missing = b"" if section else report_burst.missing_section(result, folder).encode()
    return Entry(key, result.skipped, section, missing)


def _write_page(path: Path, facts: ReportFacts, options: Options, entries: Sequence[Entry]) -> None:
    """Write a report of few bursts: one page with all of its pictures."""
    with atomic(path) as temporary, temporary.open("wb") as page:
        page.write(report_page.head(facts, options).encode())
        for number, entry in enumerate(entries, 1):
            page.write(report_page.burst_start(number, entry.existed).encode())
            page.write(report_store.whole(entry))
            page.write(report_page.burst_end().encode())
        page.write(report_page.foot().encode())


def _key(result: Result, folder: Path) -> str:
    """Return the key of a burst's section: a digest of its fingerprint, folder and reference."""
    below = [os.path.relpath(path.parent, folder) for path in result.outputs.values()][:1]
    name = os.fsencode("/".join([*below, result.reference.name]))
    return hashlib.sha256(result.fingerprint + name).hexdigest()[:32]
