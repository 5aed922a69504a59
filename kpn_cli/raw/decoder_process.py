"""Decodes raw files in a child process, which may crash or hang without harm.

LibRaw is C++ code that reads whatever is on a card, and one damaged file must not stop hundreds
of bursts. exifread, which reads the maker's notes, has no bounds either. The child runs this
module: it reads requests from stdin and answers on stdout, as JSON and plain samples, so that
nothing it sends can be executed. It ends with its parent.

Own code, because the pools of the standard library pickle, and do not kill a hanging process.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from datetime import datetime
from io import BufferedIOBase
from pathlib import Path
from queue import LifoQueue
from typing import Any, TypeVar, cast

import numpy as np

from ..errors import BugError, KpnError, TransientError, reason_of
from ..image import bayer
from ..image.noise_model import NoiseModel
from ..system import faults
from . import full_exif, reader
from .camera_notes import CameraNotes
from .info import Capture, RawInfo

#: Seconds that decoding a file may take, besides the time to read its bytes from a slow card. The
#: maker's notes have a limit of their own, `full_exif.SECONDS`.
_TIMEOUT = 60.0
_CARD_BYTES_PER_SECOND = 1e6

_LENGTH = struct.Struct("<Q")

#: Errors that the child answers with, by name.
_ERRORS = {kind.__name__: kind for kind in (KpnError, TransientError, BugError)}

T = TypeVar("T", Capture, RawInfo)


class _NoAnswerError(Exception):
    """The child died; `seconds` is the limit that it exceeded, 0 if it crashed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Decoder:
    """A child process that reads raw files; if it dies, a new one takes its place.

    For one thread at a time; use it as a context, or `close` it. A file that crashes or hangs
    the child is tried once more; then a `TransientError` is raised.
    """

    def __init__(self, timeout: float = _TIMEOUT, notes_timeout: float = full_exif.SECONDS) -> None:
        """Take the seconds that a file may take, besides the time to read its bytes.

        Args:
            timeout: for a file.
            notes_timeout: for its maker's notes, all in all.
        """
        self._timeout = timeout
        self._notes_timeout = notes_timeout
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def capture(self, path: Path) -> Capture:
        """Return what `reader.read_capture` does.

        Raises:
            KpnError: as there; `TransientError` if LibRaw crashes or hangs; `BugError` if kpn has
                a bug, or its installation a fault.
        """
        return _from_json(Capture, path, self._request("capture", path)[0])

    def info(self, path: Path) -> RawInfo:
        """Return what `reader.read_info` does.

        Raises:
            KpnError: as there; `TransientError` if LibRaw crashes or hangs.
        """
        return _from_json(RawInfo, path, self._request("info", path)[0])

    def planes(self, path: Path, image: int = 0) -> tuple[RawInfo, np.ndarray]:
        """Return what `reader.read_raw` does, with the mosaic packed into planes.

        Returns:
            The facts, and the planes `(4, cell_rows, cell_columns)` in DN.

        Raises:
            KpnError: as there; `TransientError` if LibRaw crashes or hangs.
        """
        values, (planes,) = self._request("planes", path, image)
        return _from_json(RawInfo, path, values), planes

    def camera_notes(self, path: Path) -> CameraNotes:
        """Return what `full_exif.read_camera_notes` does.

        exifread has `notes_timeout` and no second try. If that is not enough, or it crashes, its
        facts are left out with a line; no error is raised, because the picture can do without.
        """
        try:
            values, _ = self._ask("notes", path, self._notes_timeout)
        except _NoAnswerError as error:
            limit = f"has not read its tags within {error.seconds:g} s"
            return full_exif.failed(f"exifread {limit if error.seconds else 'crashes on its tags'}")
        except KpnError as error:  # the child can't be started
            return full_exif.failed(str(error))
        return CameraNotes(**{name: _tuples(value) for name, value in values.items()})

    def _request(
        self, kind: str, path: Path, image: int = 0
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        seconds = self._timeout
        with suppress(OSError, ValueError):  # the child reports what is wrong with the file
            seconds += path.stat().st_size / _CARD_BYTES_PER_SECOND
        try:
            return self._ask(kind, path, seconds, image)
        except _NoAnswerError:  # perhaps the child's own problem, such as a lack of memory
            pass
        try:
            return self._ask(kind, path, seconds, image)
        except _NoAnswerError as error:
            limit = f"has not read it within {error.seconds:.0f} s"
            raise TransientError(
                f"{path.name}: LibRaw {limit if error.seconds else 'crashes on it'}, twice; try "
                "again. If it still fails, the file is damaged: copy it from the camera or card "
                "again, or leave it out."
            ) from None

    def _ask(
        self, kind: str, path: Path, seconds: float, image: int = 0
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Return the child's answer to a request.

        Raises:
            KpnError: if that is the answer, or the child can't be started.
            _NoAnswerError: if the child crashes or exceeds the limit; then it is ended.
        """
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = _start()
        child = self._child
        timed_out = threading.Event()

        def expire() -> None:
            timed_out.set()
            child.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        complete = False
        try:
            _send(_requests_to(child), [kind, os.fsencode(path).hex(), *([image] if image else [])])
            answer, arrays = _receive(_answers_of(child))
            complete = True
        except (OSError, EOFError):
            raise _NoAnswerError(seconds if timed_out.is_set() else 0) from None
        finally:
            timer.cancel()
            if not complete or timed_out.is_set():
                self.close()  # a late answer must not be taken for that to the next request
        if isinstance(answer, list):
            kind_of_error, message = answer
            raise _ERRORS[kind_of_error](message)
        return answer, arrays


class Decoders:
    """Several `Decoder`s, for as many threads at a time; each starts its child when it is needed.

    Use it as a context, or `close` it when no thread uses it any more.
    """

    def __init__(self, count: int) -> None:
        """Take the number of decoders, at least 1."""
        self._all = [Decoder() for _ in range(count)]
        # The last one used is the next: one thread at a time needs one child.
        self._free: LifoQueue[Decoder] = LifoQueue()
        for decoder in self._all:
            self._free.put(decoder)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child processes; a later request starts new ones."""
        for decoder in self._all:
            decoder.close()

    def capture(self, path: Path) -> Capture:
        """Return `Decoder.capture`; raises the same."""
        with self._one() as decoder:
            return decoder.capture(path)

    def planes(self, path: Path, image: int = 0) -> tuple[RawInfo, np.ndarray]:
        """Return `Decoder.planes`; raises the same."""
        with self._one() as decoder:
            return decoder.planes(path, image)

    def camera_notes(self, path: Path) -> CameraNotes:
        """Return `Decoder.camera_notes`."""
        with self._one() as decoder:
            return decoder.camera_notes(path)

    @contextmanager
    def _one(self) -> Iterator[Decoder]:
        """Wait for a decoder that no other thread uses."""
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)


def _start() -> subprocess.Popen[bytes]:
    """Start a child and wait until it is ready.

    Raises:
        KpnError: if it cannot be started.
    """
    # Isolated (-I), with the module path of this process: a module in the current folder, such
    # as one on a card, must not be imported.
    script = (
        "import sys; sys.path[:] = sys.argv[1:]; "
        "from kpn_cli.raw import decoder_process; decoder_process.main()"
    )
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", script, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # LibRaw's messages about damaged files help nobody; errors are in the answers.
            stderr=subprocess.DEVNULL,
            # Ctrl-C goes to the parent only, which ends the child: by a session of its own, on
            # Windows by a group.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        _receive(_answers_of(child))  # "ready"
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it ends at once"
        raise KpnError(
            f"the process that decodes raw files can't be started ({reason}); install kpn again, "
            "or close other programs"
        ) from None
    return child


def _requests_to(child: subprocess.Popen[bytes]) -> BufferedIOBase:
    return cast(BufferedIOBase, child.stdin)  # a pipe, buffered


def _answers_of(child: subprocess.Popen[bytes]) -> BufferedIOBase:
    return cast(BufferedIOBase, child.stdout)


def _send(stream: BufferedIOBase, message: object, *arrays: np.ndarray) -> None:
    """Write a message: the length of its JSON text, this text, and the bytes of the arrays."""
    text = json.dumps([message, [[array.dtype.str, array.shape] for array in arrays]]).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def _receive(stream: BufferedIOBase) -> tuple[Any, list[np.ndarray]]:
    (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
    message, layouts = json.loads(_read(stream, length))
    arrays = [np.empty(shape, dtype) for dtype, shape in layouts]
    for array in arrays:
        _fill(stream, array.data.cast("B"))
    return message, arrays


def _read(stream: BufferedIOBase, count: int) -> bytearray:
    buffer = bytearray(count)
    with memoryview(buffer) as view:
        _fill(stream, view)
    return buffer


def _fill(stream: BufferedIOBase, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])
        if not count:
            raise EOFError
        filled += count


def _to_json(facts: RawInfo | Capture) -> dict[str, Any]:
    """Return all attributes except the path, which both sides know and which may not be text."""
    values = {f.name: getattr(facts, f.name) for f in fields(facts) if f.name != "path"}
    values["captured"] = facts.captured and facts.captured.isoformat()
    if isinstance(facts, RawInfo) and facts.noise_profile:
        values["noise_profile"] = [facts.noise_profile.shot, facts.noise_profile.read]
    return values


def _from_json(kind: type[T], path: Path, values: dict[str, Any]) -> T:
    values = {name: _tuples(value) for name, value in values.items()}
    if values["captured"]:
        values["captured"] = datetime.fromisoformat(values["captured"])
    if values.get("noise_profile"):
        values["noise_profile"] = NoiseModel(*values["noise_profile"])
    return kind(path=path, **values)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


# --- the child --------------------------------------------------------------


def _answer(kind: str, path: Path, image: int = 0) -> tuple[dict[str, Any], list[np.ndarray]]:
    if kind == "capture":
        return _to_json(reader.read_capture(path)), []
    if kind == "info":
        return _to_json(reader.read_info(path)), []
    if kind == "notes":
        # Without a limit here: the parent has one.
        return asdict(full_exif.read_camera_notes(path, seconds=None)), []
    info, mosaic = reader.read_raw(path, image)
    return _to_json(info), [bayer.pack(mosaic, info.phase)]


def serve(requests: BufferedIOBase, answers: BufferedIOBase) -> None:
    """Answer requests until their stream ends."""
    while True:
        try:
            (kind, name, *image), _ = _receive(requests)
        except EOFError:
            return
        path = Path(os.fsdecode(bytes.fromhex(name)))
        arrays: list[np.ndarray] = []
        answer: dict[str, Any] | list[str]
        try:
            answer, arrays = _answer(kind, path, *image)
        except KpnError as error:
            answer = _error_answer(error)
        except (OSError, MemoryError) as error:
            reason = reason_of(error, "not enough memory" if isinstance(error, MemoryError) else "")
            message = f"{path.name}: cannot be read ({reason}); try again, or leave it out."
            answer = _error_answer(TransientError(message))
        except Exception as error:  # it must stop neither the child nor the other bursts
            answer = _error_answer(faults.bug(error, f"reading {path.name}"))
        _send(answers, answer, *arrays)


def _error_answer(error: KpnError) -> list[str]:
    """Return the name of an error's kind, and its message."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return [next(name for name in kinds if name in _ERRORS), str(error)]


def main() -> None:
    """Serve the parent process over stdin and stdout."""
    # Any other output on stdout would corrupt the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _send(answers, "ready")
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(cast(BufferedIOBase, sys.stdin.buffer), answers)
