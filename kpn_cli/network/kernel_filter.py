"""Filter each frame with its own per-pixel kernels, forward and backward.

In the symbols of Mildenhall et al., "Burst Denoising with Kernel Prediction Networks" (CVPR
2018): `f_i^p . V^p(X_i)`, the inner product of the kernel f_i^p that is predicted for frame i at
pixel p (K x K weights) with the K x K neighbourhood V^p(X_i) of p in frame X_i.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Samples of a burst that are filtered together, so that they stay in the cache.
_CACHED_SAMPLES = 2**18


class _FilterFrames(torch.autograd.Function):
    """Each frame filtered with its own kernels.

    Written by hand because autograd would keep 25 shifted copies of the burst:
    forward adds one tap at a time to the result, backward needs nothing but
    frames and kernels. Both take the burst in bands that stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, kernels: Tensor, dilation: int) -> Tensor:
        batch, count, taps, height, width = kernels.shape
        side = round(taps**0.5)
        out = padded.new_zeros(batch, count, padded.shape[2], height, width)
        step = max(_CACHED_SAMPLES // (width * count * padded.shape[2]), 1)
        for b, top in product(range(batch), range(0, height, step)):
            band = out[b, :, :, top : top + step]
            rows = band.shape[2]
            for tap in range(taps):
                row, column = (dilation * i for i in divmod(tap, side))
                window = padded[b, :, :, top + row : top + row + rows, column : column + width]
                band.addcmul_(window, kernels[b, :, tap, None, top : top + rows])
        # Kernels are large: they are kept only if backward needs them.
        ctx.save_for_backward(padded, *([kernels] if ctx.needs_input_grad[0] else []))
        ctx.side, ctx.dilation = side, dilation
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        padded, *kernels = ctx.saved_tensors
        batch, count, planes, height, width = gradient.shape
        out = gradient.new_empty(batch, count, ctx.side, ctx.side, height, width)
        # (batch, count, planes, side, side, height, width): a view, every shift of every plane
        windows = padded.unfold(3, height, 1).unfold(4, width, 1)
        windows = windows[:, :, :, :: ctx.dilation, :: ctx.dilation]
        for b in range(batch):
            for n in range(count):
                torch.mul(windows[b, n, 0], gradient[b, n, 0], out=out[b, n])
                for plane in range(1, planes):
                    out[b, n].addcmul_(windows[b, n, plane], gradient[b, n, plane])
        back = None
        if kernels:
            back = torch.zeros_like(padded)
            for b, tap in product(range(batch), range(ctx.side**2)):
                row, column = (ctx.dilation * i for i in divmod(tap, ctx.side))
                window = back[b, :, :, row : row + height, column : column + width]
                window.addcmul_(gradient[b], kernels[0][b, :, tap, None])
        return back, out.flatten(2, 3), None


def filter_frames(burst: Tensor, kernels: Tensor, dilation: int = 1) -> Tensor:
    """Return each frame filtered with its own per-pixel kernels.

    Beyond its border a frame is continued by its border sample.

    Args:
        burst: `(batch, count, planes, height, width)`, the frames X_i, linear.
        kernels: `(batch, count, K*K, height, width)`, f_i, row by row, K odd; shared by the
            planes.
        dilation: distance between neighbouring taps, in cells.

    Returns:
        `(batch, count, planes, height, width)`.
    """
    reach = round(kernels.shape[2] ** 0.5) // 2 * dilation
    return filter_padded(pad_frames(burst, reach), kernels, dilation)


def filter_padded(padded: Tensor, kernels: Tensor, dilation: int = 1) -> Tensor:
    """Filter frames that `pad_frames` has continued already.

    Args:
        padded: `(batch, count, planes, height + 2 * reach, width + 2 * reach)`, where reach is
            `K // 2 * dilation`.
        kernels, dilation: as in `filter_frames`.

    Returns:
        `(batch, count, planes, height, width)`.
    """
    # torch declares no types for `apply`.
    filtered: Tensor = _FilterFrames.apply(padded, kernels, dilation)  # type: ignore[no-untyped-call]
    return filtered


def pad_frames(burst: Tensor, reach: int) -> Tensor:
    """Continue frames `(batch, count, planes, height, width)` by `reach` cells on each side."""
    padded = F.pad(burst.flatten(1, 2), (reach,) * 4, mode="replicate")
    return torch.unflatten(padded, 1, burst.shape[1:3])
