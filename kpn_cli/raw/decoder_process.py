"""Raw files are decoded in a process of their own, which may crash or hang.

LibRaw is C++ that reads whatever a card holds, and hundreds of bursts wait behind a damaged
file. The child runs this module: it reads requests from stdin and answers on stdout, in JSON
and bare samples, so that nothing that it says is executed. It ends with its parent.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from ..errors import KpnError, TransientError
from ..image import bayer
from ..image.noise_model import NoiseModel
from . import reader
from .info import Capture, RawInfo

#: A file may take so many seconds, and as many more as its bytes take from a slow card.
_PATIENCE, _BYTES_A_SECOND = 60.0, 1e6

_LENGTH = struct.Struct("<Q")

T = TypeVar("T")


class Decoder:
    """A child process that reads raw files; a new one takes the place of one that has died.

    For one thread at a time; use it as a context, or `close` it. A file at which the child dies
    or hangs is tried once more; after that it is a `TransientError`.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def capture(self, path: Path) -> Capture:
        """Do what `reader.read_capture` does; also refuse what makes LibRaw crash or hang."""
        return _from_json(Capture, path, self._ask("capture", path)[0])

    def info(self, path: Path) -> RawInfo:
        """Do what `reader.read_info` does; also refuse what makes LibRaw crash or hang."""
        return _from_json(RawInfo, path, self._ask("info", path)[0])

    def planes(self, path: Path) -> tuple[RawInfo, np.ndarray]:
        """Return what `reader.read_raw` does, packed; also refuse what crashes or hangs LibRaw.

        Returns:
            What the file says, and its planes `(4, height, width)` uint16 in DN.
        """
        values, (planes,) = self._ask("planes", path)
        return _from_json(RawInfo, path, values), planes

    def _ask(self, what: str, path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
        try:
            return self._ask_once(what, path)
        except TransientError:  # of the child's own, such as for want of memory?
            return self._ask_once(what, path)

    def _ask_once(self, what: str, path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = _start()
        child = self._child
        try:
            allowed = self._patience + path.stat().st_size / _BYTES_A_SECOND
        except (OSError, ValueError):  # the child says what is wrong with it
            allowed = self._patience
        late = threading.Event()
        alarm = threading.Timer(allowed, lambda: (late.set(), child.kill()))
        alarm.daemon = True
        alarm.start()
        complete = False
        try:
            _send(child.stdin, [what, os.fsencode(path).hex()])
            answer, arrays = _receive(child.stdout)
            complete = True
        except (OSError, EOFError):
            reason = f"has not read it within {allowed:.0f} s" if late.is_set() else "crashes on it"
            raise TransientError(
                f"{path.name}: LibRaw {reason}, twice; if that stays so the file is damaged: copy "
                "it from the camera or card again, or leave it out."
            ) from None
        finally:
            alarm.cancel()
            if not complete or late.is_set():
                self.close()  # what it has still to say is no answer to the next question
        if isinstance(answer, str):
            raise KpnError(answer)
        return answer, arrays


def _start() -> subprocess.Popen[bytes]:
    """Start a child and wait until it is ready.

    Raises:
        KpnError: if it can't be started.
    """
    # Isolated (-I), with this process's own path: a module that lies about in the current folder,
    # on a card perhaps, is none of ours.
    script = (
        "import sys; sys.path[:] = sys.argv[1:]; "
        "from kpn_cli.raw import decoder_process; decoder_process.main()"
    )
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", script, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What LibRaw prints about damaged files helps nobody; what matters is answered.
            stderr=subprocess.DEVNULL,
            # Ctrl-C is for the parent, which ends it.
            start_new_session=True,
        )
        _receive(child.stdout)  # it says that it is ready
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it ends at once"
        raise KpnError(
            f"the process that decodes raw files can't be started ({reason}); install kpn again, "
            "or close other programs"
        ) from None
    return child


def _send(stream: BinaryIO, message: object, *arrays: np.ndarray) -> None:
    """Write a message: the length of its JSON, that, and the bytes of arrays."""
    text = json.dumps([message, [[array.dtype.str, array.shape] for array in arrays]]).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def _receive(stream: BinaryIO) -> tuple[Any, list[np.ndarray]]:
    (length,) = _LENGTH.unpack(_filled(stream, bytearray(_LENGTH.size)))
    message, layouts = json.loads(_filled(stream, bytearray(length)))
    arrays = [np.empty(shape, dtype) for dtype, shape in layouts]
    for array in arrays:
        _filled(stream, array.data.cast("B"))
    return message, arrays


def _filled(stream: BinaryIO, buffer: bytearray | memoryview) -> bytearray | memoryview:
    with memoryview(buffer) as view:
        at = 0
        while at < len(view):
            count = stream.readinto(view[at:])
            if not count:
                raise EOFError
            at += count
    return buffer


def _to_json(found: RawInfo | Capture) -> dict[str, Any]:
    """All fields but the path, which the other side knows, and which need not be text."""
    values = {f.name: getattr(found, f.name) for f in fields(found) if f.name != "path"}
    values["captured"] = found.captured and found.captured.isoformat()
    if values.get("noise_profile"):
        values["noise_profile"] = [found.noise_profile.shot, found.noise_profile.read]
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


def _answer(what: str, path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    if what == "capture":
        return _to_json(reader.read_capture(path)), []
    if what == "info":
        return _to_json(reader.read_info(path)), []
    info, mosaic = reader.read_raw(path)
    return _to_json(info), [bayer.pack(mosaic, info.phase)]


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while True:
        try:
            (what, name), _ = _receive(requests)
        except EOFError:
            return
        path = Path(os.fsdecode(bytes.fromhex(name)))
        arrays: list[np.ndarray] = []
        try:
            answer, arrays = _answer(what, path)
        except KpnError as error:
            answer = str(error)
        except Exception as error:  # an error of ours must not end the others' night
            kind = type(error).__name__
            answer = f"{path.name}: cannot be read ({kind}: {error}); leave it out."
        _send(answers, answer, *arrays)


def main() -> None:
    """Serve the parent, over the pipes that it has made."""
    # What else writes to stdout would break the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _send(answers, "ready")
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin.buffer, answers)
