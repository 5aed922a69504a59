"""Files that appear whole under their name or not at all, and locks against other processes.

No library does all of this: the temporary file stands beside the target, is locked while it is
written, has ordinary permissions and reaches the disk before the rename.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import KpnError, TakenError, read_error, reason_of
from .names import long_path_advice, problem_on_windows

fcntl: Any
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

#: Whether the system has Windows's file names and locks.
_WINDOWS = os.name == "nt"
_PREFIX = ".kpn-"
#: Lock of a folder where folders themselves cannot be locked. It is no temporary file.
_FOLDER_LOCK = ".kpn.lock"
_TEMPORARY = re.compile(r"\.kpn-[0-9a-f]{12}")
_ABANDONED_SECONDS = 24 * 3600

_NO_SPACE = "Free some space, or choose another folder."
_NO_PERMISSION = "Choose a folder you may write to."

#: errno -> what the user can do about it.
_ADVICE = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "Choose a folder on a disk that takes files of this size.",
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: _NO_PERMISSION,
    errno.ENOENT: "Create the folder, or choose another one.",
    errno.ENOTDIR: "Choose an output that is a folder, not a file.",
    errno.EISDIR: "Move the folder of that name out of the way.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
#: Windows's codes for a file that another program has open: access denied, sharing and lock
#: violation. https://learn.microsoft.com/windows/win32/debug/system-error-codes--0-499-
_IN_USE = (5, 32, 33)
_CLOSE_PROGRAM = "Close the program that has it open, or choose another folder."
#: Seconds between tries to rename: scanners for viruses open new files for a moment.
_RENAME_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)
#: Seconds between tries to lock a folder.
_LOCK_WAIT = 0.05


@contextmanager
def atomic(path: Path | str, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary file to write; rename it to `path` when the block succeeds.

    The temporary file is in the same folder (a rename is atomic only within
    one file system), is hidden, keeps the suffix and has the permissions of the
    file that it replaces, or of any new file. Its bytes reach the disk before
    the rename, so a power cut leaves the old file or the new one. When the
    block raises, Ctrl-C included, the temporary file is removed and an existing
    `path` stays as it was.

    Args:
        path: the file to create or replace; its folder exists.
        replace: whether an existing file may be replaced.

    Yields:
        The temporary path: an empty file to overwrite.

    Raises:
        KpnError: if the file cannot be written (full disk, read-only folder, open in another
            program on Windows, ...), or exists at the end of the block and may not be replaced.
    """
    path = Path(path)
    _check_name(path)
    temporary, lock = _create(path)
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        if replace:
            with suppress(OSError):  # there is no such file, or it belongs to another user
                shutil.copymode(path, temporary)
            _rename(temporary, path)
        else:
            _publish(temporary, path)
        if os.name == "posix":  # Windows has no handle of a folder to flush
            _flush(path.parent, os.O_RDONLY)
    except OSError as error:
        if _is_about(error, temporary, path):
            raise write_error(path, error) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def _create(path: Path, blamed: Path | None = None) -> tuple[Path, int | None]:
    """Create a temporary file beside `path` and lock it; errors name `path`, or what is `blamed`.

    Returns:
        Its path, and the descriptor that holds the lock; None on systems without locks.

    Raises:
        KpnError: if it cannot be created.
    """
    while True:
        # Short, so that a name near the limit of the file system still has a temporary one.
        temporary = path.parent / f"{_PREFIX}{secrets.token_hex(6)}{path.suffix}"
        # Not tempfile: its files are private (0600), and the rename would keep that.
        try:
            lock = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except OSError as error:
            raise write_error(blamed or path, error) from error
        if fcntl is None:  # Windows does not remove files that are open, anyway
            os.close(lock)
            return temporary, None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if temporary.exists():
                return temporary, lock
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            return temporary, lock
        # Another process's `remove_abandoned` removed it between the creation and the lock.
        os.close(lock)


def _check_name(path: Path) -> None:
    """Refuse a name that Windows would take for something else.

    Raises:
        KpnError: on Windows, if it would.
    """
    problem = problem_on_windows(path) if _WINDOWS else ""
    if problem:
        raise KpnError(f"{path}: cannot be written: {problem}. Choose another name.")


def _rename(source: Path, target: Path) -> None:
    """Rename a file or folder, over an existing file; on Windows, wait for a scanner to close it.

    Raises:
        OSError: if that fails.
    """
    for wait in _RENAME_WAITS if _WINDOWS else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(wait)
    os.replace(source, target)


