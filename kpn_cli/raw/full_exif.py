"""Reads the full Exif and the maker's notes of a file with exifread, within bounds.

exifread reads whatever an entry claims, logs what it finds odd, and may raise anything. So it
reads from a `_BoundedFile`, which counts its reads. The command line calls it in the decoder's
process, which is killed after `SECONDS` (`decoder_process.Decoder.camera_notes`). The Python API,
which decodes in its own process too, calls it there; then the bounded file also keeps the time.

exifread takes the notes of some cameras for those of others and then returns nonsense; so it gets
only the notes that it decodes right.
"""

from __future__ import annotations

import logging
import math
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import KpnError
from ..tiff import reader
from ..tiff.fields import Field
from .camera_notes import NAMES, CameraNotes, interpret, lacks_iso, with_camera_notes
from .info import RawInfo
from .tags import Tag

#: Seconds that exifread may take.
SECONDS = 3.0

#: Reads that exifread may make. It reads a MakerNote byte by byte, and some have several hundred
#: thousand bytes. Each read becomes a Python number, so this bounds the memory too.
_MAX_READS = 1_500_000
#: Bytes of one read, and of all: longer texts are cut.
_MAX_TEXT_BYTES = 1 << 16
_MAX_BYTES = 1 << 24
#: Reads between two looks at the clock.
_READS_PER_LOOK = 1024

#: Makers whose notes exifread decodes -> the first bytes of the notes that it decodes right; none
#: where the notes begin with a directory. Of Nikon's, the byte order must be the file's.
_MAKERS = {
    "NIKON": b"Nikon\0\2",
    "OLYMPUS": b"OLYMP\0",
    "FUJIFILM": b"FUJIFILM",
    "SONY": b"",
    "Canon": b"",
}
_NIKON_ORDER_AT = 10
#: Most entries of a directory in notes; a text read as a directory has many more.
_MAX_ENTRIES = 512

#: Tags of the RW2 format in its first directory; in other files the numbers mean other things.
_RW2, _RW2_TAGS = b"IIU\0", {"Image Tag 0x0017", "Image Tag 0x0037"}


class TooMuchError(Exception):
    """A file asks exifread for more reads or more time than it may take."""


class _StoppedError(Exception):
    """exifread has stopped at a damaged file."""


def read_camera_notes(path: Path, seconds: float | None = SECONDS) -> CameraNotes:
    """Return what the full Exif and the maker's notes of a file say.

    Args:
        path: the file, in any format; those without a TIFF tree say nothing.
        seconds: exifread's limit; None in a process that is killed after it.

    Returns:
        The facts. If exifread fails at the maker's notes, those of the standard tags, and a line
        that says so; never an error.
    """
    allowance = _Allowance(math.inf if seconds is None else seconds)
    try:
        return interpret(_read_tags(path, allowance))
    except (KpnError, OSError):  # as the file is read by kpn's own reader
        return failed("the file can't be read any more")
    except TooMuchError as error:
        return failed(str(error))
    except _StoppedError as error:
        found = failed(str(error))
    with suppress(KpnError, OSError, TooMuchError, _StoppedError):
        standard = interpret(_read_tags(path, allowance, with_notes=False))
        return replace(standard, notes=found.notes + standard.notes)
    return found


def complete(info: RawInfo, read: Callable[[Path], CameraNotes] = read_camera_notes) -> RawInfo:
    """Return the facts about a file with its full Exif.

    Args:
        info: of the file, as `reader` returns it.
        read: reads the full Exif of a file.
    """
    return with_camera_notes(info, read(info.path))


def complete_iso(info: RawInfo, read: Callable[[Path], CameraNotes] = read_camera_notes) -> RawInfo:
    """Return the same as `complete` if the ISO is missing in the standard tags, else `info`."""
    return complete(info, read) if lacks_iso(info) else info


def failed(reason: str) -> CameraNotes:
    """Return notes without facts, and the line that says why."""
    return CameraNotes(notes=(f"the maker's notes are left out: {reason}",))


