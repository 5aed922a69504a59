"""A run of `kpn denoise`: find the bursts, share them among processes, denoise, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import KpnError
from ..pipeline.loading import READERS
from ..pipeline.options import Options
from ..pipeline.result import Failure, Stage
from ..raw.capture_cache import CaptureCache
from ..raw.decoder_process import Decoders
from ..system.cluster import Cluster
from ..system.distributed import process_group
from ..system.faults import bug
from ..system.interrupts import interrupt_afterwards
from .captures import FILES_TO_READ, Captures
from .cluster import denoise_on
from .plan import GroupingOptions, Job, Plan, make_plan
from .read_ahead import BurstOutcome, Summary, denoise_all
from .speed import keep_speed

if TYPE_CHECKING:
    from .report import CollectedSections, SectionWriter

#: Time limit for a process that waits for the others.
_TIMEOUT = timedelta(days=30)


class View(Protocol):
    """Shows the progress of a run; the command line implements it."""

    def scanning(self, done: int, total: int) -> None:
        """`done` of `total` files are examined."""

    def begin(self, plan: Plan, share: Sequence[Job]) -> None:
        """The bursts are known; `share` are the bursts of this process."""

    def stage(self, job: Job, stage: Stage) -> None:
        """A burst has reached a step of a stage; called from several threads."""

    def done(self, outcome: BurstOutcome) -> None:
        """A burst has succeeded or failed."""

    def tell(self, line: str) -> None:
        """The workers of a cluster have changed, or the like."""

    def on_workers(self, workers: int) -> None:
        """So many workers of a cluster do the work now."""


def plan_batch(
    paths: Sequence[Path],
    options: Options,
    how: GroupingOptions,
    on_file: Callable[[int, int], None] = lambda done, total: None,
    *,
    failures: Sequence[Failure] = (),
    use_cache: bool = True,
) -> Plan:
    """Find the bursts without denoising them; see `plan.make_plan`.

    Several files are read at a time; those that earlier runs have read are not read again, unless
    `use_cache` is false.
    """
    with Decoders(READERS) as decoder:
        find = partial(make_plan, paths, options, how, on_file=on_file, failures=failures)
        return plan_with(decoder, find, use_cache=use_cache)


def plan_with(decoder: Decoders, find: Callable[..., Plan], *, use_cache: bool) -> Plan:
    """Return a plan, made with several decoders and what earlier runs have read.

    Args:
        decoder: reads files; its children may be ended.
        find: `plan.make_plan` with all arguments but `capture`.
        use_cache: whether files that earlier runs have read are not read again.
    """
    with CaptureCache() if use_cache else nullcontext() as cache:
        captures = Captures(decoder.capture, cache)
        plan = find(capture=captures)
    if cache is not None:
        plan = replace(plan, no_cache=cache.problem)
    if captures.read > FILES_TO_READ:  # by several children, whose memory the bursts need
        decoder.close()
    return plan


def run_batch(
    paths: Sequence[Path],
    options: Options,
    how: GroupingOptions,
    view: View,
    *,
    failures: Sequence[Failure] = (),
    use_cache: bool = True,
    cluster: Cluster | None = None,
) -> Summary | None:
    """Find bursts and denoise them; under `torchrun`, the share of this process.

    Args:
        paths: files and folders; all processes must see them and the folder of outputs.
        options: how to denoise.
        how: how to group files.
        view: shows the progress of this process; the first process also gets the outcomes of
            the others, at the end.
        failures: what the user named and could not be found.
        use_cache: whether files that earlier runs have read are not read again for the plan.
        cluster: the workers that denoise; None to denoise in this process.

    Returns:
        The summary of all bursts; None on processes other than the first.

    Raises:
        KpnError: if no burst can be denoised.
    """
    if options.report:
        with interrupt_afterwards():
            from . import report  # needs PyTorch, for which reading must not wait otherwise

        report.check_path(options.output)  # before the work, in case it is not possible
    start = time.monotonic()
    # Results are exchanged as Python objects, so over the CPU, whatever the network runs on.
    with process_group(None, _TIMEOUT) as processes, Decoders(READERS) as decoder:
        # One plan for all: with a plan in each process, a new file would change their shares.
        find = partial(make_plan, paths, options, how, on_file=view.scanning, failures=failures)
        plan = processes.make_on_first(lambda: plan_with(decoder, find, use_cache=use_cache))
        share = plan.jobs[processes.rank :: processes.size]
        view.begin(plan, share)
        with (
            report.collect_sections(options, len(plan.jobs)) if options.report else nullcontext()
        ) as sections:
            outcomes: list[BurstOutcome] = []
            begun = time.monotonic()
            try:
                # Closed before the decoder, whatever happens: its threads use the decoder.
                with closing(
                    denoise_all(
                        share,
                        options,
                        read=decoder.planes,
                        read_notes=decoder.camera_notes,
                        on_all_read=decoder.close,  # for the memory of its children
                        sections=sections,
                        on_stage=view.stage,
                    )
                    if cluster is None
                    else denoise_on(
                        cluster,
                        share,
                        options,
                        read=decoder.planes,
                        sections=sections,
                        on_stage=view.stage,
                        on_workers=view.on_workers,
                        tell=view.tell,
                    )
                ) as bursts:
                    for outcome in bursts:
                        view.done(outcome)
                        outcomes.append(outcome)
            except (KeyboardInterrupt, KpnError):  # such as a cluster whose scheduler is gone
                if sections and processes.size == 1:
                    _report_interrupted(plan, outcomes, options, sections, start)
                raise
            if cluster is not None:  # they ended in any order
                order = {id(job): number for number, job in enumerate(share)}
                outcomes.sort(key=lambda outcome: order[id(outcome.job)])
            elif processes.size == 1:
                _keep_speed(options, outcomes, time.monotonic() - begun)
            shares = processes.gather((outcomes, sections.collected if sections else None))
            summary = None
            if processes.is_first:
                for outcome in chain.from_iterable(done for done, _ in shares[1:]):
                    view.done(outcome)
                summary = _summary(plan, [done for done, _ in shares])
                if sections:
                    collected = [part for _, part in shares if part is not None]
                    _report(summary, plan, options, collected, start)
            if sections:
                processes.barrier()  # the first process reads the sections of the others
        return summary


def _keep_speed(options: Options, outcomes: Sequence[BurstOutcome], seconds: float) -> None:
    """Keep the speed of a run for the estimates of dry runs, unless it skipped bursts."""
    done = [outcome for outcome in outcomes if outcome.result is not None]
    if not any(outcome.result.skipped for outcome in done if outcome.result):
        keep_speed(options, [outcome.job for outcome in done], seconds)


def _summary(plan: Plan, shares: Sequence[Sequence[BurstOutcome]]) -> Summary:
    """Return the outcomes of all processes in the order of the plan."""
    summary = Summary(failures=list(plan.failures), left_out=list(plan.left_out))
    for outcome in filter(None, chain.from_iterable(zip_longest(*shares))):
        summary.add(outcome)
    return summary


def _report(
    summary: Summary,
    plan: Plan,
    options: Options,
    collected: Sequence[CollectedSections],
    start: float,
) -> None:
    """Write the report; add its path to the summary, or the error to its failures."""
    from . import report

    try:
        summary.report = report.publish(
            options,
            summary.results,
            summary.failures,
            collected,
            left_out=summary.left_out,
            planned=len(plan.jobs) + len(plan.failures) + len(plan.left_out),
            seconds=time.monotonic() - start,
        )
    except Exception as error:  # the pictures are written: the user must learn which
        known = error if isinstance(error, KpnError) else bug(error, "writing the report")
        summary.failures.append(Failure((options.output / report.NAME,), str(known)))


def _report_interrupted(
    plan: Plan,
    outcomes: Sequence[BurstOutcome],
    options: Options,
    sections: SectionWriter,
    start: float,
) -> None:
    """Write the report of finished bursts, including one that was written during the interrupt."""
    summary = _summary(plan, [outcomes])
    shown = {result.reference for result in summary.results}
    made = [section.result for section in sections.collected.sections.values()]
    summary.results += [result for result in made if result.reference not in shown]
    order = {path: number for number, job in enumerate(plan.jobs) for path in job.files}
    summary.results.sort(key=lambda result: order.get(result.reference, len(order)))
    if summary.results:
        _report(summary, plan, options, [sections.collected], start)
