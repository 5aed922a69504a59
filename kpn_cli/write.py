"""Files appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import KpnError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PREFIX = ".kpn-"
_ABANDONED_SECONDS = 24 * 3600

_NO_SPACE = "Free some space, or choose another folder."
_NO_RIGHT = "Choose a folder you may write to."

#: What the user can do about an error number.
_NEXT_STEP = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "Choose a folder on a disk that takes files of this size.",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENOENT: "Create the folder, or choose another one.",
    errno.ENOTDIR: "Choose an output that is a folder, not a file.",
    errno.EISDIR: "Move the folder of that name out of the way.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary name to write to; it becomes `path` when the block ends well.

    The temporary file lies in the same folder (a rename is atomic only within
    one file system), is hidden, keeps the suffix and has the permissions of any
    new file. Its bytes reach the disk before the rename, so a power cut leaves
    the old file or the new one. It is removed when the block fails, by
    whichever exception, Ctrl-C included; an existing `path` then stays as it was.

    Args:
        path: the file to create or replace; its folder exists.

    Yields:
        The temporary path: an empty file to overwrite.

    Raises:
        KpnError: if the file cannot be written: full disk, read-only folder, ...
    """
    path = Path(path)
    # Short, so that a name near the limit of the file system still has a temporary one.
    temporary = path.parent / f"{_PREFIX}{secrets.token_hex(6)}{path.suffix}"
    held = None
    try:
        # Not tempfile: its files are private (0600), and the rename would keep that.
        held = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        if fcntl is None:
            os.close(held)
            held = None
        elif _lock(held) and not temporary.exists():
            # Taken for abandoned between the two: it's locked now, so not again.
            os.close(held)
            held = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            _lock(held)
        yield temporary
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if os.name == "posix":  # Windows has no handle of a folder to flush
            _flush(path.parent, os.O_RDONLY)
    except OSError as error:
        if _is_about(error, temporary, path):
            raise write_error(path, error) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


def _lock(descriptor: int) -> bool:
    """Lock an open file as long as it's open; whether that was possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another has it, or a file system without locks
        return False
    return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it becomes `path`, which is not there, at the end.

    Raises:
        KpnError: if it cannot be written.
    """
    temporary = path.parent / f"{_PREFIX}{secrets.token_hex(6)}"
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, path)
        if os.name == "posix":
            _flush(path.parent, os.O_RDONLY)
    except OSError as error:
        raise write_error(path, error) from error
    except KpnError as error:  # of a file inside, which the user knows by another name
        raise KpnError(str(error).replace(str(temporary), str(path))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they aren't there.

    Raises:
        KpnError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from None


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keep other processes of kpn out of a folder, which is there, while the block lasts.

    Without effect where the system or the file system has no such locks.

    Raises:
        KpnError: if another is at work there.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KpnError(
                f"{folder}: another kpn is at work there; wait for it, or choose another folder"
            ) from None
        except OSError:  # some network file systems
            pass
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed program left half-written; for folders that one program owns."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove what killed programs left half-written; for folders in which others may be at work.

    A file that is being written is locked by who writes it. Where there are no such locks,
    a file counts as abandoned after a day.
    """
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink() and _is_abandoned(path):
                path.unlink()


def _is_abandoned(path: Path) -> bool:
    if fcntl is not None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:  # no locks here
            pass
        finally:
            os.close(descriptor)
    return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS


def write_error(path: Path, error: OSError) -> KpnError:
    """Return the error to raise when writing `path` failed: file, reason, what to do next."""
    reason = " ".join((error.strerror or str(error) or type(error).__name__).split())
    advice = _NEXT_STEP.get(error.errno, "Check the disk, or choose another folder.")
    return KpnError(f"{path}: cannot be written: {reason}. {advice}")


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
    """Whether the block failed on its output, rather than on another file that it reads."""
    names = (temporary, path, path.parent)
    return error.filename is None or Path(os.fsdecode(error.filename)) in names
