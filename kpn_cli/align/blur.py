"""How sharp frames are beside the reference: what shake and missed focus take away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Neighbouring boxes of so many cells a side are compared: finer blur leaves them alone.
_BOX = 4
#: Their difference is an edge if it is among the reference's largest, of which this is the
#: share, and so many times its noise.
_STRONGEST, _SIGMAS = 0.1, 5.0
#: Fewer edges than that say nothing.
_ENOUGH = 30


def contrasts(frames: Tensor, variance: Tensor) -> list[Tensor]:
    """Return how much neighbouring boxes differ, in sigmas of noise, across and down.

    Args:
        frames: `(frames, 4, height, width)`, linear, aligned.
        variance: `(4, height, width)`, of the noise.

    Returns:
        Two of `(frames, differences)`.
    """
    box = min(_BOX, *frames.shape[-2:])
    grey = F.avg_pool2d(frames.mean(1), box)
    noise = F.avg_pool2d(variance.mean(0)[None], box) / (4 * box * box)
    return [
        (
            grey.diff(dim=dim).abs()
            / (noise.narrow(dim, 1, size) + noise.narrow(dim, 0, size)).sqrt()
        ).flatten(1)
        for dim in (2, 1)
        for size in [grey.shape[dim] - 1]
    ]


def sharpness(places: Sequence[Sequence[Tensor]]) -> list[float]:
    """Return how many edges each frame has for one of the reference, which is the first.

    Across or down, whichever are fewer: shake takes those of one direction. What is counted
    are edges anywhere in the frame, so that it doesn't matter whether they lie over the
    reference's; frames of another scene may have as many.

    Args:
        places: `contrasts` of places all over the picture.

    Returns:
        Shares, 1 where there is too little to be seen.
    """
    least = torch.ones(len(places[0][0]))
    for differences in (torch.cat(parts, 1).cpu() for parts in zip(*places, strict=True)):
        reference = differences[0]
        if len(reference) < _ENOUGH:
            continue
        edge = max(float(reference.quantile(1 - _STRONGEST)), _SIGMAS)
        edges = (differences > edge).sum(1)
        if edges[0] >= _ENOUGH:
            least = torch.minimum(least, edges / edges[0])
    return least.tolist()
