"""`kpn denoise` as a whole: find the bursts, share them out among processes, denoise them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol

import torch

from ..errors import KpnError
from ..pipeline.options import Options
from ..pipeline.result import Failure, Stage
from ..raw.decoder_process import Decoder
from ..system.distributed import process_group
from . import report
from .overlap import Outcome, Summary, denoise_all
from .plan import Grouping, Job, Plan, make_plan
from .report import Collected, Sections

#: How long a process that has done its share waits for the others.
_TIMEOUT = timedelta(days=30)


class View(Protocol):
    """Who is told what goes on."""

    def looking(self, done: int, total: int) -> None:
        """So many files of so many are looked at."""

    def begin(self, plan: Plan, share: Sequence[Job]) -> None:
        """The bursts are known; `share` are those of this process."""

    def stage(self, job: Job, stage: Stage) -> None:
        """Something is being done to a burst; from several threads."""

    def done(self, outcome: Outcome) -> None:
        """A burst is done, or has failed."""


def plan(
    paths: Sequence[Path],
    options: Options,
    how: Grouping,
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Find the bursts; see `plan.make_plan`."""
    with Decoder() as decoder:
        return make_plan(paths, options, how, decoder.capture, on_file)


def run(paths: Sequence[Path], options: Options, how: Grouping, view: View) -> Summary | None:
    """Find bursts and denoise them; under `torchrun`, this process's share of them.

    Args:
        paths: files and folders; all processes have to see them, and the output's folder.
        options: how to denoise.
        how: files become bursts.
        view: told what goes on; of the first process alone, for all of its own share.

    Returns:
        What became of all bursts; None on processes that aren't the first.

    Raises:
        KpnError: if nothing can be done at all.
    """
    if options.report:
        report.check(options.output)  # before the work: it may not be possible
    start = time.monotonic()
    # Results are exchanged as objects, for which the CPU does whatever the network runs on.
    with process_group(torch.device("cpu"), _TIMEOUT) as processes, Decoder() as decoder:
        # One plan: with two, a file that comes meanwhile would move all shares.
        found = processes.make_on_first(
            lambda: make_plan(paths, options, how, decoder.capture, view.looking)
        )
        own = found.jobs[processes.rank :: processes.size]
        view.begin(found, own)
        with report.sections(options, len(found.jobs)) as sections:
            outcomes: list[Outcome] = []
            try:
                # Closed before the decoder is, whatever happens: its threads use it.
                with closing(
                    denoise_all(
                        own, options, read=decoder.planes, sections=sections, on_stage=view.stage
                    )
                ) as bursts:
                    for outcome in bursts:
                        view.done(outcome)
                        outcomes.append(outcome)
            except KeyboardInterrupt:
                if sections and processes.size == 1:
                    _report_interrupted(found, outcomes, options, sections, start)
                raise
            shares = processes.gather((outcomes, sections and sections.collected))
            summary = None
            if processes.is_first:
                for outcome in chain.from_iterable(share for share, _ in shares[1:]):
                    view.done(outcome)
                summary = _summary(found, [share for share, _ in shares])
                if sections:
                    _report(summary, found, options, [part for _, part in shares], start)
            if sections:
                processes.barrier()  # the first reads what the others have made
        return summary


def _summary(found: Plan, shares: Sequence[Sequence[Outcome]]) -> Summary:
    """Put the processes' outcomes back into the order of the plan."""
    summary = Summary(failures=list(found.failures))
    for outcome in filter(None, chain.from_iterable(zip_longest(*shares))):
        summary.add(outcome)
    return summary


def _report(
    summary: Summary, found: Plan, options: Options, collected: Sequence[Collected], start: float
) -> None:
    """Write the page, and say in the summary where it is, or why there is none."""
    try:
        summary.report = report.publish(
            options,
            summary.results,
            summary.failures,
            collected,
            planned=len(found.jobs) + len(found.failures),
            seconds=time.monotonic() - start,
        )
    except KpnError as error:
        summary.failures.append(Failure((options.output / report.NAME,), str(error)))


def _report_interrupted(
    found: Plan, outcomes: Sequence[Outcome], options: Options, sections: Sections, start: float
) -> None:
    """Write the page of what is done, also of the burst that was written meanwhile."""
    summary = _summary(found, [outcomes])
    told = {result.reference for result in summary.results}
    made = [piece.result for piece in sections.collected.pieces.values()]
    summary.results += [result for result in made if result.reference not in told]
    if summary.results:
        _report(summary, found, options, [sections.collected], start)
