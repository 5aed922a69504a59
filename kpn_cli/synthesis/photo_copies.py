"""Photos that are there more than once, by their pixels: whatever their names and formats.

A copy among the training photos gives its scene twice the weight. A validation photo among the
training photos makes the validation say nothing about other photos.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from ..burst.copies import pixel_digest
from .photos import Scene


def copies_among(scenes: Sequence[Scene]) -> list[list[int]]:
    """Return the groups of indices of scenes with the same samples, each of two or more."""
    alike: dict[Hashable, list[int]] = {}
    for index, scene in enumerate(scenes):
        alike.setdefault(_sketch(scene), []).append(index)
    groups: dict[str, list[int]] = {}
    for indices in alike.values():
        if len(indices) > 1:  # a digest of all samples costs as much as reading the photo
            for index in indices:
                groups.setdefault(pixel_digest(scenes[index].channels), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def copies_in(scenes: Sequence[Scene], others: Sequence[Scene]) -> list[int]:
    """Return the indices of the scenes that are among others too."""
    count = len(scenes)
    groups = copies_among([*scenes, *others])
    return sorted(
        index for group in groups if max(group) >= count for index in group if index < count
    )


def _sketch(scene: Scene) -> Hashable:
    """Return what is equal for copies, and differs for nearly all other photos."""
    samples = scene.channels
    return samples.shape, samples.dtype.str, samples[:, ::97, ::89].astype(np.float64).sum().item()
