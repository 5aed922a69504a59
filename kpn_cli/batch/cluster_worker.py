"""One burst on a worker of a Dask cluster.

A worker keeps one network, for all bursts and runs, and holds two bursts at a time at most: one
that the network works on, and one that is read or written. However many threads Dask gave it, more
bursts wait, as paths.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import KpnError, TransientError
from ..pipeline import loading
from ..pipeline.fingerprint import file_digest
from ..pipeline.loading import READERS
from ..pipeline.options import Options
from ..pipeline.result import Result
from ..pipeline.stamps import Stamps
from ..raw.decoder_process import Decoders
from ..system.cluster_task import Again, Unfit, is_stopped, worker_threads
from ..system.shared import FOLDER_SECONDS, SharedPaths, comes_back
from ..system.threads import limit_threads
from .plan import Job
from .read_ahead import BurstOutcome, options_of, outcome_of, result_or_error

if TYPE_CHECKING:
    from ..pipeline.denoise import Engine

#: Bursts that a worker holds at a time.
_BURSTS_HELD = 2


@dataclass(frozen=True)
class Arithmetic:
    """What a worker computes with.

    Attributes:
        device: of the network.
        small, large: precision for a small and a large picture.
    """

    device: str
    small: str
    large: str

    def __str__(self) -> str:
        names = self.large if self.small == self.large else f"{self.large} ({self.small} if small)"
        return f"{names} on {self.device}"


@dataclass(frozen=True)
class Order:
    """What all workers of a run do alike.

    Attributes:
        run: name of the run.
        options: how to denoise.
        digest: of the options (`fingerprint.options_digest`).
        weights: SHA-256 of the weight file.
        paths: that each worker must see.
        threads: for a burst; None for the worker's share.
        planned: number of bursts.
        arithmetic: that all workers use; None until they are asked.
        alike: the digest for bursts of one exposure (`fingerprint.alike_digest`).
        stamps: of the client, for the times in the outputs.
    """

    run: str
    options: Options
    digest: str
    weights: str
    paths: SharedPaths
    threads: int | None
    planned: int
    arithmetic: Arithmetic | None = None
    alike: str = ""
    stamps: Stamps = field(default_factory=Stamps.here)


@dataclass(frozen=True)
class Answer:
    """What a worker made of a burst.

    Attributes:
        outcome: of the burst.
        section: of the report, as HTML; empty without a report or without pictures.
    """

    outcome: BurstOutcome
    section: bytes = b""


# --- the state of a worker process ------------------------------------------------------

_slots = threading.BoundedSemaphore(_BURSTS_HELD)
#: Held while the network is loaded or works.
_network = threading.RLock()
_engine: tuple[tuple[object, ...], Engine] | None = None
_decoders = Decoders(READERS)
#: Runs that this worker is fit for.
_fit: dict[str, Arithmetic] = {}


def end_run(run: str) -> None:
    """Forget a run, and end the children that decode; the network stays for the next run."""
    _fit.pop(run, None)
    if not _fit:
        _decoders.close()


@lru_cache(maxsize=8)
def _digest_of(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def weights_digest(options: Options) -> str:
    """Return the SHA-256 of the weight file.

    Raises:
        KpnError: if it cannot be read.
    """
    from ..network.weights import default_weights

    path = options.weights or default_weights()
    try:
        facts = path.stat()
    except OSError:
        return file_digest(path)  # for its error
    return _digest_of(path, facts.st_size, facts.st_mtime_ns)


def _engine_for(order: Order) -> Engine:
    """Return the network of a run; another one is dropped. Hold `_network`.

    Raises:
        KpnError: if it cannot be loaded.
    """
    global _engine
    from ..pipeline.denoise import Engine

    options = order.options
    key = (order.weights, options.device, options.precision, options.strength > 0, order.threads)
    if _engine is None or _engine[0] != key:
        _engine = None
        _engine = key, Engine(options)
    return _engine[1]


def look(order: Order) -> Arithmetic | str:
    """Return what this worker computes with; or why it is not fit for a run, for the user."""
    try:
        found = _look(order)
    except KpnError as error:
        return f"cannot denoise: {error}"
    if isinstance(found, Arithmetic) and order.arithmetic not in (None, found):
        return f"would denoise in {found}, the others in {order.arithmetic}"
    return found


def _look(order: Order) -> Arithmetic | str:
    lacking = order.paths.lacking("photos")
    if lacking:
        return lacking
    weights = order.options.weights
    if weights and not weights.is_file():
        return f"does not see the weights {weights}; put them on a disk that all share"
    if weights_digest(order.options) != order.weights:
        which = weights or "those that come with kpn"
        return f"has other weights ({which}); install the same kpn, or share the file"
    limit_threads(order.threads or worker_threads())
    with _network:
        engine = _engine_for(order)
        small, large = (engine.for_picture(pixels).precision.name for pixels in (1, None))
    return Arithmetic(str(engine.device), small, large)


# --- a burst -----------------------------------------------------------------------------


def work(job: Job, order: Order) -> Answer | Again | Unfit | None:
    """Denoise a burst on this worker.

    Args:
        job: the burst.
        order: of the run.

    Returns:
        The answer; None if the run is stopped.
    """
    with _slots:
        if is_stopped(order.run):
            return None
        fault = _fault(order)
        if fault:
            return Unfit(fault)
        limit_threads(order.threads or worker_threads())
        with order.stamps.used():
            answer = _denoise(job, order)
        if not order.paths.comes_back():
            # Whatever was written may be elsewhere: below a folder where a disk was mounted.
            return Unfit(order.paths.vanished)
        for folder in {path.parent for path in job.files} if isinstance(answer, Again) else ():
            if not comes_back(folder):
                return Unfit(f"does not see the photos in {folder} any more")
        return answer


def _fault(order: Order) -> str:
    """Return why this worker cannot do a run; "" if it can. Takes its time before it says so.

    A worker that answers at once would be given all other bursts too.
    """
    if order.run not in _fit:
        seen = look(order)
        if isinstance(seen, str):
            time.sleep(FOLDER_SECONDS)
            return seen
        _fit[order.run] = seen
    return "" if order.paths.comes_back() else order.paths.vanished


class _Vanished(TransientError):
    """A folder has vanished meanwhile."""


def _denoise(job: Job, order: Order) -> Answer | Again:
    options = options_of(job, order.options)
    section = b""

    def make() -> Result:
        nonlocal section
        loaded = loading.load_burst(
            job.files,
            options,
            order.digest,
            alike_digest=order.alike,
            read=_decoders.planes,
            read_notes=_decoders.camera_notes,
        )
        if isinstance(loaded, Result):
            return loaded
        from ..pipeline import denoise

        with _network:
            if not order.paths.is_there():  # `compute` would make the folder anew
                raise _Vanished(order.paths.vanished)
            computed = denoise.compute(loaded, options, _engine_for(order))
        del loaded
        try:
            result = denoise.write_computed(computed, options)
        except KpnError as error:  # perhaps the folder was away for a moment
            raise TransientError(str(error)) from None
        if options.report:
            from .report import made_section

            result, section = made_section(computed, result, order.options.output, order.planned)
        return result

    found = result_or_error(make)
    answer = Answer(outcome_of(job, found), section)
    return Again(answer) if isinstance(found, TransientError) else answer
