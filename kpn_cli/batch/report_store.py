"""The sections of the report's bursts: in the hidden file of a run, and on pages of earlier runs.

A section is HTML between two lines that are comments. It is kept whole, with its pictures as data
URIs and its links relative to the folder of the outputs. On one of several pages, which are in a
folder of their own, its pictures are files, and its links lead there from that folder.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from ..errors import KpnError, read_error
from ..pipeline.result import Result
from .html import data_uri, is_page_of

#: The page, and the program that it names as its generator.
NAME, PROGRAM = "report.html", "kpn report"
#: The folder of several pages beside it, the pages in it, and their pictures.
PAGES, PAGE_NAME, PICTURES = "report_pages", "page-{:04d}.html", "pictures"

#: The line before a section: key of its burst; path of an output relative to the folder of the
#: outputs, as a URL.
_START = re.compile(rb"<!-- kpn section ([0-9a-f]{32}) (\S*) -->\n")
END = b"<!-- kpn end -->\n"
#: Pictures and links of a section. No text can be taken for them: in text, quotes are escaped.
_EMBEDDED = re.compile(rb' src="data:image/jpeg;base64,([A-Za-z0-9+/=]*)"')
_FILE = re.compile(rb' src="(pictures/[0-9a-f]{2}/[0-9a-f]{32}-\d+\.jpg)"')
_LINK, _LINK_FROM_PAGES = b' href="./', b' href=".././'


@dataclass(frozen=True, slots=True)
class StoredSection:
    """A finished section in the hidden file.

    Attributes:
        path: the file.
        start, length: of the section, in bytes.
        result: of its burst.
    """

    path: Path
    start: int
    length: int
    result: Result


class ExistingSection(NamedTuple):
    """A section of a page that is being replaced.

    Attributes:
        path: the page.
        start, length: of the section, in bytes.
        output: an output of its burst.
        is_split: whether its pictures are files.
    """

    path: Path
    start: int
    length: int
    output: Path
    is_split: bool


class Entry(NamedTuple):
    """A burst of the report.

    Attributes:
        key: of its section.
        existed: whether its outputs existed before the run.
        section: None if it is lost.
        missing: what stands for a lost section.
    """

    key: str
    existed: bool
    section: StoredSection | ExistingSection | None
    missing: bytes = b""


def start_line(key: str, result: Result, folder: Path) -> bytes:
    """Return the line before a section.

    Args:
        key: of the section, 32 hexadecimal digits.
        result: of its burst.
        folder: of the outputs.
    """
    # As a URL, so that no name of a file can end the HTML comment.
    output = [os.path.relpath(path, folder) for path in result.outputs.values()][:1]
    name = quote(os.fsencode("".join(output))).replace("-", "%2D")
    return b"<!-- kpn section %s %s -->\n" % (key.encode(), name.encode())


def existing_sections(folder: Path) -> dict[str, ExistingSection]:
    """Return the sections of a report by key; {} if there is none.

    Args:
        folder: of the outputs.
    """
    found: dict[str, ExistingSection] = {}
    for page in (folder / NAME, *pages_in(folder)):
        for key, section in _sections_of(page, folder):
            found.setdefault(key, section)
    return found


def pages_in(folder: Path) -> list[Path]:
    """Return the pages beside the index, in order; none if their folder is not kpn's."""
    pages = folder / PAGES
    first = pages / PAGE_NAME.format(1)
    if os.path.islink(pages) or not is_page_of(first, PROGRAM):
        return []
    return sorted(pages.glob(PAGE_NAME.replace("{:04d}", "*")))


def _sections_of(page: Path, folder: Path) -> Iterator[tuple[str, ExistingSection]]:
    if not is_page_of(page, PROGRAM):
        return
    key, start, position = "", 0, 0
    with suppress(OSError), page.open("rb") as file:
        for line in file:
            if match := _START.fullmatch(line):
                key, start = match[1].decode(), position
                output = folder / os.fsdecode(unquote_to_bytes(match[2]))
            position += len(line)
            if line == END and key:
                is_split = page.parent.name == PAGES and page.parent.parent == folder
                yield key, ExistingSection(page, start, position - start, output, is_split)


def whole(entry: Entry) -> bytes:
    """Return a section with its pictures in it.

    Raises:
        KpnError: if it cannot be read.
    """
    section = entry.section
    if section is None:
        return entry.missing
    content = _read(entry.key, section)
    if isinstance(section, StoredSection) or not section.is_split:
        return content
    page = section.path.parent

    def embed(match: re.Match[bytes]) -> bytes:
        try:
            picture = (page / match[1].decode()).read_bytes()
        except OSError:  # somebody has removed it: the page shows its description
            return match[0]
        return f' src="{data_uri(picture, "jpeg")}"'.encode()

    return _FILE.sub(embed, content).replace(_LINK_FROM_PAGES, _LINK)


def split(entry: Entry, pages: Path) -> bytes:
    """Return a section for a page of several; write its pictures.

    Args:
        entry: of the section.
        pages: folder of the page.

    Raises:
        KpnError: if the section cannot be read.
        OSError: if a picture cannot be written.
    """
    section = entry.section
    if section is None:
        return entry.missing
    content = _read(entry.key, section)
    folder = f"{PICTURES}/{entry.key[:2]}"
    (pages / folder).mkdir(parents=True, exist_ok=True)
    if isinstance(section, ExistingSection) and section.is_split:
        for match in _FILE.finditer(content):
            name = match[1].decode()
            with suppress(OSError):  # somebody has removed it
                _take(section.path.parent / name, pages / name)
        return content
    number = 0

    def write(match: re.Match[bytes]) -> bytes:
        nonlocal number
        name = f"{folder}/{entry.key}-{number}.jpg"
        (pages / name).write_bytes(base64.b64decode(match[1]))
        number += 1
        return f' src="{name}"'.encode()

    return _EMBEDDED.sub(write, content).replace(_LINK, _LINK_FROM_PAGES)


def _take(source: Path, target: Path) -> None:
    """Make a file of the old report one of the new, too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # file systems without hard links
        target.write_bytes(source.read_bytes())


def _read(key: str, section: StoredSection | ExistingSection) -> bytes:
    """Return the bytes of a section. An error of reading is not one of writing the page."""
    try:
        with section.path.open("rb") as file:
            file.seek(section.start)
            content = file.read(section.length)
    except OSError as error:
        raise read_error(section.path, error, "start again") from None
    if not content.startswith(b"<!-- kpn section " + key.encode()) or not content.endswith(END):
        raise KpnError(f"{section.path}: has changed while in use; start again")
    return content
