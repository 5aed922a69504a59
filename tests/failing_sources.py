"""Sources of training bursts that fail, in a module that spawned processes can import."""

from __future__ import annotations

import os
import signal

from kpn_cli.errors import KpnError
from kpn_cli.synthesis.patches import TrainingBatch


class Killed:
    """A source whose process is killed; one that raises the error of a damaged file."""

    digest = ""

    def __init__(self, error: str = "") -> None:
        self.error = error

    def draw(self, seed, members, config, map_function=map) -> TrainingBatch:
        if self.error:
            raise KpnError(self.error)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Broken:
    """A source that has a bug."""

    digest = ""

    def draw(self, seed, members, config, map_function=map) -> TrainingBatch:
        raise RuntimeError("sizes do not match")