def _read_tags(
    path: Path, allowance: _Allowance, with_notes: bool = True
) -> dict[str, str | tuple[float, ...]]:
    """Return the tags of `camera_notes.NAMES` that a file has, with or without maker's notes."""
    tree = reader.read_tree(path, read_segments=None)
    if tree is None:
        return {}
    with_notes = with_notes and _decodes_notes(tree)
    found: dict[str, Any] = {}
    with open(path, "rb") as file, _silent():
        import exifread  # when it is first needed: `kpn --help` must not wait for it

        file.seek(0)
        foreign = set() if file.read(4) == _RW2 else _RW2_TAGS
        for base in reader.tree_offsets(file):
            bounded = cast(BinaryIO, _BoundedFile(file, base, allowance))
            try:
                tags = exifread.process_file(bounded, details=with_notes, extract_thumbnail=False)
            except TooMuchError:
                raise
            except Exception as error:  # exifread raises any for damaged files
                if error.__traceback__ is None or error.__traceback__.tb_next is None:
                    raise  # by the call: this exifread has no such function or argument
                raise _StoppedError(f"exifread stops with {type(error).__name__}") from None
            for name, tag in tags.items():
                if name not in foreign:
                    found.setdefault(name, tag)
    return {
        name: plain
        for name in NAMES
        # Some files have the Exif tags in their first directory, a CR3 in one of its own.
        for tag in [found.get(name) or found.get(name.replace("EXIF ", "Image "))]
        if (plain := _plain(getattr(tag, "values", None))) is not None
    }


def _decodes_notes(tree: reader.Tree) -> bool:
    """Whether exifread decodes the maker's notes of a file right."""
    fields: dict[int, Field] = {}
    for ifd in reader.walk(tree.ifds):
        fields = {field.code: field for field in ifd} | fields  # those of previews come last
    make = reader.text(fields[Tag.MAKE]) if Tag.MAKE in fields else ""
    note = fields[Tag.MAKER_NOTE].data if Tag.MAKER_NOTE in fields else b""
    heading = next((start for maker, start in _MAKERS.items() if maker in make), None)
    if heading is None or not isinstance(note, bytes):
        return False
    if not heading:
        return _begins_with_directory(note, tree.order)
    if "NIKON" in make and note[_NIKON_ORDER_AT:][:2] != {"<": b"II", ">": b"MM"}[tree.order]:
        return False
    return note.startswith(heading)


def _begins_with_directory(note: bytes, order: str) -> bool:
    if len(note) < 14:
        return False
    count, _, kind = struct.unpack_from(f"{order}3H", note)
    return bool(0 < count <= _MAX_ENTRIES and 1 <= kind <= 13)


def _plain(value: object) -> str | tuple[float, ...] | None:
    """Return a value of exifread as a text or as numbers; None for anything else.

    Fractions without a denominator are nan.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return (float(value),)
    if not isinstance(value, (list, tuple)):
        return None
    try:
        return tuple(map(_number, value))
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> float:
    try:
        return float(value[0] if isinstance(value, tuple) else value)
    except (ZeroDivisionError, OverflowError):
        return math.nan


@contextmanager
def _silent() -> Iterator[None]:
    """Keep exifread's log off the terminal."""
    logger = logging.getLogger("exifread")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class _Allowance:
    """What exifread may still take of a file."""

    def __init__(self, seconds: float) -> None:
        self._reads = _MAX_READS
        self._bytes = _MAX_BYTES
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def spend(self, count: int) -> None:
        """Subtract one read of `count` bytes.

        Raises:
            TooMuchError: if nothing is left.
        """
        self._reads -= 1
        self._bytes -= count
        if self._reads < 0 or self._bytes < 0:
            raise TooMuchError("its tags claim more than any camera writes")
        if self._reads % _READS_PER_LOOK == 0 and time.monotonic() > self._deadline:
            raise TooMuchError(f"exifread has not read its tags within {self._seconds:g} s")


class _BoundedFile:
    """A file from some offset on, for exifread: it only seeks and reads."""

    def __init__(self, file: BinaryIO, base: int, allowance: _Allowance) -> None:
        self._file = file
        self._base = base
        self._spend = allowance.spend

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset."""
        return self._file.seek(offset + self._base if whence == 0 else offset, whence) - self._base

    def tell(self) -> int:
        """Return the offset."""
        return self._file.tell() - self._base

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; at most as many as a text may have."""
        data = self._file.read(size if 0 <= size <= _MAX_TEXT_BYTES else _MAX_TEXT_BYTES)
        self._spend(len(data))
        return data
