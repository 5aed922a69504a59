"""What `kpn denoise` shows while it works: bars, and a line for each burst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from .console import (
    STDERR,
    count_frames,
    noise_text,
    note,
    print_path,
    show_ignored,
    show_remarks,
    show_result,
    shows_bars,
)

if TYPE_CHECKING:
    from ..batch.overlap import BurstOutcome
    from ..batch.plan import Job, Plan
    from ..pipeline.result import Result, Stage


class Batch:
    """Shows bars for bursts and for what is done to the present one, and lines for each.

    On stdout, the paths of outputs alone; with `quiet`, nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._quiet = quiet
        self._bars = Progress(*columns, console=STDERR, transient=True, disable=not shows_bars())
        self._stage = self._bars.add_task("looking at files", total=None)
        self._bursts: TaskID | None = None
        self._share: list[Job] = []
        self._done = self._total = 0
        self._shown: Job | None = None

    def __enter__(self) -> Batch:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def scanning(self, done: int, total: int) -> None:
        """Move the bar while files are looked at."""
        self._bars.update(self._stage, completed=done, total=total)

    def begin(self, plan: Plan, share: Sequence[Job]) -> None:
        """Show how many bursts there are."""
        self._share, self._total = list(share), len(plan.jobs)
        if not self._quiet:
            show_ignored(plan)
        if len(plan.jobs) > 1:
            self._bursts = self._bars.add_task("bursts", total=len(share))
            frames = sum(len(job.files) for job in plan.jobs)
            singles = sum(len(job.files) == 1 for job in plan.jobs)
            also = f", {singles} of them single frames" if singles else ""
            if not self._quiet:
                note(f"{frames} frames in {len(plan.jobs)} bursts{also}")

    def stage(self, job: Job, stage: Stage) -> None:
        """Show what is done to the burst that the network is at, or waits for."""
        # Others are read and written meanwhile; a burst is shown until the next one's turn.
        waited_for = stage.name in ("aligning", "denoising") or self._shown in (None, job)
        if waited_for or job is self._share[-1]:
            self._shown = job
            self._bars.update(
                self._stage, description=stage.name, completed=stage.done, total=stage.total
            )

    def done(self, outcome: BurstOutcome) -> None:
        """Show what became of a burst."""
        self._done += 1
        if self._bursts is not None:
            self._bars.update(self._bursts, completed=self._done)
        if self._quiet:
            return
        if outcome.failure is not None and self._bursts is None:
            return  # the summary says it
        if outcome.failure is not None:
            note(f"[{self._done}/{self._total}] failed: {outcome.failure.message()}")
        elif self._bursts is None:
            show_result(outcome.result)
        else:
            self._line(outcome.result)

    def _line(self, result: Result) -> None:
        place = f"[{self._done}/{self._total}]"
        if result.skipped:
            note(f"{place} {result.reference}: there already")
            return
        frames = count_frames(len(result.frames))
        noise = noise_text(result.noise)
        note(f"{place} {result.reference}: {frames}, {noise}, {result.seconds:.1f} s")
        show_remarks(result)
        for path in result.outputs.values():
            print_path(path)
