"""Folders that several machines share: whether another process sees the same ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Seconds for which a worker waits for a folder that has vanished, before another worker tries.
FOLDER_SECONDS = 5.0
#: Folders of inputs that each worker must see, at most.
_SAMPLES = 32


@dataclass(frozen=True)
class SharedPaths:
    """What a worker of a run must see.

    Attributes:
        marker: a hidden file of the run in the folder of the outputs: a worker that sees it sees
            the same folder, and not just one of the same name.
        samples: some of the inputs, with their sizes in bytes.
    """

    marker: Path
    samples: tuple[tuple[Path, int], ...]

    def lacking(self, what: str) -> str:
        """Return which path this process does not see, and what to do; "" if it sees all.

        Args:
            what: the inputs are: "photos".
        """
        if not self.is_there():
            return f"does not see the output folder {self.folder}; put it on a disk that all share"
        for path, size in self.samples:
            try:
                there = path.stat().st_size
            except OSError:
                return f"does not see {path}; put the {what} on a disk that all share"
            if there != size:
                return f"sees another {path} ({there} bytes, here {size}); share one disk"
        return ""

    @property
    def folder(self) -> Path:
        """The folder of the outputs."""
        return self.marker.parent

    def is_there(self) -> bool:
        """Whether the folder of the outputs is there."""
        return os.path.lexists(self.marker)

    def comes_back(self) -> bool:
        """Whether the folder is there, or is there again within a few seconds."""
        return comes_back(self.marker)

    @property
    def vanished(self) -> str:
        """What to say of a worker without the folder."""
        return f"does not see the output folder {self.folder} any more"


def comes_back(path: Path) -> bool:
    """Whether a path is there, or is there again within a few seconds."""
    until = time.monotonic() + FOLDER_SECONDS
    while not os.path.lexists(path):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def shared_paths(marker: Path, files: Iterable[Path]) -> SharedPaths:
    """Return what workers must see: the marker, and one file of each of some folders.

    Args:
        marker: an existing file in the folder of the outputs.
        files: the inputs, absolute.
    """
    folders: dict[Path, Path] = {}
    for path in files:
        folders.setdefault(path.parent, path)
    paths = list(folders.values())
    found = []
    for path in paths[:: max(len(paths) // _SAMPLES, 1)][:_SAMPLES]:
        try:
            found.append((path, path.stat().st_size))
        except OSError:
            continue  # the work that needs it tells
    return SharedPaths(marker.absolute(), tuple(found))