def _publish(temporary: Path, path: Path) -> None:
    """Rename a file to a name that must be free, with no gap for another process to take it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise TakenError(
            f"{path}: already exists: another process has just written it. "
            "Start again, or choose another folder."
        ) from None
    except OSError:  # file systems without hard links, such as those of cards
        if os.path.lexists(path):
            raise TakenError(
                f"{path}: already exists: another process has just written it. Start again."
            ) from None
        _rename(temporary, path)


@contextmanager
def scratch_file(path: Path) -> Iterator[Path]:
    """Yield an empty hidden file beside `path`, which is removed when the block ends.

    An error names the folder: the user knows of no such file.

    If the program is killed, `remove_abandoned` removes the file later.

    Raises:
        KpnError: if it cannot be created.
    """
    temporary, lock = _create(path, path.parent)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to `path` when the block succeeds.

    Args:
        path: the folder to create; nothing of that name exists.

    Raises:
        KpnError: if it cannot be written.
    """
    _check_name(path)
    temporary = path.parent / f"{_PREFIX}{secrets.token_hex(6)}"
    try:
        temporary.mkdir()
        yield temporary
        _rename(temporary, path)
        if os.name == "posix":
            _flush(path.parent, os.O_RDONLY)
    except OSError as error:
        raise write_error(path, error) from error
    except KpnError as error:  # about a file inside: name it by its final path
        raise KpnError(str(error).replace(str(temporary), str(path))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents unless they exist.

    Raises:
        KpnError: if it cannot be made.
    """
    _check_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from None


@contextmanager
def lock_folder(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Lock an existing folder against other kpn processes while the block lasts.

    Without effect on file systems that have no locks. Windows cannot lock a folder: there, a file
    in it is locked.

    Args:
        folder: to lock.
        wait: for how many seconds to wait for another process.

    Raises:
        KpnError: if another process holds the lock, or the folder or the file cannot be opened.
    """
    if fcntl is None:
        with _locked_by_file(folder, wait):
            yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise write_error(folder, error) from None
    try:
        _lock(descriptor, folder, wait)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, wait: float) -> None:
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise _at_work(folder) from None
            time.sleep(_LOCK_WAIT)
        except OSError:  # some network file systems
            return


@contextmanager
def _locked_by_file(folder: Path, wait: float) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _FOLDER_LOCK)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise _at_work(folder) from None
    except NotImplementedError:  # a file system without locks
        pass
    except OSError as error:
        raise write_error(folder / _FOLDER_LOCK, error) from None
    try:
        yield
    finally:
        lock.release()


def _at_work(folder: Path) -> KpnError:
    return KpnError(
        f"{folder}: another kpn is at work there; wait for it, or choose another folder"
    )


def remove_temporaries(folder: Path) -> None:
    """Remove all temporary files and folders of kpn, from a folder that only this process uses."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of killed programs, from a folder that others may be using.

    A process locks the file it writes. Without locks, a file is abandoned after a day.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.stem) and path.is_file() and not path.is_symlink():
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        if fcntl is not None:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()  # while it is locked: `_create` checks that it still exists
                return
            except BlockingIOError:
                return
            except OSError:  # a file system without locks
                pass
            finally:
                os.close(descriptor)
        if _now_at(path.parent) - path.stat().st_mtime > _ABANDONED_SECONDS:
            path.unlink()


def _now_at(folder: Path) -> float:
    """Return the time by the clock that stamps the files of a folder: a server's may differ."""
    with tempfile.TemporaryFile(dir=folder, prefix=_PREFIX) as file:
        return os.fstat(file.fileno()).st_mtime


def check_no_pipe(path: Path, remedy: str = "check it") -> None:
    """Check that opening a file to read does not wait for ever, nor reads without end.

    Paths that do not exist and folders pass: opening them fails at once, with a reason.

    Args:
        path: to be read.
        remedy: what to do next if it is refused.

    Raises:
        KpnError: if it is a pipe, a socket or a device, or not to be reached.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise read_error(path, OSError(), remedy, otherwise="not a regular file")
    except (OSError, ValueError) as error:
        raise read_error(path, error, remedy) from None


def write_error(path: Path, error: OSError) -> KpnError:
    """Return the error to raise when writing `path` failed: file, reason, what to do next."""
    advice = _ADVICE.get(error.errno or 0, "Check the disk, or choose another folder.")
    if getattr(error, "winerror", None) in _IN_USE:
        advice = _CLOSE_PROGRAM
    elif _WINDOWS and error.errno in (errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG):
        advice = long_path_advice(os.path.abspath(path)) or advice
    elif error.errno == errno.EINVAL and problem_on_windows(path.name):
        # The file systems of cards and of Windows's disks have its rules on other systems too.
        advice = (
            f"Choose another name, or a folder on another disk: {problem_on_windows(path.name)}."
        )
    return KpnError(f"{path}: cannot be written: {reason_of(error)}. {advice}")


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush; the data is as safe there as it gets.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _is_about(error: OSError, temporary: Path, path: Path) -> bool:
    """Whether the error is about the output, not about another file that the block reads."""
    names = (temporary, path, path.parent)
    return error.filename is None or Path(os.fsdecode(error.filename)) in names
