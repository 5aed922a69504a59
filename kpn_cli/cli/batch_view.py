"""What `kpn denoise` shows while it works: progress bars, and lines for each burst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .console import (
    SCANNING,
    count,
    log_only,
    noise_text,
    note,
    print_path,
    show_ignored,
    show_remarks,
    show_result,
)
from .journal import tell_plan, tell_result
from .plan_view import warn_of_space
from .streams import make_bars

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ..batch.plan import Job, Plan
    from ..batch.read_ahead import BurstOutcome
    from ..pipeline.options import Options
    from ..pipeline.result import Result, Stage


class BatchView:
    """A bar for the bursts, a bar for the stages of the current burst, and lines for each burst.

    It implements `batch.run.View`. Only the paths of outputs go to stdout.

    Attributes:
        summary: of the bursts so far.
    """

    def __init__(self, options: Options | None, quiet: bool = False) -> None:
        """Begin without bursts.

        Args:
            options: for the space that the outputs need; None for outputs that need hardly any.
            quiet: whether nothing is printed but the bars and a warning of a full disk.
        """
        from ..batch.read_ahead import Summary

        self.summary = Summary()
        self._options = options
        self._quiet = quiet
        self._bars = make_bars()
        self._stage = self._bars.add_task(SCANNING, total=None)
        self._bursts: TaskID | None = None
        self._share: list[Job] = []
        self._done = self._total = 0
        self._shown: Job | None = None

    def __enter__(self) -> BatchView:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def scanning(self, done: int, total: int) -> None:
        """Move the bar while files are scanned."""
        self._bars.update(self._stage, completed=done, total=total)

    def begin(self, plan: Plan, share: Sequence[Job]) -> None:
        """Show the number of bursts, and warn of a disk that is too small for the results.

        Args:
            plan: all bursts.
            share: those that this process denoises.
        """
        from ..batch.outlook import look_at_space

        self._share, self._total = list(share), len(plan.jobs)
        self.summary.failures += plan.failures
        self.summary.left_out += plan.left_out
        if self._options is not None:
            warn_of_space(look_at_space(plan.jobs, self._options))
        if len(plan.jobs) > 1:
            self._bursts = self._bars.add_task("bursts", total=len(share))
        with log_only(self._quiet):
            show_ignored(plan)
            if len(plan.jobs) > 1:
                self._show_counts(plan)
            tell_plan(plan)

    def _show_counts(self, plan: Plan) -> None:
        frames = count(sum(len(job.files) for job in plan.jobs), "frame")
        singles = sum(len(job.files) == 1 for job in plan.jobs)
        of_one = f", {singles} of them with a single frame" if singles else ""
        note(f"found {frames} in {len(plan.jobs)} bursts{of_one}")

    def stage(self, job: Job, stage: Stage) -> None:
        """Show the stage of the burst that the network works on or waits for."""
        # The next burst is read and the last one written meanwhile: the bar stays with the burst
        # that it shows until the network turns to the next.
        at_network = stage.name in ("aligning", "denoising") or self._shown in (None, job)
        if at_network or job is self._share[-1]:
            self._shown = job
            self._bars.update(
                self._stage, description=stage.name, completed=stage.done, total=stage.total
            )

    def done(self, outcome: BurstOutcome) -> None:
        """Show the result of a burst, or its error."""
        self._done += 1
        self.summary.add(outcome)
        if self._bursts is not None:
            self._bars.update(self._bursts, completed=self._done)
        with log_only(self._quiet):
            self._show(outcome)

    def tell(self, line: str) -> None:
        """Show a line about the workers of a cluster."""
        with log_only(self._quiet):
            note(line)

    def on_workers(self, workers: int) -> None:
        """Show the number of workers of a cluster, in the one bar."""
        where = f"on {count(workers, 'worker')}"
        if self._bursts is None:
            self._bars.update(self._stage, description=where, completed=0, total=None)
        else:
            self._bars.update(self._stage, visible=False)
            self._bars.update(self._bursts, description=f"bursts {where}")

    def _show(self, outcome: BurstOutcome) -> None:
        if outcome.result is None:
            # The error of a single burst is shown by the summary.
            if outcome.failure is not None and self._bursts is not None:
                note(f"{self._position} failed: {outcome.failure.message()}")
            if outcome.left_out is not None and self._bursts is not None:
                note(f"{self._position} left out: {outcome.left_out.reason}")
        elif self._bursts is None:
            show_result(outcome.result)
        else:
            self._show_in_batch(outcome.result)
        if outcome.result is not None:
            tell_result(outcome.result)

    @property
    def _position(self) -> str:
        return f"[{self._done}/{self._total}]"

    def _show_in_batch(self, result: Result) -> None:
        if result.skipped:
            note(f"{self._position} {result.reference}: skipped (outputs exist)")
            return
        frames, noise = count(len(result.frames), "frame"), noise_text(result.noise)
        note(f"{self._position} {result.reference}: {frames}, {noise}, {result.seconds:.1f} s")
        show_remarks(result)
        for path in result.outputs.values():
            print_path(path)
