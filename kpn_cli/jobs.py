"""`kpn denoise` as a whole: find the bursts, share them out among processes, denoise them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol

import torch

from .batch import Outcome, Summary, denoise_all
from .decoder import Decoder
from .options import Options
from .pipeline import Stage
from .plan import Grouping, Job, Plan, make_plan
from .world import world

#: How long a process that has done its share waits for the others.
_PATIENCE = timedelta(days=30)


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
    # Results are exchanged as objects, for which the CPU does whatever the network runs on.
    with world(torch.device("cpu"), _PATIENCE) as processes, Decoder() as decoder:
        # One plan: with two, a file that comes meanwhile would move all shares.
        found = processes.from_first(
            lambda: make_plan(paths, options, how, decoder.capture, view.looking)
        )
        own = found.jobs[processes.rank :: processes.size]
        view.begin(found, own)
        outcomes = []
        # Closed before the decoder is, whatever happens: its threads use it.
        with closing(denoise_all(own, options, read=decoder.planes, on_stage=view.stage)) as bursts:
            for outcome in bursts:
                view.done(outcome)
                outcomes.append(outcome)
        shares = processes.gather(outcomes)
        if not processes.writes:
            return None
        for outcome in chain.from_iterable(shares[1:]):
            view.done(outcome)
        summary = Summary(failures=list(found.failures))
        for outcome in filter(None, chain.from_iterable(zip_longest(*shares))):
            summary.add(outcome)
        return summary
