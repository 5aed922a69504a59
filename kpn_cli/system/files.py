"""Files appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import KpnError, reason_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PREFIX = ".kpn-"
_TEMPORARY = re.compile(r"\.kpn-[0-9a-f]{12}")
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
def atomic(path: Path | str, *, replace: bool = True) -> Iterator[Path]:
    """Give a temporary name to write to; it becomes `path` when the block ends well.

    The temporary file lies in the same folder (a rename is atomic only within
    one file system), is hidden, keeps the suffix and has the permissions of any
    new file. Its bytes reach the disk before the rename, so a power cut leaves
    the old file or the new one. It is removed when the block fails, by
    whichever exception, Ctrl-C included; an existing `path` then stays as it was.

    Args:
        path: the file to create or replace; its folder exists.
        replace: whether a file of that name may be replaced.

    Yields:
        The temporary path: an empty file to overwrite.

    Raises:
        KpnError: if the file cannot be written: full disk, read-only folder, ...; or if it
            is there, and came while this was being written, and may not be replaced.
    """
    path = Path(path)
    temporary, held = _create(path)
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        if replace:
            os.replace(temporary, path)
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
        if held is not None:
            os.close(held)


def _create(path: Path) -> tuple[Path, int | None]:
    """Create a temporary file beside `path` and lock it, where there are locks.

    Raises:
        KpnError: if it can't be created.
    """
    while True:
        # Short, so that a name near the limit of the file system still has a temporary one.
        temporary = path.parent / f"{_PREFIX}{secrets.token_hex(6)}{path.suffix}"
        # Not tempfile: its files are private (0600), and the rename would keep that.
        try:
            held = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        if fcntl is None:
            os.close(held)
            return temporary, None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if temporary.exists():
                return temporary, held
        except BlockingIOError:
            pass
        except OSError:  # a file system without locks
            return temporary, held
        # `remove_abandoned` came in between the two, elsewhere, and has taken it for one.
        os.close(held)


def _publish(temporary: Path, path: Path) -> None:
    """Give a file a name that no other has, without a moment in which another could take it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise KpnError(
            f"{path}: is there already, by now; another kpn has written it, or another program. "
            "Start again, or choose another folder."
        ) from None
    except OSError:  # file systems without hard links, such as those of cards
        if os.path.lexists(path):
            raise KpnError(f"{path}: is there already, by now. Start again.") from None
        os.replace(temporary, path)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Give an empty hidden file beside one to be made; it goes at the end of the block.

    Left by a killed program, it is one of those that `remove_abandoned` takes away.

    Raises:
        KpnError: if it can't be created.
    """
    temporary, held = _create(path)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


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
                path.unlink()  # while it's locked: `_create` looks whether it is still there
                return
            except BlockingIOError:
                return
            except OSError:  # no locks here
                pass
            finally:
                os.close(descriptor)
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            path.unlink()


def write_error(path: Path, error: OSError) -> KpnError:
    """Return the error to raise when writing `path` failed: file, reason, what to do next."""
    advice = _NEXT_STEP.get(error.errno, "Check the disk, or choose another folder.")
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
    """Whether the block failed on its output, rather than on another file that it reads."""
    names = (temporary, path, path.parent)
    return error.filename is None or Path(os.fsdecode(error.filename)) in names
