"""Bursts on the workers of a Dask cluster; `cluster_worker` is what a worker does."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING

from ..errors import KpnError
from ..pipeline.fingerprint import alike_digest, options_digest
from ..pipeline.loading import Reader
from ..pipeline.options import Options
from ..pipeline.result import Failure, Stage
from ..system.cluster import Cluster
from ..system.cluster_task import Lost
from ..system.files import make_folder, remove_abandoned, scratch_file
from ..system.shared import shared_paths
from . import cluster_worker
from .cluster_worker import Answer, Arithmetic, Order
from .plan import Job
from .read_ahead import BurstOutcome

if TYPE_CHECKING:
    from .report import SectionWriter

#: Seconds between signs that the run's hidden file is in use, where files cannot be locked.
_TOUCH_SECONDS = 3600


def denoise_on(
    cluster: Cluster,
    jobs: Sequence[Job],
    options: Options,
    *,
    read: Reader,
    sections: SectionWriter | None = None,
    on_stage: Callable[[Job, Stage], None] = lambda job, stage: None,
    on_workers: Callable[[int], None] = lambda workers: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Generator[BurstOutcome, None, None]:
    """Denoise bursts on the workers of a cluster; a failure does not stop the others.

    Args:
        cluster: the connection.
        jobs: the bursts; all workers must see their files and the folder of the outputs.
        options: how to denoise.
        read: reads a file here, for the report of bursts that are finished already.
        sections: gets a section of the report for each burst; None without a report.
        on_stage: called when the workers are checked.
        on_workers: called every few seconds with their number.
        tell: called with lines for the user.

    Yields:
        The outcome of each burst, in the order in which they end.

    Raises:
        KpnError: before any work, if a worker is not fit for it; later, if the cluster is gone.
        KeyboardInterrupt: after Ctrl-C, when the bursts that were begun are done.
    """
    if not jobs:
        return
    make_folder(options.output)
    for folder in {job.folder for job in jobs}:
        remove_abandoned(folder)
    with scratch_file(options.output / "run") as marker:
        order = Order(
            cluster.run,
            _absolute(options),
            options_digest(options),
            cluster_worker.weights_digest(options),
            shared_paths(marker, (path.absolute() for job in jobs for path in job.files)),
            cluster.threads,
            len(jobs),
            alike=alike_digest(options),
        )
        on_stage(jobs[-1], Stage("checking the workers", 0, 1))
        cluster.wait_for_workers(tell)
        arithmetic = _check(cluster.ask_all(cluster_worker.look, order))
        order = replace(order, arithmetic=arithmetic)
        tell(f"denoising on {_count(len(cluster.workers()), 'worker')} in {arithmetic}")
        touched = time.monotonic()

        def look(workers: int, left: int) -> None:
            nonlocal touched
            on_workers(workers)
            if time.monotonic() - touched > _TOUCH_SECONDS:
                touched = time.monotonic()
                with suppress(OSError):
                    os.utime(marker)

        try:
            with closing(
                cluster.work_on(
                    cluster_worker.work,
                    jobs,
                    order,
                    as_sent=_absolute_job,
                    tell=tell,
                    on_look=look,
                )
            ) as answers:
                for job, answer in answers:
                    yield _outcome(job, answer, sections, read)
        finally:
            cluster.call_all(cluster_worker.end_run, cluster.run)
            for folder in {job.folder for job in jobs}:  # what killed workers leave
                remove_abandoned(folder)


def _check(found: dict[str, Arithmetic | str]) -> Arithmetic:
    """Return what all workers compute with.

    Raises:
        KpnError: if one is not fit, or they differ.
    """
    fit: dict[str, Arithmetic] = {}
    for worker, facts in found.items():
        if isinstance(facts, str):
            raise KpnError(f"--dask: worker {worker} {facts}")
        fit[worker] = facts
    first, wanted = next(iter(fit.items()))  # `ask_all` returns at least one
    for worker, facts in fit.items():
        if facts != wanted:
            raise KpnError(
                f"--dask: worker {first} would denoise in {wanted}, worker {worker} in {facts}; "
                "give --device and --precision that all have, such as --device cpu "
                "--precision fp32"
            )
    return wanted


def _outcome(
    job: Job, answer: Answer | Lost, sections: SectionWriter | None, read: Reader
) -> BurstOutcome:
    """Return the outcome of a burst, and keep its section of the report."""
    if isinstance(answer, Lost):
        return BurstOutcome(job, failure=Failure(job.files, answer.reason))
    outcome = _as_given(answer.outcome, job)
    if sections and outcome.result is not None:
        if answer.section:
            sections.store(outcome.result, answer.section)
        elif outcome.result.skipped:
            sections.add_finished(outcome.result, read)
    return outcome


def _as_given(outcome: BurstOutcome, job: Job) -> BurstOutcome:
    """Return an outcome with paths as the user gave them; workers may be in another folder."""
    result, failure, left_out = outcome.result, outcome.failure, outcome.left_out
    given = {path.absolute(): path for path in job.files}
    folders = {path.parent: given[path].parent for path in given}

    def as_input(path: Path) -> Path:
        # The job's own objects where possible: a result stays in memory until the end.
        return given.get(path) or folders.get(path.parent, path.parent) / path.name

    if result is not None:
        result = replace(
            result,
            reference=as_input(result.reference),
            frames=[as_input(path) for path in result.frames],
            dropped={as_input(path): reason for path, reason in result.dropped.items()},
            outputs={name: job.folder / path.name for name, path in result.outputs.items()},
            # Names that all bursts share are in memory once.
            timings={intern(stage): seconds for stage, seconds in result.timings.items()},
            device=intern(result.device),
            precision=intern(result.precision),
            precision_reason=intern(result.precision_reason),
        )
    if failure is not None:
        failure = replace(failure, files=job.files, error=_told_as_given(failure.error, job))
    if left_out is not None:
        reason = _told_as_given(left_out.reason, job)
        left_out = replace(left_out, files=job.files, reason=reason)
    return BurstOutcome(job, result, failure, left_out)


def _told_as_given(text: str, job: Job) -> str:
    """Return an error with paths of a job as the user gave them."""
    given = {*job.files, job.folder, *(path.parent for path in job.files)}
    for path in sorted(given, key=lambda path: len(str(path.absolute())), reverse=True):
        absolute, shown = r"(?<!\w)" + re.escape(str(path.absolute())), str(path)
        inside = "" if path == Path() else shown + os.sep
        inside, shown = inside.replace("\\", r"\\"), shown.replace("\\", r"\\")
        text = re.sub(absolute + re.escape(os.sep), inside, text)
        text = re.sub(absolute + r"(?=[:;,)\s]|$)", shown, text)
    return text


def _absolute(options: Options) -> Options:
    """Return options that mean the same in another folder of work."""
    copy: Options = object.__new__(Options)
    for name, value in vars(options).items():
        value = value.absolute() if isinstance(value, Path) else value
        object.__setattr__(copy, name, value)
    return copy


def _absolute_job(job: Job) -> Job:
    files = tuple(path.absolute() for path in job.files)
    return replace(job, files=files, folder=job.folder.absolute())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
