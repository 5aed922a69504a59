"""Files appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from kpn_cli.errors import KpnError
from kpn_cli.system import files as system_files
from kpn_cli.system.files import atomic


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
