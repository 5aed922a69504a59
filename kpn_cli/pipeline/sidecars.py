"""XMP sidecars: which the reference has, and how those of its result are called.

Two conventions exist (XMP, part 3, section 1.3; the editors' manuals): Adobe's programs read
`IMG.xmp` beside `IMG.NEF`, darktable and digiKam `IMG.NEF.xmp`. A result keeps the convention of
its source. Adobe's programs ignore a sidecar beside a DNG, so the DNG itself has its content, too.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import reason_of
from ..output import xmp
from ..output.xmp import BrokenXmpError
from ..output.xmp_edit import Edit, dng_sidecar
from ..system.files import atomic
from .fingerprint import has_fingerprint

_SUFFIX = ".xmp"


@dataclass(frozen=True)
class Sidecar:
    """A sidecar of the reference.

    Attributes:
        name: key of its result in `choices.SIDECARS`.
        path: the file.
        data: its content; b"" if it cannot be used.
        problem: why it cannot be used; "" otherwise.
    """

    name: str
    path: Path
    data: bytes
    problem: str = ""


def sidecars_of(reference: Path) -> list[Sidecar]:
    """Return the sidecars beside a photo in rising order of precedence.

    Lightroom's goes before darktable's: the content is for Adobe's programs.

    Args:
        reference: the photo. The suffix of a sidecar may be in capitals.
    """
    try:
        folder = reference.parent
        by_stem, by_name = _xmp_files(folder, folder.stat().st_mtime_ns)
    except OSError:
        return []
    stem = _normal(reference.stem)
    named = by_name.get(stem + reference.suffix.casefold()) if reference.suffix else None
    plain = by_stem.get(stem)
    return [
        _read(kind, folder / name) for kind, name in (("dng_xmp", named), ("xmp", plain)) if name
    ]


def _read(kind: str, path: Path) -> Sidecar:
    """Read a sidecar and check that it can be used."""
    try:
        status = path.stat()
        if not path.is_file():  # opening a pipe would wait for ever
            return Sidecar(kind, path, b"", "not a file")
        if status.st_size > xmp.MAX_BYTES:
            return Sidecar(kind, path, b"", f"larger than {xmp.MAX_BYTES >> 20} MB")
        return _checked(kind, path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        return Sidecar(kind, path, b"", f"cannot be read ({reason_of(error)})")


@lru_cache(maxsize=8)
def _checked(kind: str, path: Path, changed: int, size: int) -> Sidecar:
    """Read and parse a file once until it changes."""
    data = path.read_bytes()
    try:
        xmp.parse(data)
    except BrokenXmpError as error:
        return Sidecar(kind, path, b"", str(error))
    return Sidecar(kind, path, data)


def usable_sidecars(reference: Path) -> list[str]:
    """Return which sidecars a denoised DNG gets, as keys of `choices.SIDECARS`.

    Args:
        reference: the photo.
    """
    return [each.name for each in sidecars_of(reference) if not each.problem]


def write_sidecars(
    reference: Path, outputs: dict[str, Path], edit: Edit, *, replace: bool
) -> list[str]:
    """Write the sidecars of a result.

    Args:
        reference: the photo, whose sidecars are read.
        outputs: key of `choices.SIDECARS` -> path; others are not written.
        edit: how the result differs from its source.
        replace: whether existing files may be replaced; those with `edit.unique_id` always are.

    Returns:
        Notes: sidecars that cannot be used.

    Raises:
        KpnError: if a file cannot be written.
    """
    notes = []
    for each in sidecars_of(reference):
        if each.problem:
            notes.append(f"{each.path.name} is left out of the result: {each.problem}")
        elif each.name in outputs:
            data, found = dng_sidecar(each.data, edit)
            notes += [f"{each.path.name}: {note}" for note in found]
            path = outputs[each.name]
            ours = has_fingerprint(path, edit.unique_id)
            with atomic(path, replace=replace or ours) as temporary:
                temporary.write_bytes(data)
    return notes


def sidecar_stems(photos: Collection[Path]) -> Collection[tuple[Path, str]]:
    """Return folder and name, in small letters and without ".xmp", of all sidecars of photos.

    Args:
        photos: resolved.
    """
    return {
        (photo.parent, _normal(name).casefold())
        for photo in photos
        for name in (photo.stem, photo.name)
    }


def is_sidecar_of(path: Path, stems: Collection[tuple[Path, str]]) -> bool:
    """Whether a file would be the sidecar of a photo.

    Args:
        path: resolved.
        stems: from `sidecar_stems` of the photos.
    """
    if path.suffix.casefold() != _SUFFIX:
        return False
    return (path.parent, _normal(path.stem).casefold()) in stems


@lru_cache(maxsize=8)
def _xmp_files(folder: Path, changed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the XMP files of a folder by what their names have before ".xmp".

    Cached, as a plan asks for each photo of a folder.

    Args:
        folder: the folder.
        changed: time of its last change, which makes an older list invalid.

    Returns:
        That part -> name; the same with the suffix in it, such as ".NEF", in small letters.
    """
    by_stem: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for name in sorted(os.listdir(folder), reverse=True):  # ".xmp" before ".XMP"
        part, suffix = os.path.splitext(name)
        if suffix.casefold() == _SUFFIX and not name.startswith("."):
            stem, inner = os.path.splitext(_normal(part))
            by_stem.setdefault(stem + inner, name)
            by_name.setdefault(stem + inner.casefold(), name)
    return by_stem, by_name


def _normal(name: str) -> str:
    """Return a name in one of the forms that Unicode has for it: macOS uses another."""
    return unicodedata.normalize("NFC", name)
