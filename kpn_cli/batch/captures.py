"""Reads when and how many files were taken: several at a time, and those of the last run not again.

The order and the results are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Event
from typing import NamedTuple

from ..errors import KpnError
from ..pipeline.loading import READERS
from ..raw.capture_cache import CaptureCache
from ..raw.info import Capture
from ..system.threads import usable_cores, work_ahead

#: Files that one thread reads in one go: as many as take longer than the start of its decoder.
FILES_TO_READ = 128
#: Files in one piece of work with those that are known.
_FILES = 2048


class _File(NamedTuple):
    """A file to read: what is known of it, and its status before it is read."""

    path: Path
    known: Capture | None = None
    status: str = ""


class Captures:
    """Reads captures; a callable for one file, `each` for many.

    Attributes:
        read: number of files that were read by `each`, not known.
    """

    def __init__(
        self,
        capture: Callable[[Path], Capture],
        cache: CaptureCache | None = None,
        threads: int = 0,
    ) -> None:
        """Take the means to read.

        Args:
            capture: reads a file; called from as many threads.
            cache: captures of earlier runs; None for none.
            threads: 0 for as many as there are cores, `READERS` at most.
        """
        self.read = 0
        self._capture = capture
        self._cache = cache
        self._threads = threads or min(READERS, usable_cores())

    def __call__(self, path: Path) -> Capture:
        """Return the capture of a file.

        Raises:
            KpnError: if it cannot be read.
        """
        (found,) = self._finished([self._looked_up(path)])
        if isinstance(found, KpnError):
            raise found
        return found

    def each(self, paths: Iterable[Path]) -> Generator[Capture | KpnError, None, None]:
        """Yield the capture of each file, or the error, in order.

        Args:
            paths: those of one folder after each other.
        """
        pieces = self._pieces(paths)
        if self._threads == 1:
            for piece in pieces:
                yield from self._finished(piece)
            return
        stopped = Event()
        read = partial(self._results, should_stop=stopped.is_set)
        # A piece more than there are decoders, so that none waits.
        with closing(work_ahead(read, pieces, self._threads + 1)) as results:
            try:
                for result in results:
                    yield from self._kept(*result.result())
            finally:  # after Ctrl-C, nobody waits for the rest of the pieces that have begun
                stopped.set()

    def _pieces(self, paths: Iterable[Path]) -> Iterator[list[_File]]:
        """Yield files in pieces of work."""
        piece: list[_File] = []
        unknown = 0
        most = FILES_TO_READ if self._threads > 1 else 1
        for path in paths:
            file = self._looked_up(path)
            piece.append(file)
            unknown += file.known is None
            if unknown >= most or len(piece) >= _FILES:
                yield piece
                piece, unknown = [], 0
        if piece:
            yield piece

    def _looked_up(self, path: Path) -> _File:
        if self._cache is None:
            return _File(path)
        known = self._cache.find(path)
        return _File(path, known) if known else _File(path, None, self._cache.status_before(path))

    def _results(
        self, piece: list[_File], should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[list[_File], list[Capture | KpnError]]:
        """Read what is not known, until it should stop; called in other threads, too."""
        reading = takewhile(lambda _: not should_stop(), piece)
        return piece, [file.known or self._read(file.path) for file in reading]

    def _read(self, path: Path) -> Capture | KpnError:
        try:
            return self._capture(path)
        except KpnError as error:
            return error

    def _finished(self, piece: list[_File]) -> Iterator[Capture | KpnError]:
        return self._kept(*self._results(piece))

    def _kept(
        self, piece: list[_File], results: list[Capture | KpnError]
    ) -> Iterator[Capture | KpnError]:
        """Yield results, and keep what was not known."""
        for file, result in zip(piece, results, strict=True):
            self.read += file.known is None
            if self._cache is not None and isinstance(result, Capture):
                self._cache.keep(file.path, result, file.status)
            yield result
