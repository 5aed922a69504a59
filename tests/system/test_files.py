"""Files appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from threading import Event, Thread, Timer

import pytest

from kpn_cli.errors import KpnError
from kpn_cli.system import files as system_files
from kpn_cli.system.files import atomic

needs_locks = pytest.mark.skipif(
    system_files.fcntl is None, reason="the system has no locks that files keep"
)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_under_its_name_and_no_temporary_file_stays(tmp_path):
    with atomic(tmp_path / "a.dng") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "a.dng").read_bytes() == b"new"
    assert entries(tmp_path) == ["a.dng"]


def test_the_temporary_name_is_hidden_unique_and_keeps_folder_and_suffix(tmp_path):
    with atomic(tmp_path / "a.dng") as first, atomic(tmp_path / "a.dng") as second:
        assert first != second
        assert first.parent == tmp_path
        assert first.suffix == ".dng"
        assert first.name.startswith(".")


def test_a_name_at_the_length_limit_can_be_written(tmp_path):
    path = tmp_path / ("x" * 250 + ".dng")
    with atomic(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_the_old_file_and_removes_the_temporary_one(tmp_path, failure):
    path = tmp_path / "a.dng"
    path.write_bytes(b"old")
    with pytest.raises(failure), atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise failure
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == ["a.dng"]


def test_the_file_does_not_exist_before_the_block_ends(tmp_path):
    with atomic(tmp_path / "a.dng") as temporary:
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a.dng").exists()


def test_the_bytes_reach_the_disk_before_the_rename_and_the_name_after(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.fstat(fd).st_mode), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("rename"), replace(*names)))
    with atomic(tmp_path / "a.dng") as temporary:
        temporary.write_bytes(b"new")
    assert calls.index("rename") == 1
    assert stat.S_ISREG(calls[0])
    if os.name == "posix":
        assert stat.S_ISDIR(calls[2])


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with atomic(tmp_path / "a.dng") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "a.dng").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "Free some space"), (errno.EROFS, "you may write to"), (errno.EIO, "Check")],
)
def test_a_disk_error_is_one_line_with_file_reason_and_advice(tmp_path, number, advice):
    path = tmp_path / "a.dng"
    with pytest.raises(KpnError) as caught, atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(number, os.strerror(number))
    message = str(caught.value)
    assert str(path) in message
    assert os.strerror(number) in message
    assert advice in message
    assert "\n" not in message
    assert entries(tmp_path) == []


def test_a_full_disk_at_the_rename_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    def full(*names):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(names[0]), None, str(names[1]))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(KpnError, match="Free some space"), atomic(tmp_path / "a.dng") as temporary:
        temporary.write_bytes(b"new")
    assert entries(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(KpnError, match="Create the folder"), atomic(tmp_path / "no" / "a.dng"):
        pass


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KpnError, match="a folder, not a file"), atomic(tmp_path / "file" / "a"):
        pass


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "a.dng").mkdir()
    with pytest.raises(KpnError, match=r"a\.dng: cannot be written"), atomic(tmp_path / "a.dng"):
        pass
    assert entries(tmp_path) == ["a.dng"]


def test_an_error_without_errno_still_gives_the_reason(tmp_path):
    # numpy's tofile on a full disk raises one like this.
    with pytest.raises(KpnError, match="10 requested and 3 written"), atomic(tmp_path / "a"):
        raise OSError("10 requested\nand 3 written")


def test_an_error_about_another_file_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a.dng"):
        (tmp_path / "input").read_bytes()
    assert entries(tmp_path) == []


@needs_locks
def test_a_file_that_another_process_is_writing_is_not_removed(tmp_path):
    abandoned = tmp_path / ".kpn-0123456789ab.dng"
    abandoned.write_bytes(b"half of it")
    with system_files.atomic(tmp_path / "a.dng") as temporary:
        system_files.remove_abandoned(tmp_path)
        assert not abandoned.exists()
        assert temporary.exists()
        temporary.write_bytes(b"all of it")
        system_files.remove_abandoned(tmp_path)
        assert temporary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.dng"]


@needs_locks
def test_a_temporary_file_removed_as_abandoned_is_created_again(tmp_path, monkeypatch):
    flock, times = system_files.fcntl.flock, []

    def late(descriptor, operation):
        times.append(descriptor)
        if len(times) == 1:  # another process comes between creating and locking
            system_files.remove_abandoned(tmp_path)
        return flock(descriptor, operation)

    monkeypatch.setattr(system_files.fcntl, "flock", late)
    with system_files.atomic(tmp_path / "a.dng") as temporary:
        assert len(times) == 3
        temporary.write_bytes(b"all of it")
    assert (tmp_path / "a.dng").read_bytes() == b"all of it"


def test_only_names_of_temporary_files_are_removed(tmp_path):
    for name in (".kpn-settings", ".kpn-0123456789ab", "kpn-0123456789ab.dng"):
        (tmp_path / name).write_text("mine")
    system_files.remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".kpn-settings", "kpn-0123456789ab.dng"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "private"
    path.write_text("before")
    path.chmod(0o600)
    with atomic(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o600


# --- Windows, simulated ---------------------------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """What differs on Windows in this module: no locks of POSIX, its names, waits for scanners."""
    monkeypatch.setattr(system_files, "fcntl", None)
    monkeypatch.setattr(system_files, "_WINDOWS", True)
    waits: list[float] = []
    monkeypatch.setattr(system_files.time, "sleep", waits.append)
    return waits


def in_use(*names, winerror=5):
    error = PermissionError(errno.EACCES, "Access is denied", str(names[0]))
    error.winerror = winerror  # as Windows has it
    return error


def test_a_file_that_a_scanner_holds_for_a_moment_is_replaced(tmp_path, monkeypatch, windows):
    (tmp_path / "a.dng").write_bytes(b"old")
    replace, tries = os.replace, []

    def busy(source, target):
        tries.append(target)
        if len(tries) < 4:
            raise in_use(source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    with atomic(tmp_path / "a.dng") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "a.dng").read_bytes() == b"new"
    assert len(windows) == 3


@pytest.mark.parametrize("winerror", [5, 32])
def test_a_target_that_is_open_elsewhere_is_one_line_and_stays(
    tmp_path, monkeypatch, windows, winerror
):
    (tmp_path / "a.dng").write_bytes(b"old")

    def busy(*names):
        raise in_use(*names, winerror=winerror)

    monkeypatch.setattr(os, "replace", busy)
    words = r"a\.dng: cannot be written: Access is denied\. Close the program that has it open"
    with pytest.raises(KpnError, match=words), atomic(tmp_path / "a.dng") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "a.dng").read_bytes() == b"old"
    assert entries(tmp_path) == ["a.dng"]
    assert sum(windows) < 2
    folder_error = pytest.raises(KpnError, match="Close the program")
    with folder_error, system_files.atomic_folder(tmp_path / "burst"):
        pass
    assert entries(tmp_path) == ["a.dng"]


def test_without_windows_nothing_is_waited_for(tmp_path, monkeypatch):
    tries = []

    def busy(*names):
        tries.append(names)
        raise in_use(*names)

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(KpnError), atomic(tmp_path / "a.dng"):
        pass
    assert len(tries) == 1


@pytest.mark.parametrize("name", ["12:30.dng", "NUL.dng", "sub./a.dng"])
def test_names_that_windows_takes_for_something_else_are_refused(tmp_path, windows, name):
    with pytest.raises(KpnError, match=r"cannot be written: .*Choose another name"), atomic(name):
        pass
    with pytest.raises(KpnError, match="Choose another name"):
        system_files.make_folder(tmp_path / name)
    assert entries(tmp_path) == []


def test_other_systems_take_names_that_windows_lacks(tmp_path):
    if os.name == "nt":
        pytest.skip("this is Windows")
    with atomic(tmp_path / "12:30.dng") as temporary:
        temporary.write_bytes(b"new")
    assert entries(tmp_path) == ["12:30.dng"]


def test_a_card_that_refuses_a_name_says_which_character(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(KpnError, match="no : in names"), atomic(tmp_path / "12:30.dng"):
        pass


def test_a_path_that_is_too_long_for_windows_says_so(tmp_path, windows, monkeypatch):
    long = tmp_path / ("x" * 240) / "a.dng"
    with pytest.raises(KpnError, match=r"shorter path: .* long paths"), atomic(long):
        pass
    with pytest.raises(KpnError, match="Create the folder"), atomic(tmp_path / "no" / "a.dng"):
        pass


def test_a_folder_is_locked_by_a_file_where_folders_cannot_be(tmp_path, windows):
    with system_files.lock_folder(tmp_path):
        system_files.remove_temporaries(tmp_path)  # leaves the lock
        refused = pytest.raises(KpnError, match="another kpn is at work there")
        with refused, system_files.lock_folder(tmp_path):
            pass
    with system_files.lock_folder(tmp_path):
        pass


def test_a_locked_folder_can_be_waited_for(tmp_path):
    held, free = Event(), Event()

    def hold():
        with system_files.lock_folder(tmp_path):
            held.set()
            free.wait(5)

    holder = Thread(target=hold)
    holder.start()
    held.wait(5)
    refused = pytest.raises(KpnError, match="another kpn is at work there")
    with refused, system_files.lock_folder(tmp_path, wait=0.1):
        pass
    Timer(0.1, free.set).start()
    with system_files.lock_folder(tmp_path, wait=5):
        assert free.is_set()
    holder.join()


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path):
    with pytest.raises(KpnError, match="none: cannot be written"):  # noqa: SIM117
        with system_files.lock_folder(tmp_path / "none"):
            pass


def test_abandoned_files_are_known_by_their_age_without_locks(tmp_path, windows):
    old, new = tmp_path / ".kpn-0123456789ab.dng", tmp_path / ".kpn-0123456789ac.dng"
    for path in (old, new):
        path.write_bytes(b"half of it")
    os.utime(old, (0, 0))
    system_files.remove_abandoned(tmp_path)
    assert entries(tmp_path) == [new.name]
