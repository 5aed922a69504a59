"""Find raw files: those a user names, and those in and below folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import KpnError, read_error

#: Suffixes of raw formats that LibRaw reads, for finding them in folders.
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

    Files are taken as they are named; a folder gives those with a raw suffix.

    Raises:
        KpnError: if a path does not exist, or a folder holds no raw files.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        try:
            inside = _raws_at(path)
            # A frame given twice would be two frames with the same noise.
            found |= {p.resolve(): p for p in inside if p.resolve() not in found}
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            raise _unreadable(path, error) from None
    return list(found.values())


def _raws_at(path: Path) -> list[Path]:
    if not path.is_dir():
        path.stat()
        return [path]
    inside = sorted(p for p in path.iterdir() if _is_raw(p))
    if not inside:
        raise KpnError(f"{path}: no raw files in this folder; give the files, or another")
    return inside


def _unreadable(path: Path, error: Exception) -> KpnError:
    return read_error(path, error, otherwise="a loop of links")


@dataclass(frozen=True)
class Found:
    """A raw file and the folder it was found in.

    Attributes:
        path: the file.
        below: its folder, from the argument that led to it; "." where that names the file. Of
            several folders, each keeps its own name.
        named: whether the user named the file itself.
    """

    path: Path
    below: Path
    named: bool


def find_below(paths: Sequence[Path]) -> tuple[list[Found], dict[Path, KpnError]]:
    """Return the raw files among `paths` and anywhere below folders, each once.

    Links to folders are followed, but no folder is entered twice.

    Returns:
        The files, in order; and the paths that can't be read, or hold no raw files, with why.
    """
    found: dict[Path, Found] = {}
    errors: dict[Path, KpnError] = {}
    several = sum(os.path.isdir(path) for path in paths) > 1
    for path in paths:
        before = len(errors)
        # abspath: "." and ".." have no names.
        own = Path(os.path.basename(os.path.abspath(path))) if several else Path()
        try:
            if path.is_dir():
                inside = [
                    Found(file, own / folder.relative_to(path), False)
                    for folder in _folders(path, errors)
                    for file in _raws_in(folder, errors)
                ]
                if not inside and len(errors) == before:
                    raise KpnError(
                        f"{path}: no raw files below this folder but results of kpn, if any; "
                        "give another"
                    )
            else:
                path.stat()
                inside = [Found(path, Path(), True)]
            for file in inside:
                found.setdefault(file.path.resolve(), file)
        except KpnError as error:
            errors[path] = error
        except (OSError, RuntimeError, ValueError) as error:
            errors[path] = _unreadable(path, error)
    return list(found.values()), errors


def _folders(top: Path, errors: dict[Path, KpnError]) -> Iterator[Path]:
    """A folder and those below it, but hidden ones."""

    def refuse(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename))
        errors[path] = _unreadable(path, error)

    entered = {top.resolve()}
    for folder, below, _ in os.walk(top, onerror=refuse, followlinks=True):
        yield Path(folder)
        places = {name: Path(folder, name).resolve() for name in sorted(below)}
        # What os.walk finds in this list is where it goes.
        below[:] = [n for n, at in places.items() if at not in entered and not n.startswith(".")]
        entered |= {places[name] for name in below}


def _raws_in(folder: Path, errors: dict[Path, KpnError]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _is_raw(path))
    except OSError as error:
        errors[folder] = _unreadable(folder, error)
        return []


def _is_raw(path: Path) -> bool:
    # Hidden files are other programs' temporary ones, and macOS's "._" companions; what
    # kpn itself has written into the folder is no frame of the burst.
    ours = path.name.startswith(".") or path.name.endswith("_kpn.dng")
    return path.suffix.lower() in RAW_SUFFIXES and not ours and path.is_file()
