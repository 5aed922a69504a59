"""The exceptions that users see, and messages that several modules share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

#: Files that a message names before it says how many more there are.
_NAMED_FILES = 9


class KpnError(Exception):
    """An error that the user can fix.

    The message is one line: where (the file or option), what went wrong, and what
    to do next. The command line prints it without a traceback and exits with 1.
    """


class TransientError(KpnError):
    """An error that may not happen on the next try: a crash, a disk that does not answer."""


class BugError(TransientError):
    """A fault of kpn or of its installation, which says nothing about the user's file.

    `system.faults.bug` makes it. A burst that meets it fails; it is not merged without a frame.
    """


class TakenError(KpnError):
    """Another process has just written the file."""


def refuse(path: Path, reason: str, remedy: str) -> NoReturn:
    """Raise the `KpnError` about a raw file, in one line: `name: reason; remedy.`"""
    raise KpnError(f"{printable(path.name or str(path))}: {reason}; {remedy}.") from None


def refuse_unreadable(path: Path, error: Exception) -> NoReturn:
    """Raise the `KpnError` about a raw file that the operating system cannot read."""
    refuse(path, f"cannot be read ({reason_of(error)})", "check the file and its permissions")


def read_error(
    path: Path, error: Exception, remedy: str = "check it", *, otherwise: str = ""
) -> KpnError:
    """Return the error to raise when reading `path` failed: file, reason, what to do next.

    Args:
        path: a file or folder; for raw photos see `refuse_unreadable`.
        error: the exception that reading it raised.
        remedy: what to do next.
        otherwise: the reason to give where the operating system gives none.
    """
    return KpnError(f"{path}: cannot be read ({reason_of(error, otherwise)}); {remedy}")


def wrong_type(argument: str, expected: str, value: object) -> TypeError:
    """Return the error to raise when a caller of the Python API gives a wrong type.

    Args:
        argument: name of the argument.
        expected: what it has to be: "a NoiseModel".
        value: what was given.
    """
    return TypeError(f"{argument} must be {expected}, not {type(value).__name__}")


def reason_of(error: Exception, otherwise: str = "") -> str:
    """Return the reason for an error, on one line.

    The operating system's message; else `otherwise`; else the error's message or type.
    """
    reason = getattr(error, "strerror", None) or otherwise or str(error) or type(error).__name__
    return " ".join(reason.split())


def printable(text: str) -> str:
    r"""Return a text, such as a file's name, on one line: what cannot be shown is escaped.

    A newline becomes `\n`, the byte FF of a name that is no UTF-8 `\xff`. Backslashes stay single:
    on Windows they separate folders.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8, as in PEP 383
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def listed(names: Sequence[str]) -> str:
    """Return names of files for a message: "a, b, c"; of a long list the first, and "12 more"."""
    more = len(names) - _NAMED_FILES
    if more > 1:
        names = [*names[:_NAMED_FILES], f"{more} more"]
    return ", ".join(names)
