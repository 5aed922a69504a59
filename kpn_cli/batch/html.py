"""What kpn's pages of HTML share: escaped text, pictures within a page, and whose page a file is.

What comes from files may hold anything; `text` and `link` make it safe.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

#: A page says within this many bytes what made it.
_BEGINNING = 1024


def text(value: object) -> str:
    """Return HTML that shows a text from anywhere; what can't be shown is a question mark."""
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in str(value)))


def link(path: Path, folder: Path) -> str:
    """Return a link from a page in a folder to a file, for an attribute in quotes."""
    # As bytes: a name need not be UTF-8.
    relative = os.fsencode(Path(os.path.relpath(path, folder)).as_posix())
    return "./" + quote(relative)


def data_uri(picture: bytes, kind: str) -> str:
    """Return a picture, a file's bytes, as an address: the page can be sent around alone.

    Args:
        picture: the bytes.
        kind: "jpeg" or "png".
    """
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def generator(program: str) -> str:
    """Return the tag by which a program's pages are known; it stands near the beginning."""
    return f'<meta name="generator" content="{program}">'


def is_page_of(path: Path, program: str) -> bool:
    """Whether a file is a page with the `generator` of a program: a link is not."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            return generator(program).encode() in file.read(_BEGINNING)
    except OSError:
        return False


def mean(values: Sequence[float]) -> str:
    """Return the mean of a model's coefficients, short."""
    return f"{sum(values) / len(values):.3g}"


def count(number: int, what: str) -> str:
    """Return so many of something."""
    return f"{number} {what}" + "s" * (number != 1)


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
