"""The pace of a training run, and how long it will take: by its length and by `--minutes`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ..batch.html import duration

#: Seconds between two lines where there is no progress bar.
_LINE_SECONDS = 60.0
#: Seconds over which the pace is measured: validations and checkpoints are part of it.
_PACE_SECONDS = 600.0


class TrainingPace:
    """Measures the patches per second of a run, and tells the time left."""

    def __init__(
        self, total: int, minutes: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock.

        Args:
            total: length of the run in patches.
            minutes: after which it stops; None for no limit.
            clock: returns the time in seconds.
        """
        self._total, self._clock = total, clock
        self._last_line = clock()
        self._deadline = None if minutes is None else self._last_line + 60 * minutes
        self._seen: deque[tuple[float, int]] = deque()

    def start(self, patches: int) -> None:
        """Take the number of patches that earlier commands trained on; `--minutes` begins now."""
        now = self._clock()
        if self._deadline is not None:
            self._deadline += now - self._last_line
        self._last_line = now
        self._seen.append((now, patches))

    def step(self, patches: int) -> None:
        """Take the number of patches trained on."""
        now = self._clock()
        # A point a second is enough, and the first one stays until there is another.
        if len(self._seen) < 2 or now - self._seen[-2][0] >= 1:
            self._seen.append((now, patches))
        else:
            self._seen[-1] = (now, patches)
        while len(self._seen) > 2 and now - self._seen[1][0] > _PACE_SECONDS:
            self._seen.popleft()

    def line_due(self) -> bool:
        """Whether a minute has passed since a line was due."""
        now = self._clock()
        due = now - self._last_line >= _LINE_SECONDS
        if due:
            self._last_line = now
        return due

    def left(self) -> str:
        """Return the time left in words; "" before the first patches."""
        speed, patches = self._speed(), self._patches()
        by_length = f"{duration((self._total - patches) / speed)} for all patches" if speed else ""
        return ", ".join(filter(None, (self.left_by_minutes(), by_length)))

    def left_by_minutes(self) -> str:
        """Return the time until `--minutes` ends the run in words; "" without a limit."""
        if self._deadline is None:
            return ""
        return f"{duration(max(self._deadline - self._clock(), 0))} by --minutes"

    def line(self) -> str:
        """Return a line: patches, share of the run, patches per second, time left."""
        share, left = self._patches() / self._total, self.left()
        line = f"{self._patches():>9} of {self._total} patches ({share:.0%})  {self._speed():.1f}/s"
        return f"{line}  left: {left}" if left else line

    def stopped(self) -> str:
        """Return a line if the run has ended before its length; "" otherwise."""
        patches = self._patches()
        if patches >= self._total:
            return ""
        return f"stopped by --minutes at {patches} of {self._total} patches"

    def _patches(self) -> int:
        return self._seen[-1][1] if self._seen else 0

    def _speed(self) -> float:
        if len(self._seen) < 2:
            return 0.0
        (since, first), (until, last) = self._seen[0], self._seen[-1]
        return (last - first) / max(until - since, 1e-9)
