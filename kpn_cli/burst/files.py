"""Finds raw files: those that a user names, and those in and below folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import KpnError, read_error
from ..raw.results import is_result
from . import other_files

#: Suffixes of the raw formats that LibRaw reads, by which files in folders are found.
RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef"),
        *("mos", "mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf"),
        *("srw", "x3f"),
    )
)


def find_raws(paths: Sequence[Path]) -> list[Path]:
    """Return the raw files among `paths` and directly inside folders, each once.

    Of a folder, only files with a raw suffix that are no outputs of kpn; a file that is named,
    whatever it is.

    Raises:
        KpnError: if a path does not exist, a folder holds no raw files, or a raw file in it cannot
            be reached (a link to nothing).
    """
    found: dict[Path, Path] = {}
    for path in paths:
        try:
            inside = _raws_at(path)
            # Once: a frame twice in a burst would have the same noise twice.
            found |= {p.resolve(): p for p in inside if p.resolve() not in found}
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            raise _unreadable(path, error) from None
    return list(found.values())


def _raws_at(path: Path) -> list[Path]:
    if not path.is_dir():
        path.stat()
        return [path]
    errors: dict[Path, KpnError] = {}
    inside = [file for file in _raws_in(path, errors) if not is_result(file)]
    for error in errors.values():
        raise error
    if not inside:
        raise KpnError(f"{path}: no raw files in this folder ({_instead([path])})")
    return inside


def _instead(folders: Iterable[Path]) -> str:
    """Return what folders hold in place of raw files, for a message."""
    inside = (path for folder in folders for path in folder.iterdir() if path.is_file())
    there = other_files.counted(inside)
    if not there:
        return "no files there; give another folder"
    return f"{there} there; kpn needs the camera's raw files"


def _unreadable(path: Path, error: Exception) -> KpnError:
    return read_error(path, error, otherwise="a loop of links")


@dataclass(frozen=True)
class FoundRaw:
    """A raw file and where it was found.

    Attributes:
        path: the file.
        subfolder: its folder relative to the folder that the user named, or to that folder's
            parent where the user named several; "." for a file that the user named.
        explicit: whether the user named the file itself.
    """

    path: Path
    subfolder: Path
    explicit: bool


def find_raws_below(paths: Sequence[Path]) -> tuple[list[FoundRaw], dict[Path, KpnError]]:
    """Return the raw files among `paths` and anywhere below folders, each once.

    Outputs of kpn too: only their tags tell them from frames, and tags are read once, later.
    Links to folders are followed, but no folder is entered twice. Hidden folders are skipped.

    Returns:
        The files in order; and the paths that cannot be read or have no raw files, each with
        the error.
    """
    found: dict[Path, FoundRaw] = {}
    errors: dict[Path, KpnError] = {}
    several = sum(os.path.isdir(path) for path in paths) > 1
    for path in paths:
        before = len(errors)
        # abspath: "." and ".." have no names.
        top = Path(os.path.basename(os.path.abspath(path))) if several else Path()
        try:
            if path.is_dir():
                inside = [
                    FoundRaw(file, top / folder.relative_to(path), explicit=False)
                    for folder in _folders(path, errors)
                    for file in _raws_in(folder, errors)
                ]
                if not inside and len(errors) == before:
                    there = _instead(folders_below(path))
                    raise KpnError(f"{path}: no raw files below this folder ({there})")
            else:
                path.stat()
                inside = [FoundRaw(path, Path(), explicit=True)]
            for file in inside:
                found.setdefault(file.path.resolve(), file)
        except KpnError as error:
            errors[path] = error
        except (OSError, RuntimeError, ValueError) as error:
            errors[path] = _unreadable(path, error)
    return list(found.values()), errors


def all_raws_below(paths: Sequence[Path]) -> list[Path]:
    """Return the raw files among `paths` and anywhere below folders, each once.

    Raises:
        KpnError: if a path cannot be read, or has no raw files.
    """
    found, errors = find_raws_below(paths)
    for error in errors.values():
        raise error
    return [file.path for file in found]


def folders_below(top: Path) -> Iterator[Path]:
    """Yield a folder and the folders below it, each once, except hidden and unreadable ones."""
    yield from _folders(top, {})


def _folders(top: Path, errors: dict[Path, KpnError]) -> Iterator[Path]:
    """Yield a folder and the folders below it, except hidden ones."""

    def refuse(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename))
        errors[path] = _unreadable(path, error)

    entered = {top.resolve()}
    for folder, below, _ in os.walk(top, onerror=refuse, followlinks=True):
        yield Path(folder)
        targets = {name: Path(folder, name).resolve() for name in sorted(below)}
        # os.walk enters the folders that are left in this list.
        below[:] = [n for n, at in targets.items() if at not in entered and not n.startswith(".")]
        entered |= {targets[name] for name in below}


def _raws_in(folder: Path, errors: dict[Path, KpnError]) -> list[Path]:
    """Return the raw files of a folder in order; add what cannot be reached to `errors`."""
    found = []
    try:
        for path in sorted(filter(_has_raw_name, folder.iterdir())):
            try:
                # A pipe or device with a raw file's name is refused when it is read.
                if not stat.S_ISDIR(path.stat().st_mode):
                    found.append(path)
            except (OSError, RuntimeError) as error:  # a link to nothing, or a loop of links
                errors[path] = _unreadable(path, error)
    except OSError as error:
        errors[folder] = _unreadable(folder, error)
    return found


def _has_raw_name(path: Path) -> bool:
    # Hidden files are temporary files of other programs, or macOS's "._" companions.
    return path.suffix.lower() in RAW_SUFFIXES and not path.name.startswith(".")
