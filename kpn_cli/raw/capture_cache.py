"""Keeps the `Capture` of each file between runs, in the user's folder for caches.

A plan of many thousand files reads the tags of each. The next plan takes them from here if the
file still has the same size, times and inode, and if the same kpn and LibRaw have read it.

The cache is a convenience: where it cannot be read or written, is damaged or is of another
program, files are read as if there were none. It is an SQLite database. Its journal is the
ordinary one: the write-ahead log (WAL) must not be used over a network
(https://www.sqlite.org/wal.html), where many home folders are.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rawpy

from .. import __version__
from ..errors import KpnError
from ..system.cache import cache_folder
from .info import Capture

if TYPE_CHECKING:
    from sqlite3 import Connection

T = TypeVar("T")

_NAME = "captures2.sqlite"
#: Marks a database as this one (https://www.sqlite.org/pragma.html#pragma_application_id): "kpn2".
#: Another layout has another number, and another name of the file.
_APPLICATION = 0x6B706E32
#: Who has read a file: another version may read another time from the same tags.
_READER = f"{__version__}, LibRaw {'.'.join(map(str, rawpy.libraw_version))}, 1"
#: All attributes of a capture but its path.
_FIELDS = tuple(field.name for field in fields(Capture) if field.name != "path")

#: Most bytes of the database: facts of about a million files. When it has more, the folders that
#: were not used for the longest time are dropped, until it has `_KEPT_SHARE` of them.
_MAX_BYTES, _KEPT_SHARE = 256 << 20, 0.75
#: Seconds to wait for another process that writes.
_WAIT = 5.0
#: Files that are written at once: so few that no other process waits for long.
_ROWS = 5000
#: A file is kept when it has not changed for this long, in seconds: a change within the step of
#: a file system's clock (2 s on FAT) would not show in its times.
_SETTLED = 3.0
#: A folder's time of use is renewed after this long, in seconds.
_RENEWED = 24 * 3600

_LAYOUT = """
create table if not exists folders (id integer primary key, path blob unique, used integer);
create table if not exists captures (
    folder integer, name blob, status blob, facts blob, check_sum integer,
    primary key (folder, name)
) without rowid;
"""


class CaptureCache:
    """The captures of earlier runs; use it as a context, or `close` it.

    For one thread. Nothing raises: what cannot be kept or found is read again.

    Attributes:
        problem: why the cache is not used; "" if it is.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open or make the cache.

        Args:
            path: of the database; None for the one in the user's folder for caches.
        """
        self.problem = ""
        self._connection: Connection | None = None
        self._new: list[tuple[bytes, bytes, bytes, bytes]] = []
        self._folder = b""
        self._known: dict[bytes, tuple[bytes, bytes]] = {}
        self._used: list[tuple[int, int]] = []
        self._path = path
        self._try(self._open, None)

    def __enter__(self) -> CaptureCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is new, and close the database."""
        self._write()
        for work in (self._write_used, self._shrink):
            if self._connection is not None:
                self._try(work, None)
        if self._connection is not None:
            self._try(self._connection.close, None)
        self._connection = None

    def find(self, path: Path) -> Capture | None:
        """Return what is known of a file; None if nothing is, or if it has changed.

        The files of one folder are looked up together: ask for them one after the other.
        """
        if self._connection is None:
            return None
        folder = _folder_key(path)
        if not folder:
            return None
        if folder != self._folder:
            self._known = self._try(lambda: self._load(folder), {})
            self._folder = folder
        status, facts = self._known.get(os.fsencode(path.name), (b"", b""))
        return _capture(path, facts) if facts and status == _status(path)[0].encode() else None

    def keep(self, path: Path, capture: Capture, status: str) -> None:
        """Keep what was read from a file.

        Args:
            path: the file.
            capture: what was read.
            status: of the file before it was read, from `status_before`; "" to keep nothing, as of
                what is known already.
        """
        folder = _folder_key(path)
        if self._connection is None or not status or not folder:
            return
        facts = [getattr(capture, name) for name in _FIELDS]
        facts[_FIELDS.index("captured")] = capture.captured and capture.captured.isoformat()
        row = folder, os.fsencode(path.name), status.encode(), json.dumps(facts).encode()
        self._new.append(row)
        if len(self._new) >= _ROWS:
            self._write()

    def status_before(self, path: Path) -> str:
        """Return what tells a file from a changed one; "" if it has changed just now."""
        status, changed = _status(path)
        return status if changed < time.time() - _SETTLED else ""

    def _try(self, work: Callable[[], T], otherwise: T) -> T:
        """Return the result of work on the database; if it fails, use the cache no more."""
        try:
            import sqlite3
        except ImportError as error:  # a Python that was built without it
            self.problem = str(error)
            return otherwise
        try:
            return work()
        except (KpnError, sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as error:
            self.problem = str(error)
            connection, self._connection = self._connection, None
            self._new.clear()
            self._known = {}
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
            # It is ours, and damaged.
            if re.search("malformed|no such (column|table)", str(error)) and self._path is not None:
                with suppress(OSError):
                    self._path.unlink()
            return otherwise

    def _open(self) -> None:
        import sqlite3

        if self._path is None:
            self._path = cache_folder() / _NAME
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(self._path) and not self._path.is_file():
            raise OSError(f"{self._path} is no file")  # opening a pipe would wait for ever
        # Nobody else is to read the names of a user's photos.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)
        self._connection = connection
        connection.text_factory = bytes  # a damaged text need not be UTF-8
        (mark,) = connection.execute("pragma application_id").fetchone()
        if mark != _APPLICATION:
            (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
            if mark or tables:
                raise ValueError(f"{self._path} is a database of another program")
            connection.execute(f"pragma application_id = {_APPLICATION}")
        connection.execute("pragma synchronous = normal")
        connection.executescript(_LAYOUT)

    def _load(self, folder: bytes) -> dict[bytes, tuple[bytes, bytes]]:
        """Return status and facts of a folder's files by name; without damaged rows."""
        connection = self._connection
        if connection is None:
            return {}
        found = connection.execute(
            "select id, used from folders where path = ?", (folder,)
        ).fetchone()
        if found is None:
            return {}
        number, used = found
        if used < time.time() - _RENEWED:
            self._used.append((int(time.time()), number))
        rows = connection.execute(
            "select name, status, facts, check_sum from captures where folder = ?", (number,)
        )
        return {
            name: (status, facts)
            for name, status, facts, check_sum in rows
            if check_sum == _check_sum(folder, name, status, facts)
        }

    def _write_used(self) -> None:
        """Write which folders were used: all at once, for each transaction waits for the disk."""
        if self._connection is not None and self._used:
            self._connection.execute("begin immediate")
            self._connection.executemany("update folders set used = ? where id = ?", self._used)
            self._connection.execute("commit")

    def _write(self) -> None:
        """Write what is new, in one transaction."""
        if self._connection is not None and self._new:
            self._try(self._write_rows, None)
        self._new.clear()

    def _write_rows(self) -> None:
        connection = self._connection
        if connection is None:
            return
        connection.execute("begin immediate")
        now, numbers = int(time.time()), {}
        for folder in dict.fromkeys(row[0] for row in self._new):
            connection.execute(
                "insert into folders (path, used) values (?, ?) "
                "on conflict (path) do update set used = excluded.used",
                (folder, now),
            )
            query = "select id from folders where path = ?"
            (numbers[folder],) = connection.execute(query, (folder,)).fetchone()
        connection.executemany(
            "insert or replace into captures values (?, ?, ?, ?, ?)",
            ((numbers[row[0]], *row[1:], _check_sum(*row)) for row in self._new),
        )
        connection.execute("commit")

    def _shrink(self) -> None:
        """Drop the folders that were not used for the longest time if there is too much."""
        connection = self._connection
        if connection is None or self._bytes(connection) <= _MAX_BYTES:
            return
        connection.execute("begin immediate")
        oldest = connection.execute("select id from folders order by used, id").fetchall()
        for (number,) in oldest:
            if self._bytes(connection) <= _KEPT_SHARE * _MAX_BYTES:
                break
            connection.execute("delete from captures where folder = ?", (number,))
            connection.execute("delete from folders where id = ?", (number,))
        connection.execute("commit")
        connection.execute("vacuum")  # or the file would stay as large as it ever was

    def _bytes(self, connection: Connection) -> int:
        """Return the bytes in use; free pages of the file are used again."""
        size, pages, free = (
            connection.execute(f"pragma {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return int(size * (pages - free))


def _folder_key(path: Path) -> bytes:
    try:
        return os.fsencode(os.path.abspath(path.parent))
    except (OSError, ValueError):  # the current folder was removed
        return b""


def _status(path: Path) -> tuple[str, float]:
    """Return what changes when a file changes, and its last change in seconds; "" without file.

    The inode and the time of the last change of the inode (on Windows, of the creation) tell files
    apart that were replaced by others of the same size and time.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return "", 0.0
    times = found.st_mtime_ns, found.st_ctime_ns
    return f"{found.st_size} {times[0]} {times[1]} {found.st_ino} {_READER}", max(times) / 1e9


def _check_sum(*row: object) -> int:
    """Return a check sum of folder, name, status and facts: a damaged row must not plan a burst.

    -1, which no row has, if damage made something else than bytes of one of them.
    """
    texts = [each for each in row if isinstance(each, bytes)]
    return zlib.crc32(b"\0".join(texts)) if len(texts) == len(row) else -1


def _capture(path: Path, text: bytes) -> Capture | None:
    """Return the capture that is kept as text; None if it is none."""
    try:
        facts: dict[str, Any] = dict(zip(_FIELDS, json.loads(text), strict=True))
        if facts["captured"] is not None:
            facts["captured"] = datetime.fromisoformat(facts["captured"])
        return Capture(path=path, **facts)
    except (ValueError, TypeError):
        return None
