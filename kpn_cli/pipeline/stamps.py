"""The time that outputs state as that of their modification."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo


@dataclass(frozen=True)
class Stamps:
    """What the time of modification depends on, besides the clock.

    Attributes:
        epoch: value of SOURCE_DATE_EPOCH; "" if it is not set.
        zone: time zone.
    """

    epoch: str
    zone: tzinfo | None

    @classmethod
    def here(cls) -> Stamps:
        """Return those of this process."""
        return cls(os.environ.get("SOURCE_DATE_EPOCH", ""), datetime.now().astimezone().tzinfo)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let this thread use them while the block lasts: a worker those of its client."""
        token = _used.set(self)
        try:
            yield
        finally:
            _used.reset(token)


_used: ContextVar[Stamps | None] = ContextVar("stamps", default=None)


def now() -> datetime:
    """Return the time of modification for outputs: now, or SOURCE_DATE_EPOCH if it is set.

    With SOURCE_DATE_EPOCH, outputs are the same bytes on every run
    (https://reproducible-builds.org/specs/source-date-epoch/).
    """
    stamps = _used.get() or Stamps.here()
    if stamps.epoch.isdecimal():
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(int(stamps.epoch), timezone.utc)
    return datetime.now(stamps.zone)
