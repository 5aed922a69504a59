"""HTML that kpn's two pages share, the batch report and the page of `kpn inspect`.

Names and messages from files may hold anything: `text` and `link` escape them. Pictures are
embedded, so a page is one file. A `generator` tag marks a page as kpn's.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

#: The generator tag is within this many bytes from the beginning of a page.
_HEAD_BYTES = 1024


def text(value: object) -> str:
    """Return the escaped HTML of any text, for elements and quoted attributes.

    Characters that cannot be printed become U+FFFD.
    """
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in str(value)))


def link(path: Path, folder: Path) -> str:
    """Return the URL of a file relative to a page in `folder`, for a quoted attribute."""
    # As bytes: names of files need not be UTF-8.
    relative = os.fsencode(Path(os.path.relpath(path, folder)).as_posix())
    return "./" + quote(relative)


def data_uri(picture: bytes, kind: str) -> str:
    """Return the data URI of a picture, which embeds it in a page.

    Args:
        picture: bytes of the picture file.
        kind: "jpeg" or "png".
    """
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def generator(program: str) -> str:
    """Return the tag that marks a page as made by `program`."""
    return f'<meta name="generator" content="{program}">'


def page_start(program: str, title: str, *, policy: str = "", meta: str = "") -> str:
    """Return a page from its beginning to its title; the caller goes on within `<head>`.

    Args:
        program: for `generator`.
        title: of the page, not escaped.
        policy: Content-Security-Policy; "" for none.
        meta: further tags of the head.
    """
    if policy:
        policy = f'\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{generator(program)}{policy}
<meta name="viewport" content="width=device-width, initial-scale=1">{meta}
<title>{text(title)}</title>
"""


def definitions(rows: Iterable[tuple[str, str]], css_class: str = "facts") -> str:
    """Return a definition list of names and values, both as HTML."""
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return f'<dl class="{css_class}">{items}</dl>'


def is_page_of(path: Path, program: str) -> bool:
    """Whether a file, not a symbolic link, is a page with the `generator` of `program`."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            return generator(program).encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


# --- numbers as text --------------------------------------------------------


def mean(values: Sequence[float]) -> str:
    """Return the mean of a noise model's coefficients with three digits."""
    return f"{sum(values) / len(values):.3g}"


def count(number: int, what: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: "3 frames"."""
    return f"{number} {what}" + "s" * (number != 1)


def duration(seconds: float) -> str:
    """Return a duration in s, min or h and min, rounded for reading."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
