"""Faults of kpn itself, which must never be taken for faults of the user's files."""

from __future__ import annotations

import traceback
from pathlib import Path

from .. import __version__
from ..errors import BugError, printable
from . import versions

#: The folder of the package.
_PACKAGE = Path(__file__).parents[1]


def bug(error: Exception, doing: str = "") -> BugError:
    """Return the error to raise, or to list for a burst, instead of an exception nobody expects.

    Args:
        error: that was raised; its traceback tells the place.
        doing: what kpn was doing: "reading IMG_0412.dng".
    """
    what = f"{type(error).__name__} in {place(error)}"
    if text := " ".join(str(error).split()):
        what += f": {text}"
    during = f" while {doing}" if doing else ""
    if old := versions.too_old():
        remedy = f"{', '.join(old)} is too old, install kpn again"
    elif isinstance(error, ImportError):
        remedy = "install kpn again, and report this if that does not help"
    else:
        remedy = "please report this"
    return BugError(printable(f"kpn has failed{during}; {remedy}: {what} (kpn {__version__})"))


def place(error: BaseException) -> str:
    """Return the place in kpn that an exception came through last: "raw/reader.py, line 85".

    "a library" if it did not come through kpn.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_own(frame.filename):
            where = Path(frame.filename).relative_to(_PACKAGE.parent).as_posix()
            return f"{where}, line {frame.lineno}"
    return "a library"


def is_own(error: BaseException) -> bool:
    """Whether code of kpn raised an exception, instead of a library that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _is_own(frames[-1].filename)


def _is_own(filename: str) -> bool:
    return Path(filename).is_relative_to(_PACKAGE)
