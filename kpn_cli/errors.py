"""The one exception that users see, and the messages that several modules give."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn


class KpnError(Exception):
    """Something the user can fix.

    The message is one line that says what is wrong, where (the file or option)
    and what to do next. The command line prints it without a traceback and
    exits with 1.
    """


class PassingError(KpnError):
    """An error that may be gone the next time: a crash, a disk that doesn't answer."""


def refuse(path: Path, reason: str, remedy: str) -> NoReturn:
    """Raise the one-line `KpnError` of a raw file: `name: reason; remedy.`"""
    name = "".join(c if c.isprintable() else "?" for c in path.name or str(path))
    raise KpnError(f"{name}: {reason}; {remedy}.") from None


def refuse_unreadable(path: Path, error: Exception) -> NoReturn:
    """Raise the `KpnError` of a raw file that the system can't read."""
    refuse(path, f"cannot be read ({reason_of(error)})", "check the file and its permissions")


def read_error(
    path: Path, error: Exception, remedy: str = "check it", *, otherwise: str = ""
) -> KpnError:
    """Return the error to raise when reading `path` failed: file, reason, what to do next.

    Args:
        path: a file or folder that is not a raw photo (see `refuse_unreadable`).
        error: what reading it has raised.
        remedy: what to do next.
        otherwise: the reason to give if the system gives none.
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
    """Return the system's words for an error, on one line; else `otherwise`, else the error's."""
    words = getattr(error, "strerror", None) or otherwise or str(error) or type(error).__name__
    return " ".join(words.split())
