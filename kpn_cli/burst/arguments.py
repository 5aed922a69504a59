"""Files and folders as a user names them: by name, by pattern, or by a list of names.

`@list.txt` is a list of names, `-` is a list on standard input, and a name with `*`, `?` or `[`
that does not exist is a pattern (Windows' shells leave patterns to the programs). A file that is
really named `@x` or `-` is reached as `./@x`.
"""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import KpnError, read_error
from .files import folders_below

#: Bytes of a list at most: names of a million files.
_MAX_LIST = 1 << 28
#: Byte order mark -> encoding (PowerShell's `>` writes UTF-16, Notepad UTF-8 with a mark). The
#: marks of UTF-32 begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: On POSIX, file names are bytes of any encoding.
_UNDECODED = "surrogateescape"


def expand(
    arguments: Sequence[str], read_stdin: Callable[[int], bytes]
) -> tuple[list[Path], dict[Path, KpnError]]:
    """Return the paths that a user's arguments stand for.

    Names in a list are relative to the current folder. A list has a name on each line; blank
    lines and lines that begin with `#` are left out. With NUL characters in it, as `find -print0`
    writes them, it has a name before each, which is taken as it is. The names in a list may be
    patterns.

    Args:
        arguments: as given.
        read_stdin: reads at most so many bytes from standard input.

    Returns:
        The paths in order; an argument that is neither list nor pattern is one whether it exists
        or not. And the patterns that match nothing and the names in lists that do not exist, each
        with the error.

    Raises:
        KpnError: if a list cannot be read.
    """
    found: list[Path] = []
    errors: dict[Path, KpnError] = {}
    for argument in arguments:
        if argument == "-":
            _add_listed("standard input", _decoded("-", read_stdin(_MAX_LIST + 1)), found, errors)
        elif argument.startswith("@"):
            _add_listed(argument, _decoded(argument, _read_list(argument)), found, errors)
        elif _is_pattern(argument):
            matches = _matches(argument)
            if not matches:
                errors[Path(argument)] = KpnError(
                    f"{argument}: no file or folder matches this pattern; check it"
                )
            found += matches
        else:
            found.append(Path(argument))
    return found, errors


def _read_list(argument: str) -> bytes:
    if argument == "@":
        raise KpnError("@: names no list; give @list.txt, or ./@ for a file of that name")
    try:
        with open(argument[1:], "rb") as file:
            return file.read(_MAX_LIST + 1)
    except (OSError, ValueError) as error:
        remedy = f"give a list of file names, or ./{argument} for a file of that name"
        raise read_error(Path(argument), error, remedy) from None


def _decoded(name: str, data: bytes) -> str:
    """Return the text of a list; bytes that are no UTF-8 as the system's file names have them."""
    if len(data) > _MAX_LIST:
        raise KpnError(f"{name}: too large for a list of file names; give a text file")
    encoding = next((code for mark, code in _MARKS if data.startswith(mark)), "")
    mark = next((mark for mark, code in _MARKS if code == encoding), b"")
    if not encoding and b"\n\0" in data and not any(data[1::2]):
        encoding = "utf-16-le"  # without its mark
    try:
        text = data[len(mark) :].decode(encoding or "utf-8", "strict" if encoding else _UNDECODED)
    except UnicodeDecodeError:
        raise KpnError(f"{name}: damaged {encoding.upper()}; save the list as UTF-8") from None
    return text


def _add_listed(name: str, text: str, found: list[Path], errors: dict[Path, KpnError]) -> None:
    """Add the files of a list."""
    exact = "\0" in text
    for number, entry in _exact(text) if exact else _lines(text):
        paths = _listed(entry, exact=exact)
        found += paths
        if not paths:
            where = f"{name}, {'name' if exact else 'line'} {number}"
            if any(ord(letter) < 32 and letter != "\t" for letter in entry):
                raise KpnError(f"{where}: no file name; give a text file with a name on each line")
            errors[Path(entry)] = KpnError(f"{where}: {_problem(entry)}")


def _problem(entry: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in entry):
        return f"no such file: {entry}; if it exists, save the list as UTF-8"
    if glob.has_magic(entry):
        return f"no file or folder matches {entry}; names are relative to the current folder"
    return f"no such file or folder: {entry}; names are relative to the current folder"


def _exact(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each name in a list separated by NUL."""
    yield from ((number, name) for number, name in enumerate(text.split("\0"), 1) if name)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line that is a name."""
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line


def _listed(entry: str, *, exact: bool) -> list[Path]:
    """Return what an entry of a list stands for; nothing if it does not exist."""
    names = [entry]
    if not exact:  # cmd's `echo name >> list` adds a blank, "Copy as path" adds quotes
        bare = entry.strip()
        names += [bare, bare[1:-1] if bare[:1] == bare[-1:] == '"' else bare]
    for name in dict.fromkeys(filter(None, names)):
        if os.path.lexists(name):
            return [Path(name)]
        if not exact and _is_pattern(name) and (matches := _matches(name)):
            return matches
    return []


def _is_pattern(name: str) -> bool:
    return glob.has_magic(name) and not os.path.lexists(name)


def _matches(pattern: str) -> list[Path]:
    """Return what a pattern matches, in order; folders at its start may have brackets in names."""
    path = Path(pattern)
    start = Path(path.anchor)
    parts = list(path.parts[1:] if path.anchor else path.parts)
    while parts and os.path.lexists(start / parts[0]):
        start /= parts.pop(0)
    return list(dict.fromkeys(_below(start, parts)))


def _below(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield what the parts of a pattern match in a folder; hidden files only if they are named."""
    if not parts:
        yield folder
    elif parts[0] != "**":
        inside = glob.glob(parts[0], root_dir=folder)
        for name in sorted(inside):
            yield from _below(folder / name, parts[1:])
    elif len(parts) == 1:
        yield folder  # whose folders are searched anyway
    else:
        for inner in folders_below(folder):  # unlike glob's, which follows loops of links
            yield from _below(inner, parts[1:])
