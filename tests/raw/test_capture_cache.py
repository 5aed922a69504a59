"""What was read from files is kept between runs, and never believed of another file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from kpn_cli.raw import capture_cache
from kpn_cli.raw.capture_cache import CaptureCache
from kpn_cli.raw.info import Capture
from kpn_cli.system.cache import keep_facts, load_facts


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Files that the tests have just written are settled."""
    monkeypatch.setattr(capture_cache, "_SETTLED", -1e9)


def photo(folder: Path, name: str = "a.dng", content: bytes = b"raw") -> tuple[Path, Capture]:
    path = folder / name
    path.write_bytes(content)
    return path, Capture(
        path=path, make="Canikon", model="X1", serial="7", height=64, width=80, iso=800.0,
        exposure_time=0.01, f_number=None, captured=datetime(2026, 5, 6, 12, 0, 0, 50000), number=3,
    )  # fmt: skip


def keep(database: Path, *photos: tuple[Path, Capture]) -> None:
    with CaptureCache(database) as cache:
        for path, capture in photos:
            cache.keep(path, capture, cache.status_before(path))


def found(database: Path, path: Path) -> Capture | None:
    with CaptureCache(database) as cache:
        return cache.find(path)


def test_a_capture_is_found_again_as_it_was(tmp_path):
    path, capture = photo(tmp_path)
    other, by_kpn = photo(tmp_path, "b\udcff.dng")
    by_kpn = replace(by_kpn, captured=None, by_kpn=True)
    keep(tmp_path / "c.sqlite", (path, capture), (other, by_kpn))
    assert found(tmp_path / "c.sqlite", path) == capture
    assert found(tmp_path / "c.sqlite", other) == by_kpn
    assert found(tmp_path / "c.sqlite", tmp_path / "never.dng") is None


def test_a_file_that_changed_in_any_way_is_read_again(tmp_path):
    def larger(path):
        path.write_bytes(b"more")

    def touched(path):
        os.utime(path, (1, 1))

    def replaced(path):  # same size, same time
        times = path.stat()
        path.unlink()
        (path.parent / "another").write_bytes(b"")  # which may take its inode
        path.write_bytes(b"RAW")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    for number, change in enumerate((larger, touched, replaced)):
        path, capture = photo(tmp_path, f"{number}.dng")
        keep(tmp_path / "c.sqlite", (path, capture))
        change(path)
        assert found(tmp_path / "c.sqlite", path) is None, change


