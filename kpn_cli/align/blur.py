"""Compare the sharpness of frames with the reference's: shake and missed focus lose edges."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side of the boxes whose means are compared, in cells: finer blur does not change them.
_BOX_SIDE = 4
#: A gradient is an edge if it is among this share of the reference's largest, and at least
#: this many sigmas of its noise.
_STRONGEST_SHARE, _EDGE_SIGMAS = 0.1, 5.0
#: A picture with fewer edges says nothing about sharpness.
_MIN_EDGES = 30


def normalised_gradients(frames: Tensor, variance: Tensor) -> list[Tensor]:
    """Return the differences of neighbouring boxes over the sigma of their noise.

    Args:
        frames: `(frames, 4, height, width)`, linear, aligned.
        variance: `(4, height, width)`, of the noise.

    Returns:
        Two tensors `(frames, differences)`, absolute values: across (left to right) and down.
    """
    box = min(_BOX_SIDE, *frames.shape[-2:])
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


def relative_sharpness(squares: Sequence[Sequence[Tensor]]) -> list[float]:
    """Return how many edges each frame has for one of the reference, which is the first frame.

    Edges are counted across and down, and the lower ratio is returned: camera shake removes the
    edges of one direction. They count wherever they are in the frame, so alignment does not
    matter; a frame of another scene may have as many.

    Args:
        squares: `normalised_gradients` of squares spread over the picture.

    Returns:
        For each frame a ratio from 0 to 1; 1 where the reference has too few edges.
    """
    lowest = torch.ones(len(squares[0][0]))
    for gradients in (torch.cat(parts, 1).cpu() for parts in zip(*squares, strict=True)):
        reference = gradients[0]
        if len(reference) < _MIN_EDGES:
            continue
        threshold = max(float(reference.quantile(1 - _STRONGEST_SHARE)), _EDGE_SIGMAS)
        edges = (gradients > threshold).sum(1)
        if edges[0] >= _MIN_EDGES:
            lowest = torch.minimum(lowest, edges / edges[0])
    return lowest.tolist()
