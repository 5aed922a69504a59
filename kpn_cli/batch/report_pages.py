"""A report of many bursts: an index, and pages with a limited number of bursts each.

The index is `report.html`; the pages and their pictures are in a folder beside it, which is made
anew and takes the place of the old one when it is complete.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..pipeline.options import Options
from ..system.files import atomic, atomic_folder, write_error
from . import report_index, report_page, report_store
from .report_index import Index
from .report_page import ReportFacts
from .report_store import PAGE_NAME, PAGES, PICTURES, Entry

#: Most bursts of a page; a report of no more is one page with all of its pictures.
BURSTS_OF_A_PAGE = 50
#: Longest sides of a picture in the index, in pixels, and its JPEG quality.
_THUMBNAIL, _QUALITY = (240, 160), 80
_ABANDONED_SECONDS = 24 * 3600
#: The old pages, for the moment in which the new ones take their place.
_ASIDE = ".kpn-report_pages"
#: The picture of the whole result in a section.
_OVERVIEW = re.compile(rb'<figure class="map">\n<img src="(pictures/[^"]+)"')


def write_pages(path: Path, facts: ReportFacts, options: Options, entries: Sequence[Entry]) -> None:
    """Write the index and its pages.

    Args:
        path: of the index.
        facts, options: of the run.
        entries: all bursts of the report, in order.

    Raises:
        KpnError: if a file could not be written, or a section not be read.
    """
    folder = path.parent / PAGES
    _remove_abandoned(path.parent)
    index = Index(len(entries), BURSTS_OF_A_PAGE)
    aside = path.parent / _ASIDE
    try:
        with atomic_folder(folder) as pages:
            for start in range(0, len(entries), BURSTS_OF_A_PAGE):
                _write_page(pages, start, entries, index)
            if report_store.pages_in(path.parent):
                os.replace(folder, aside)
    except BaseException:
        restore_pages(path.parent)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as page:
        page.writelines(report_index.page(facts, options, index))


def restore_pages(folder: Path) -> None:
    """Put the old pages back where a program was killed, or failed, while it replaced them."""
    aside = folder / _ASIDE
    if os.path.lexists(folder / PAGES):
        shutil.rmtree(aside, ignore_errors=True)
    else:
        with suppress(OSError):
            os.replace(aside, folder / PAGES)


def _remove_abandoned(folder: Path) -> None:
    """Remove the unfinished pages of programs that were killed more than a day ago."""
    with suppress(OSError):
        for path in folder.glob(".kpn-" + 12 * "[0-9a-f]"):
            old = time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS
            if old and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def _write_page(pages: Path, start: int, entries: Sequence[Entry], index: Index) -> None:
    number = start // BURSTS_OF_A_PAGE + 1
    some = entries[start : start + BURSTS_OF_A_PAGE]
    path = pages / PAGE_NAME.format(number)
    try:
        with path.open("wb") as page:
            page.write(report_index.page_head(number, index).encode())
            for at, entry in enumerate(some, start + 1):
                page.write(report_page.burst_start(at, entry.existed).encode())
                section = report_store.split(entry, pages)
                page.write(section)
                page.write(report_page.burst_end().encode())
                index.add(at, section, _thumbnail(section, entry.key, pages))
            page.write(report_index.page_links(number, index).encode())
            page.write(report_page.foot().encode())
    except OSError as error:
        raise write_error(path, error) from None


def _thumbnail(section: bytes, key: str, pages: Path) -> tuple[str, int, int]:
    """Write a small picture of a burst; return its name in the folder and its size, or ""."""
    match = _OVERVIEW.search(section)
    if match is None:
        return "", 0, 0
    name = f"{PICTURES}/{key[:2]}/{key}-small.jpg"
    try:
        with Image.open(pages / match[1].decode()) as picture:
            picture.draft("RGB", _THUMBNAIL)
            picture.thumbnail(_THUMBNAIL)
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=_QUALITY)
            size = picture.size
    except (OSError, ValueError, Image.DecompressionBombError):  # somebody has changed it
        return "", 0, 0
    (pages / name).write_bytes(content.getvalue())
    return name, *size


def remove_pages(folder: Path) -> None:
    """Remove the pages of an earlier report, after `report.html` no longer leads to them."""
    if report_store.pages_in(folder):
        with suppress(OSError):
            shutil.rmtree(folder / PAGES)
