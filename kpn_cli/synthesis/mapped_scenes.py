"""Scenes in one file that several processes map into memory, so that they share a single copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..system.files import write_error
from .photos import LazyScenes, Scene


class MappedScenes(LazyScenes):
    """Scenes whose samples are read from a file; to pickle them costs a few bytes each.

    The file must stay for as long as they are used.
    """

    def __init__(self, scenes: Sequence[Scene], path: Path) -> None:
        """Write the samples of scenes to a file that no one else uses.

        Raises:
            KpnError: if it cannot be written.
        """
        self._path = path
        self._samples: np.ndarray | None = None
        self._index: list[tuple[str, str, tuple[int, ...], int]] = []
        try:
            with open(path, "wb") as file:
                for scene in scenes:
                    kind, shape = scene.channels.dtype.str, scene.channels.shape
                    self._index.append((scene.name, kind, shape, file.tell()))
                    file.write(np.ascontiguousarray(scene.channels).data)
        except OSError as error:
            raise write_error(path, error) from None

    def __len__(self) -> int:
        return len(self._index)

    def scene(self, index: int) -> Scene:
        """Return the scene at an index from 0."""
        if self._samples is None:
            # OpenCV refuses subclasses of arrays; the view keeps the file mapped.
            self._samples = np.memmap(self._path, np.uint8, "r").view(np.ndarray)
        name, kind, shape, offset = self._index[index]
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        return Scene(name, self._samples[offset : offset + size].view(kind).reshape(shape))

    def __getstate__(self) -> dict[str, object]:
        """Return what another process needs: it maps the file itself."""
        return self.__dict__ | {"_samples": None}
