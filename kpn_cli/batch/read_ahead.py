"""Denoise many bursts in order: the next is read and the last is written while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from ..errors import KpnError
from ..pipeline import loading
from ..pipeline.fingerprint import alike_digest, options_digest
from ..pipeline.loading import BracketError, Loaded, NotesReader, Reader
from ..pipeline.options import Options
from ..pipeline.result import Failure, LeftOut, Result, Stage
from ..raw.full_exif import read_camera_notes
from ..system.files import remove_abandoned
from ..system.interrupts import interrupt_afterwards
from ..system.memory import memory_as_error
from .plan import Job

if TYPE_CHECKING:
    from ..pipeline.denoise import Computed, Engine
    from .report import SectionWriter

T = TypeVar("T")


@dataclass(frozen=True)
class BurstOutcome:
    """The result or the failure of one burst, or that it was left out.

    Attributes:
        job: the burst.
        result: None if it failed or was left out.
        failure: None unless it failed.
        left_out: None unless it is a bracket that is not to be merged.
    """

    job: Job
    result: Result | None = None
    failure: Failure | None = None
    left_out: LeftOut | None = None


@dataclass
class Summary:
    """The results and failures of all bursts, in the order of the plan.

    Attributes:
        results: of bursts that were denoised or whose outputs existed.
        failures: of bursts and files.
        left_out: brackets that were not to be merged, and bursts of few frames; no failures.
        report: path of the HTML report; None without one.
    """

    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    report: Path | None = None

    def add(self, outcome: BurstOutcome) -> None:
        """Add a burst."""
        if outcome.result is not None:
            self.results.append(outcome.result)
        if outcome.failure is not None:
            self.failures.append(outcome.failure)
        if outcome.left_out is not None:
            self.left_out.append(outcome.left_out)


def denoise_all(
    jobs: Sequence[Job],
    options: Options,
    *,
    engine: Engine | None = None,
    read: Reader = loading.read_packed,
    read_notes: NotesReader = read_camera_notes,
    on_all_read: Callable[[], None] = lambda: None,
    sections: SectionWriter | None = None,
    on_stage: Callable[[Job, Stage], None] = lambda job, stage: None,
) -> Generator[BurstOutcome, None, None]:
    """Denoise bursts in order; a failure does not stop the others.

    While the network works on one burst, the next is read and the last is written. So the memory
    holds at most the frames and the results of two bursts, and one more frame for a report.

    Args:
        jobs: the bursts.
        options: how to denoise; each burst is written to the folder of its job.
        engine: a network to use; None to load one when it is needed.
        read, read_notes: read a file, and its maker's notes, in another thread.
        on_all_read: called in that thread when the last burst is read, or failed.
        sections: gets a section of the report for each burst; None without a report.
        on_stage: called with the progress, also from other threads.

    Yields:
        The outcome of each burst, in order.

    Raises:
        KpnError: if no burst can be denoised, for example without a network.
    """
    if not jobs:
        return
    digest, alike = options_digest(options), alike_digest(options)
    for folder in {job.folder for job in jobs}:
        remove_abandoned(folder)

    stopped = Event()
    needed: SimpleQueue[bool] = SimpleQueue()

    def make_engine() -> Engine | None:
        """Load the network while the first burst is read, unless no burst is to be denoised."""
        return denoise.Engine(options) if needed.get() else None

    def load(job: Job) -> Loaded | Result:
        try:
            return load_one(job)
        finally:
            if job is jobs[-1]:
                on_all_read()

    def load_one(job: Job) -> Loaded | Result:
        loaded = loading.load_burst(
            job.files,
            options_of(job, options),
            digest,
            alike_digest=alike,
            read=read,
            read_notes=read_notes,
            should_stop=stopped.is_set,
            on_first=partial(needed.put, True),
            on_stage=partial(on_stage, job),
        )
        if sections and isinstance(loaded, Result):
            sections.add_finished(loaded, read)  # in this thread: there only so many may `read`
        return loaded

    def write(job: Job, computed: Computed) -> Result:
        from ..pipeline import denoise

        result = denoise.write_computed(computed, options, partial(on_stage, job))
        return sections.add(computed, result) if sections else result

    with (
        ThreadPoolExecutor(1, "read") as reading,
        ThreadPoolExecutor(1, "write") as writing,
        ThreadPoolExecutor(1, "engine") as making,
    ):
        ahead: Future[Loaded | Result] = Future()
        behind: tuple[Job, Future[Result]] | None = None
        try:
            ahead = reading.submit(load, jobs[0])
            # While the first burst is read: PyTorch takes a second. See also `cli/startup.py`.
            with interrupt_afterwards():
                from ..pipeline import denoise

            made = None if engine else making.submit(make_engine)
            for number, job in enumerate(jobs):
                step: Loaded | Computed | Result | KpnError = result_or_error(ahead.result)
                if number + 1 < len(jobs):
                    ahead = reading.submit(load, jobs[number + 1])
                if isinstance(step, Loaded):
                    engine = engine or (made.result() if made else None)
                    engine = engine or denoise.Engine(options)
                    if made:  # while the first burst is aligned, which leaves a core half idle
                        _, rows, columns = step.planes[0].shape
                        making.submit(engine.prepare, rows, columns, len(step.planes))
                        made = None
                    on_job_stage = partial(on_stage, job)
                    step = result_or_error(
                        partial(
                            denoise.compute, step, options_of(job, options), engine, on_job_stage
                        )
                    )
                if behind is not None:
                    yield outcome_of(behind[0], result_or_error(behind[1].result))
                    behind = None
                if isinstance(step, denoise.Computed):
                    behind = job, writing.submit(write, job, step)
                else:
                    yield outcome_of(job, step)
                del step  # its memory is needed for the next burst
            if behind is not None:
                yield outcome_of(behind[0], result_or_error(behind[1].result))
        finally:
            stopped.set()
            ahead.cancel()
            needed.put(False)


def options_of(job: Job, options: Options) -> Options:
    """Return the options with the folder and names of a job."""
    return replace(options, output=job.folder, name=job.name or options.name)


def result_or_error(work: Callable[[], T]) -> T | KpnError:
    """Return the result of `work`, or the error if it is one that the user can fix."""
    try:
        with memory_as_error():
            return work()
    except KpnError as error:
        return error


def outcome_of(job: Job, result: Result | KpnError) -> BurstOutcome:
    """Return what became of a burst, from its result or its error."""
    if isinstance(result, BracketError) and not job.as_given:
        return BurstOutcome(job, left_out=LeftOut(job.files, str(result)))
    if isinstance(result, KpnError):
        return BurstOutcome(job, failure=Failure(job.files, str(result)))
    return BurstOutcome(job, result=result)
