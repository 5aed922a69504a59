"""Finds raw files: those that a user names, and those in and below folders."""

from __future__ import annotations

import os
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """Raw files of one folder that were found together; attributes as those of `FoundRaw`.

    Attributes:
        folder: as a user would name it.
        names: of its files, in order.
        subfolder, explicit: of all of them.
    """

    folder: Path
    names: list[str]
    subfolder: Path
    explicit: bool

    def files(self) -> Iterator[FoundRaw]:
        """Yield the files."""
        for name in self.names:
            yield FoundRaw(self.folder / name, self.subfolder, self.explicit)


class RealPaths:
    """The real places of files that were found, without links: names by folder.

    Each file is one however it is named, and a folder is resolved once for all of its files.

    Attributes:
        names: real folder -> the names of the files in it.
    """

    def __init__(self) -> None:
        self.names: dict[str, set[str]] = {}
        self._real: dict[str, str] = {}

    def place(self, folder: str, name: str, *, is_link: bool) -> tuple[str, str]:
        """Return the real folder and name of a file.

        Args:
            folder: where it was found.
            name: in that folder.
            is_link: whether it is a symbolic link itself.
        """
        if is_link:
            real = os.path.realpath(os.path.join(folder, name))
            return os.path.dirname(real), os.path.basename(real)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder], name

    def add(self, folder: str, name: str, *, is_link: bool) -> bool:
        """Add a file; return whether it is new. The arguments are those of `place`."""
        real, name = self.place(folder, name, is_link=is_link)
        names = self.names.setdefault(os.path.normcase(real), set())
        before = len(names)
        names.add(os.path.normcase(name))
        return len(names) > before

    def discard(self, folder: str, name: str) -> None:
        """Forget a file."""
        place = self.place(folder, name, is_link=os.path.islink(os.path.join(folder, name)))
        real, name = map(os.path.normcase, place)
        self.names.get(real, set()).discard(name)


def find_raws_below(paths: Sequence[Path]) -> tuple[list[FoundRaw], dict[Path, KpnError]]:
    """Return the raw files among `paths` and anywhere below folders, each once.

    Outputs of kpn too: only their tags tell them from frames, and tags are read once, later.
    Links to folders are followed, but no folder is entered twice. Hidden folders are skipped.

    Returns:
        The files in order; and the paths that cannot be read or have no raw files, each with
        the error.
    """
    folders, errors = find_folders_below(paths, RealPaths())
    return [file for found in folders for file in found.files()], errors


def find_folders_below(
    paths: Sequence[Path], real: RealPaths
) -> tuple[list[FoundFolder], dict[Path, KpnError]]:
    """Return what `find_raws_below` does, by folder; the files are added to `real`."""
    found: list[FoundFolder] = []
    errors: dict[Path, KpnError] = {}
    several = sum(os.path.isdir(path) for path in paths) > 1
    for path in paths:
        try:
            if path.is_dir():
                # abspath: "." and ".." have no names.
                top = Path(os.path.basename(os.path.abspath(path))) if several else Path()
                found += _found_below(path, top, real, errors)
            else:
                path.stat()
                _add_named(path, found, real)
        except KpnError as error:
            errors[path] = error
        except (OSError, RuntimeError, ValueError) as error:
            errors[path] = _unreadable(path, error)
    return found, errors


def _found_below(
    path: Path, top: Path, real: RealPaths, errors: dict[Path, KpnError]
) -> Iterator[FoundFolder]:
    """Yield the folders with raw files that are new, below a folder that the user named.

    Raises:
        KpnError: if there are no raw files, and no errors that say why.
    """
    before, empty = len(errors), True
    for folder in _folders(path, errors):
        inside = _names_in(folder, errors)
        empty = empty and not inside
        new = [name for name, link in inside if real.add(str(folder), name, is_link=link)]
        if new:
            yield FoundFolder(folder, new, top / folder.relative_to(path), explicit=False)
    if empty and len(errors) == before:
        there = _instead(folders_below(path))
        raise KpnError(f"{path}: no raw files below this folder ({there})")


def _add_named(path: Path, found: list[FoundFolder], real: RealPaths) -> None:
    """Add a file that the user named, unless it is known; to the last folder if it is in it."""
    # Windows has several names for a file, which only its real path tells.
    is_link = os.name == "nt" or path.is_symlink()
    if not real.add(str(path.parent), path.name, is_link=is_link):
        return
    if found and found[-1].explicit and found[-1].folder == path.parent:
        found[-1].names.append(path.name)
    else:
        found.append(FoundFolder(path.parent, [path.name], Path(), explicit=True))


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
    return [folder / name for name, _ in _names_in(folder, errors)]


def _names_in(folder: Path, errors: dict[Path, KpnError]) -> list[tuple[str, bool]]:
    """Return the raw files of a folder in order: their names, and whether each is a link.

    What cannot be reached is added to `errors`.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            inside = sorted((e for e in entries if _has_raw_name(e.name)), key=_sort_key)
    except OSError as error:
        errors[folder] = _unreadable(folder, error)
        return []
    for entry in inside:
        try:
            link = entry.is_symlink()
            if link:
                os.stat(entry.path)  # which a link to nothing fails, or a loop of links
            # A pipe or device with a raw file's name is refused when it is read.
            if not entry.is_dir():
                found.append((entry.name, link))
        except (OSError, RuntimeError) as error:
            errors[folder / entry.name] = _unreadable(folder / entry.name, error)
    return found


def _has_raw_name(name: str) -> bool:
    # Hidden files are temporary files of other programs, or macOS's "._" companions.
    return os.path.splitext(name)[1].lower() in RAW_SUFFIXES and not name.startswith(".")


def _sort_key(entry: os.DirEntry[str]) -> str:
    return os.path.normcase(entry.name)
