"""Replace the clipped samples of other frames by the reference's, in bursts of mixed exposure."""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.filters import box

#: Share of the clipping point from which on a sample counts as clipped.
_CLIPPED = 0.99
#: The weight falls to 0 this many sigmas of the noise below the clipping point, but between
#: these two shares of it.
_CLIP_SIGMAS, _MIN_FADE_END, _MAX_FADE_END = 2.0, 0.5, 0.97
#: Length of the fade from 1 to 0, as a share of the clipping point.
_FADE_LENGTH = 0.2


def exclude_clipped(
    burst: Tensor, shot: Tensor, read: Tensor, clip: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace samples that other frames recorded at or near their clipping points.

    One weight for the four planes of a cell falls smoothly from 1 to 0 as the brightest of
    them nears the frame's clipping point. It is judged by the cells around it in the reference,
    whose noise is independent. Judged by the frame itself, cells that are bright by chance
    would be left out, and the rest would be too dark; judged by the reference's own sample, that
    would be taken where it is bright by chance, most of all in the brightest plane. Where any
    plane of the frame is clipped, the weight is 0, so that no tap of any kernel uses a clipped
    sample.

    Args:
        burst: `(batch, count, 4, height, width)`, linear, in the reference's exposure, the
            reference first.
        shot, read: `(batch, count, 4)` variance coefficients in the reference's exposure.
        clip: `(batch, count)`, the signal from which on a frame is clipped, in the reference's
            exposure; infinite for frames that need no replacement. The reference's is ignored.

    Raises:
        ValueError: for coefficients without an axis of frames.

    Returns:
        The burst, each frame blended with the reference by its weight, and the weights,
        `(batch, count, height, width)`, 0 to 1; the reference's are 1.
    """
    if shot.dim() != 3 or read.dim() != 3:
        raise ValueError("coefficients of each frame are needed, (batch, count, 4)")
    scale = clip.reciprocal()[:, :, None, None]  # zero for frames that never clip
    around = (9 * box(burst[:, 0], 3)).sub_(burst[:, 0]).div_(8)
    brightest = around.amax(1)[:, None] * scale
    end = fade_end(shot, read, clip)[..., None, None]
    weight = ((end - brightest) / _FADE_LENGTH).clamp(0, 1)
    weight = weight * weight * (3 - 2 * weight)
    weight = weight * (burst.amax(2) * scale < _CLIPPED)
    weight[:, 0] = 1
    return torch.lerp(burst[:, :1], burst, weight[:, :, None]), weight


def fade_end(shot: Tensor, read: Tensor, clip: Tensor) -> Tensor:
    """Return the signal beyond which noise reaches the clipping point, as a share of that.

    Args:
        shot, read: `(..., 4)` variance coefficients.
        clip: `(...)`, the clipping point; infinite for none.
    """
    scale = clip.reciprocal()[..., None]
    sigma = (shot * scale + read * scale.square()).amax(-1).sqrt()  # over the clipping point
    return (1 - _CLIP_SIGMAS * sigma).clamp(_MIN_FADE_END, _MAX_FADE_END)
