"""Files -> a burst: frames that belong together, and which of them is the reference."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import KpnError, read_error
from .raw import RawInfo

#: Suffixes of raw formats that LibRaw reads, for finding them in folders.
RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef"),
        *("mos", "mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf"),
        *("srw", "x3f"),
    )
)

#: What has to be the same in all frames, in the words of a message.
_SAME: tuple[tuple[str, Callable[[RawInfo], object]], ...] = (
    ("camera", lambda info: f"{info.make} {info.model}".strip() or "unknown"),
    ("size", lambda info: f"{info.width}x{info.height}"),
    ("CFA phase", lambda info: info.phase),
    ("ISO", lambda info: info.iso),
    ("exposure time", lambda info: info.exposure_time),
    ("aperture", lambda info: info.f_number),
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


def sort_by_time(infos: Sequence[RawInfo]) -> list[RawInfo]:
    """Sort frames by capture time; by name where times are equal or missing."""
    timed = all(info.captured for info in infos)
    return sorted(infos, key=lambda i: (i.captured if timed else 0, i.path.name, str(i.path)))


def check_same(infos: Sequence[RawInfo]) -> None:
    """Check that frames are of one camera, size and exposure.

    Raises:
        KpnError: naming the odd file and what is odd about it.
    """
    for name, read in _SAME:
        values = Counter(read(info) for info in infos)
        if len(values) == 1:
            continue
        usual, _ = values.most_common(1)[0]
        odd = next(info for info in infos if read(info) != usual)
        normal = next(info for info in infos if read(info) == usual)
        raise KpnError(
            f"{odd.path.name}: {name} {_show(read(odd))}, but {normal.path.name} has "
            f"{_show(usual)}; pass the frames of one burst only"
        )


def _show(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def sharpness(planes: np.ndarray) -> float:
    """Return how sharp a frame is, against others of its burst.

    The mean square of second differences of the green planes on every second
    cell: noise adds the same to all frames of a burst, blur takes from one.

    Args:
        planes: `(4, height, width)`, DN or linear.
    """
    green = planes[1].astype(np.float32)[::2, ::2] + planes[2].astype(np.float32)[::2, ::2]
    return float(sum(np.square(np.diff(green, 2, axis)).mean() for axis in (0, 1) if
                     green.shape[axis] > 2))  # fmt: skip


def pick_reference(wanted: str, infos: Sequence[RawInfo], sharp: Sequence[float]) -> int:
    """Return the index of the reference frame.

    Args:
        wanted: `auto` (the sharpest of the middle half), `first`, an index from 0 in
            order of time, or a file's name or path.
        infos: the frames in order of time.
        sharp: their `sharpness`.

    Raises:
        KpnError: if there is no such frame, or more than one.
    """
    if wanted == "auto":
        # The middle half: its frames have the shortest way to all others.
        quarter = len(infos) // 4
        middle = range(quarter, len(infos) - quarter)
        return max(middle, key=lambda index: sharp[index])
    if wanted == "first":
        return 0
    names = [info.path.name for info in infos]
    same = [n for n, info in enumerate(infos) if wanted in (info.path.name, str(info.path))]
    if len(same) == 1:
        return same[0]
    if same:
        raise KpnError(f"--reference {wanted}: there are {len(same)} of that name; give its index")
    if wanted.isdecimal() and int(wanted) < len(infos):
        return int(wanted)
    raise KpnError(
        f"--reference {wanted}: no such frame; give auto, first, 0 to {len(infos) - 1}, or one of "
        f"{', '.join(names[:8])}"
    )
