"""Read a burst's files: which frames can be used, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..burst import reference
from ..errors import KpnError, TransientError
from ..image import bayer
from ..raw.checks import check_file
from ..raw.info import RawInfo
from ..raw.reader import read_raw
from ..system.memory import free_memory
from . import fingerprint, outputs
from .options import Options
from .result import Clock, Result, Stage

#: Reads a file: what it says, and its planes `(4, height, width)` uint16.
Reader = Callable[[Path], "tuple[RawInfo, np.ndarray]"]


def read_planes(path: Path) -> tuple[RawInfo, np.ndarray]:
    """Read a file in this process."""
    info, mosaic = read_raw(path)
    return info, bayer.pack(mosaic, info.phase)


@dataclass(kw_only=True)
class Loaded:
    """A burst in memory.

    Attributes:
        mark: fingerprint of its outputs.
        infos: of the frames, the reference first.
        planes: of the frames, `(4, height, width)` uint16 each; `compute` takes them out.
        dropped: files that can't be used -> why.
        outputs: format -> file.
        missing: those of them to make.
        timings: seconds by stage.
    """

    mark: bytes
    infos: list[RawInfo]
    planes: list[np.ndarray]
    dropped: dict[Path, str]
    outputs: dict[str, Path]
    missing: dict[str, Path]
    timings: dict[str, float]

    @property
    def files(self) -> list[Path]:
        """The frames' files, the reference first."""
        return [info.path for info in self.infos]


def load(
    files: Sequence[Path],
    options: Options,
    options_digest: str,
    *,
    read: Reader = read_planes,
    should_stop: Callable[[], bool] = lambda: False,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Loaded | Result:
    """Read a burst, unless all its outputs are there.

    A damaged frame is left out, as is a copy of another.

    Args:
        files: of one burst.
        options: how; `options.output` is the burst's own folder.
        options_digest: of `fingerprint.options_digest`.
        read: reads a file.
        should_stop: asked before each frame.
        on_stage: told about progress.

    Returns:
        The burst, or, if there is nothing to do, its result.

    Raises:
        KpnError: if no frame can be used, the frames are no burst, or an output is in the way.
    """
    clock = Clock()
    digests = {path: _digest(path, alone=len(files) == 1) for path in files}
    mark = fingerprint.fingerprint(list(digests.values()), options_digest)
    done = None
    if not options.overwrite:
        done = outputs.finished(files, options.output, options.formats, mark)
    if done is not None:
        there = outputs.paths_of(done, options.output, options.formats)
        others = [path for path in files if path != done]
        return Result(done, [done, *others], there, skipped=True, mark=mark)
    frames, dropped = _read_all(files, digests, read, should_stop, on_stage)
    infos = reference.sort_by_time([info for info, _ in frames])
    reference.check_same_settings(infos)
    planes = {info.path: planes for info, planes in frames}
    sharp = [reference.frame_sharpness(planes[info.path]) for info in infos]
    first = reference.pick_reference(options.reference, infos, sharp)
    infos.insert(0, infos.pop(first))
    paths = outputs.paths_of(infos[0].path, options.output, options.formats)
    outputs.check_inputs(list(paths.values()), frozenset(path.resolve() for path in files))
    clock.stop("read")
    return Loaded(
        mark=mark,
        infos=infos,
        planes=[planes[info.path] for info in infos],
        dropped=dropped,
        outputs=paths,
        missing=paths if options.overwrite else outputs.missing(paths, mark),
        timings=clock.timings,
    )


def _digest(path: Path, alone: bool) -> str:
    """Digest of a file; of one among others that can't be read, a word that says so."""
    try:
        check_file(path)
        return fingerprint.digest(path)
    except KpnError:
        if alone:
            raise
        return f"unreadable: {path.name}"


def _read_all(
    files: Sequence[Path],
    digests: dict[Path, str],
    read: Reader,
    should_stop: Callable[[], bool],
    on_stage: Callable[[Stage], None],
) -> tuple[list[tuple[RawInfo, np.ndarray]], dict[Path, str]]:
    """Return the frames that can be read, and why the others can't."""
    frames: list[tuple[RawInfo, np.ndarray]] = []
    dropped: dict[Path, str] = {}
    originals: dict[str, Path] = {}
    for number, path in enumerate(files):
        on_stage(Stage("reading", number, len(files)))
        if should_stop():
            raise KpnError("stopped")
        # Twice the same noise would pass for a part of the picture.
        original = originals.setdefault(digests[path], path)
        if original != path:
            dropped[path] = f"a copy of {original.name}"
            continue
        try:
            frames.append(read(path))
            if len(frames) == 1:
                _check_memory(frames[0][1].nbytes, len(files))
        except TransientError:  # else the next time would give another picture
            raise
        except KpnError as error:
            if len(files) == 1:
                raise
            dropped[path] = str(error).removeprefix(f"{path.name}: ")
    if not frames:
        path, why = next(iter(dropped.items()))
        raise KpnError(f"{path.name}: {why} No other frame can be read either.")
    return frames, dropped


def _check_memory(frame_bytes: int, count: int) -> None:
    """Refuse a burst whose frames alone are more than the memory that is free."""
    free = free_memory(torch.device("cpu"))
    if count > 8 and frame_bytes * (count - 1) > free:
        raise TransientError(
            f"its {count} frames need {frame_bytes * count / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} are free; make bursts of fewer with --burst-size"
        )