@pytest.mark.parametrize("changed", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"])
def test_each_of_size_times_and_inode_tells_another_file(changed, tmp_path, monkeypatch):
    path, capture = photo(tmp_path)
    keep(tmp_path / "c.sqlite", (path, capture))
    names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
    facts = {name: getattr(path.stat(), name) for name in names}
    with CaptureCache(tmp_path / "c.sqlite") as cache:
        status = SimpleNamespace(**facts)
        changed_os = SimpleNamespace(**{**vars(os), "stat": lambda _: status})
        monkeypatch.setattr(capture_cache, "os", changed_os)
        assert cache.find(path) == capture
        status = SimpleNamespace(**facts | {changed: facts[changed] + 1})
        assert cache.find(path) is None


def test_a_file_that_changed_just_now_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(capture_cache, "_SETTLED", 3.0)
    path, capture = photo(tmp_path)
    keep(tmp_path / "c.sqlite", (path, capture))
    assert found(tmp_path / "c.sqlite", path) is None


def test_another_version_of_kpn_reads_again(tmp_path, monkeypatch):
    path, capture = photo(tmp_path)
    keep(tmp_path / "c.sqlite", (path, capture))
    monkeypatch.setattr(capture_cache, "_READER", "0.0.9, LibRaw 0.1")
    assert found(tmp_path / "c.sqlite", path) is None


@pytest.mark.parametrize(
    "content", [b"", b"no database" * 100, "other", "pipe", "folder", "cut", "noise", "rows"]
)
def test_a_cache_that_is_damaged_or_foreign_is_ignored(content, tmp_path):
    path, capture = photo(tmp_path)
    database = tmp_path / "c.sqlite"
    if content == "other":
        with sqlite3.connect(database) as other:
            other.execute("create table mine (name)")
    elif content == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(database)
    elif content == "folder":
        database.mkdir()
    elif content in ("cut", "noise", "rows"):
        keep(database, (path, capture))
        data = database.read_bytes()
        if content == "cut":
            database.write_bytes(data[: len(data) // 2])
        elif content == "noise":
            database.write_bytes(data[:4096] + os.urandom(len(data) - 4096))
        else:
            database.write_bytes(data.replace(b"Canikon", b"Nikanon"))
    elif isinstance(content, bytes):
        database.write_bytes(content)
    before = database.read_bytes() if database.is_file() else b""
    assert found(database, path) is None
    keep(database, (path, capture))
    assert found(database, path) in (None, capture)
    if content in ("other", b"no database" * 100):
        assert database.read_bytes() == before  # it is not ours


def test_a_damaged_cache_is_made_anew(tmp_path):
    path, capture = photo(tmp_path)
    database = tmp_path / "c.sqlite"
    keep(database, (path, capture))
    data = database.read_bytes()
    database.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    for _ in range(2):
        keep(database, (path, capture))
    assert found(database, path) == capture


@pytest.mark.parametrize(
    "damage",
    [
        *("status = null", "status = 5", "facts = null", "check_sum = 'x'"),
        *("facts = x'ff'", "facts = cast(x'ff' as text)"),
    ],
)
def test_a_damaged_row_is_not_believed_and_the_others_are(damage, tmp_path):
    photos = [photo(tmp_path, f"{number}.dng") for number in range(2)]
    keep(tmp_path / "c.sqlite", *photos)
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as database, database:
        database.execute(f"update captures set {damage} where name = ?", (b"0.dng",))
    with CaptureCache(tmp_path / "c.sqlite") as cache:
        assert [cache.find(path) for path, _ in photos] == [None, photos[1][1]]
        assert not cache.problem


def test_no_damaged_bit_ends_a_plan_or_changes_a_capture(tmp_path):
    photos = [photo(tmp_path, f"{number}.dng") for number in range(3)]
    database = tmp_path / "c.sqlite"
    keep(database, *photos)
    data = database.read_bytes()
    used = [at for at, byte in enumerate(data) if byte]
    for number, at in enumerate(used[:: len(used) // 150]):
        damaged = bytearray(data)
        damaged[at] ^= 1 << number % 8
        database.write_bytes(damaged)
        with CaptureCache(database) as cache:
            for path, capture in photos:
                assert cache.find(path) in (None, capture)


def test_a_database_that_lacks_a_column_is_made_anew(tmp_path):
    path, capture = photo(tmp_path)
    database = tmp_path / "c.sqlite"
    keep(database, (path, capture))
    with closing(sqlite3.connect(database)) as damaged, damaged:
        damaged.execute("alter table captures rename column facts to fects")
    assert found(database, path) is None
    keep(database, (path, capture))
    assert found(database, path) == capture


def test_without_a_home_nothing_is_kept(tmp_path, monkeypatch):
    def no_home(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    path, capture = photo(tmp_path)
    for folder in (no_home, lambda *_, **__: Path("~/.cache")):
        monkeypatch.setattr("platformdirs.user_cache_path", folder)
        monkeypatch.chdir(tmp_path)
        with CaptureCache() as cache:
            cache.keep(path, capture, cache.status_before(path))
            assert "set HOME" in cache.problem and cache.find(path) is None
        keep_facts("speed", {"a": 1})
        assert load_facts("speed") == {} and not Path("~").exists()


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("no folder")
    path, capture = photo(tmp_path)
    keep(tmp_path / "file" / "c.sqlite", (path, capture))
    with CaptureCache(tmp_path / "file" / "c.sqlite") as cache:
        assert cache.find(path) is None and cache.problem


def test_two_processes_keep_at_once(tmp_path):
    photos = [photo(tmp_path, f"{number}.dng") for number in range(4)]
    database = tmp_path / "c.sqlite"
    with CaptureCache(database) as one, CaptureCache(database) as other:
        for number, (path, capture) in enumerate(photos):
            cache = (one, other)[number % 2]
            cache.keep(path, capture, cache.status_before(path))
    assert [found(database, path) for path, _ in photos] == [capture for _, capture in photos]


def test_a_locked_cache_is_not_waited_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(capture_cache, "_WAIT", 0.01)
    path, capture = photo(tmp_path)
    database = tmp_path / "c.sqlite"
    keep(database)
    locked = sqlite3.connect(database, isolation_level=None)
    locked.execute("begin exclusive")
    keep(database, (path, capture))
    assert found(database, path) is None
    locked.close()
    keep(database, (path, capture))
    assert found(database, path) == capture


def test_captures_are_found_while_another_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(capture_cache, "_WAIT", 0.01)
    path, capture = photo(tmp_path)
    database = tmp_path / "c.sqlite"
    keep(database, (path, capture))
    monkeypatch.setattr(capture_cache, "_RENEWED", -1)  # its folder's time of use is written
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("begin immediate")
        assert found(database, path) == capture


def test_a_folder_that_is_used_stays(tmp_path, monkeypatch):
    database = tmp_path / "c.sqlite"
    photos = []
    now = capture_cache.time.time()
    for age, name in ((9e6, "a"), (8e6, "b")):
        (tmp_path / name).mkdir()
        photos.append([photo(tmp_path / name, f"{number:03d}.dng") for number in range(300)])
        monkeypatch.setattr(capture_cache.time, "time", lambda age=age: now - age)
        keep(database, *photos[-1])
    monkeypatch.setattr(capture_cache.time, "time", lambda: now)
    assert found(database, photos[0][0][0])
    monkeypatch.setattr(capture_cache, "_MAX_BYTES", int(0.9 * database.stat().st_size))
    keep(database)
    assert [found(database, each[0][0]) is None for each in photos] == [False, True]


def test_the_folders_that_were_not_used_for_long_are_dropped(tmp_path, monkeypatch):
    database = tmp_path / "c.sqlite"
    photos = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        photos.append([photo(tmp_path / name, f"{number:03d}.dng") for number in range(300)])
    now = capture_cache.time.time()
    for age, each in zip((9e6, 0), photos, strict=True):
        monkeypatch.setattr(capture_cache.time, "time", lambda age=age: now - age)
        keep(database, *each)
    size = database.stat().st_size
    monkeypatch.setattr(capture_cache, "_MAX_BYTES", int(0.9 * size))
    keep(database, photos[1][0])
    assert found(database, photos[0][0][0]) is None
    assert found(database, photos[1][0][0]) == photos[1][0][1]
    assert database.stat().st_size < 0.7 * size  # and the disk has its space again


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_nobody_else_may_read_the_cache(tmp_path):
    keep(tmp_path / "c.sqlite", photo(tmp_path))
    assert (tmp_path / "c.sqlite").stat().st_mode & 0o077 == 0
