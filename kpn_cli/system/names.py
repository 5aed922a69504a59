"""File names that Windows takes for something else, or cannot hold; the same on every system.

Naming Files, Paths, and Namespaces:
https://learn.microsoft.com/windows/win32/fileio/naming-a-file
"""

from __future__ import annotations

import re
from pathlib import PurePath, PureWindowsPath

#: Longest path without long paths, `MAX_PATH` less the final zero, and the page on them.
_LONGEST_PATH = 259
_LONG_PATHS = "https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation"
#: Length of the longest temporary name that `files` makes in place of the file's.
_TEMPORARY_NAME = 24
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
#: The same, separators of folders, and DEL, which no terminal shows.
_REPLACED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
#: Names of devices, also before a dot: `NUL.dng` writes to nowhere.
_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3]|conin\$|conout\$)", re.I)


def problem_on_windows(path: PurePath | str) -> str:
    r"""Return why Windows cannot hold a file of this path; "" if it can.

    Without this check, `a:b.dng` would be a hidden stream of the file `a`, `NUL.dng` the null
    device, and a final dot or space would be dropped.

    Args:
        path: relative or absolute, with the separators of Windows (`\` and `/`).
    """
    windows_path = PureWindowsPath(path)
    for part in windows_path.parts[bool(windows_path.anchor) :]:
        forbidden = _FORBIDDEN.search(part)
        if forbidden:
            character = forbidden[0] if forbidden[0].isprintable() else "a control character"
            return f"Windows allows no {character} in names"
        if part.strip(".") and part != part.rstrip(". "):
            return f"Windows drops the dot or space at the end of {part!r}"
        device = part.partition(".")[0].rstrip(" ")
        if _DEVICES.fullmatch(device):
            return f"on Windows {device} is a device"
    return ""


def with_dashes(text: str) -> str:
    """Return a text with dashes for the characters that a name cannot have on Windows."""
    return _REPLACED.sub("-", text)


def legal_part(text: str) -> str:
    """Return a text as a file name, or the stem of one, that every usual system can hold.

    As `with_dashes`, and spaces and dots at both ends are dropped, and a device's name gets an
    underscore. The result may be empty.

    Args:
        text: without the ending of the file.
    """
    legal = with_dashes(text).strip(" .")
    device = legal.partition(".")[0].rstrip(" ")
    return f"{device}_{legal[len(device) :]}" if _DEVICES.fullmatch(device) else legal


def long_path_advice(path: PurePath | str) -> str:
    """Return what to do where Windows may have refused a path for its length; "" if it did not.

    Args:
        path: absolute.
    """
    windows_path = PureWindowsPath(path)
    name = max(len(windows_path.name), _TEMPORARY_NAME)
    length = len(str(windows_path)) - len(windows_path.name) + name
    if length <= _LONGEST_PATH:
        return ""
    return (
        f"Choose a folder with a shorter path: this one takes {length} characters, and Windows "
        f"allows {_LONGEST_PATH} unless long paths are enabled ({_LONG_PATHS})."
    )
