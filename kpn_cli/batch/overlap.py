"""Many bursts, one after the other: reading and writing go on while the network works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar

from ..errors import KpnError
from ..pipeline import denoise, loading, outputs
from ..pipeline.denoise import Computed, Engine
from ..pipeline.fingerprint import options_digest
from ..pipeline.loading import Loaded, Reader
from ..pipeline.options import Options
from ..pipeline.result import Failure, Result, Stage
from ..system.memory import memory_as_error
from .plan import Job
from .report import Sections

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What became of one burst.

    Attributes:
        job: the burst.
        result: if it is done.
        failure: if it isn't.
    """

    job: Job
    result: Result | None = None
    failure: Failure | None = None


@dataclass
class Summary:
    """What became of all bursts, in the order of the plan.

    Attributes:
        results: of those that are done or were there already.
        failures: what could not be done.
        report: the page that shows it; None without.
    """

    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    report: Path | None = None

    def add(self, outcome: Outcome) -> None:
        """Count a burst."""
        if outcome.result is not None:
            self.results.append(outcome.result)
        else:
            self.failures.append(outcome.failure)


def denoise_all(
    jobs: Sequence[Job],
    options: Options,
    *,
    engine: Engine | None = None,
    read: Reader = loading.read_packed,
    sections: Sections | None = None,
    on_stage: Callable[[Job, Stage], None] = lambda job, stage: None,
) -> Iterator[Outcome]:
    """Denoise bursts; one that fails doesn't keep the others.

    While the network works on one burst, the next is read and the last is written: no more
    than the frames and the results of two are in memory, and for a report one frame more.

    Args:
        jobs: the bursts.
        options: how; each burst's own folder is its job's.
        engine: a network to use; made when it is needed by default.
        read: reads a file, in another thread.
        sections: of a report, which gets one for each burst that is done.
        on_stage: told about progress; also from other threads.

    Yields:
        What became of each burst, in order.

    Raises:
        KpnError: if nothing can be done at all, such as without a network.
    """
    if not jobs:
        return
    digest = options_digest(options)
    for folder in {job.folder for job in jobs}:
        outputs.remove_leftovers(folder)

    stopped = Event()

    def load(job: Job) -> Loaded | Result:
        loaded = loading.load_burst(
            job.files,
            _for(job, options),
            digest,
            read=read,
            should_stop=stopped.is_set,
            on_stage=partial(on_stage, job),
        )
        if sections and isinstance(loaded, Result):
            sections.add_finished(loaded, read)  # here: `read` is for this thread alone
        return loaded

    def write(job: Job, computed: Computed) -> Result:
        result = denoise.write_computed(computed, options, partial(on_stage, job))
        return sections.add(computed, result) if sections else result

    with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        ahead = reading.submit(load, jobs[0])
        behind: tuple[Job, Future[Result]] | None = None
        try:
            for number, job in enumerate(jobs):
                step = _settled(ahead.result)
                if number + 1 < len(jobs):
                    ahead = reading.submit(load, jobs[number + 1])
                if isinstance(step, Loaded):
                    engine = engine or Engine(options)
                    step = _settled(
                        partial(
                            denoise.compute,
                            step,
                            _for(job, options),
                            engine,
                            partial(on_stage, job),
                        )
                    )
                if behind is not None:
                    yield _outcome(behind[0], _settled(behind[1].result))
                    behind = None
                if isinstance(step, Computed):
                    behind = job, writing.submit(write, job, step)
                else:
                    yield _outcome(job, step)
                del step
            if behind is not None:
                yield _outcome(behind[0], _settled(behind[1].result))
        finally:
            stopped.set()
            ahead.cancel()


def _for(job: Job, options: Options) -> Options:
    return replace(options, output=job.folder)


def _settled(work: Callable[[], T]) -> T | KpnError:
    """Do something; return what comes of it, or what the user can mend."""
    try:
        with memory_as_error():
            return work()
    except KpnError as error:
        return error


def _outcome(job: Job, result: Result | KpnError) -> Outcome:
    if isinstance(result, KpnError):
        return Outcome(job, failure=Failure(job.files, str(result)))
    return Outcome(job, result=result)
