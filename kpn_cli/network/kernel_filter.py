"""Filter each frame with its own per-pixel kernels, forward and backward.

In the symbols of Mildenhall et al., "Burst Denoising with Kernel Prediction Networks" (CVPR
2018): `f_i^p . V^p(X_i)`, the inner product of the kernel f_i^p that is predicted for frame i at
pixel p (K x K weights) with the K x K neighbourhood V^p(X_i) of p in frame X_i.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        for some, top, step in _pieces(out):
            band = out[some, :, :, top : top + step]
            rows = slice(top, top + band.shape[3])
            around = padded[some, :, :, top : rows.stop + dilation * (side - 1)]
            add_taps(band, around, kernels[some, :, :, rows], dilation)
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
        # On the CPU frame by frame, which stays in the cache.
        alone = gradient.device.type == "cpu"
        parts = product(range(batch), range(count)) if alone else [(slice(None), slice(None))]
        for b, n in parts:
            part, window, slope = out[b, n], windows[b, n], gradient[b, n]
            # Counted from the last dimension: the first two are absent or whole.
            shifted, slopes = window.unbind(-5), slope[..., None, None, :, :].unbind(-5)
            torch.mul(shifted[0], slopes[0], out=part)
            for plane in range(1, planes):
                part.addcmul_(shifted[plane], slopes[plane])
        back = None
        if kernels:
            back = torch.zeros_like(padded)
            members = [slice(b, b + 1) for b in range(batch)] if alone else [slice(None)]
            for some, tap in product(members, range(ctx.side**2)):
                row, column = (ctx.dilation * i for i in divmod(tap, ctx.side))
                window = back[some, ..., row : row + height, column : column + width]
                window.addcmul_(gradient[some], kernels[0][some, :, tap, None])
        return back, out.flatten(2, 3), None


def _pieces(out: Tensor) -> Iterator[tuple[slice, int, int]]:
    """Yield what is filtered together: bursts of a batch, the first row and the number of rows.

    On the CPU, bands of one burst, which stay in the cache; on accelerators everything at once,
    since the time of many small operations would be that of starting them.
    """
    batch, count, planes, height, width = out.shape
    if out.device.type != "cpu":
        yield slice(None), 0, height
        return
    step = max(_CACHED_SAMPLES // (width * count * planes), 1)
    for b, top in product(range(batch), range(0, height, step)):
        yield slice(b, b + 1), top, step


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


def add_taps(out: Tensor, padded: Tensor, kernels: Tensor, dilation: int) -> None:
    """Add filtered frames to `out`, tap by tap; not differentiable.

    Args:
        out: `(..., count, planes, height, width)`, changed in place.
        padded: `(..., count, planes, height + 2 * reach, width + 2 * reach)`, as in
            `filter_padded`.
        kernels: `(..., count, K*K, height, width)`.
        dilation: as in `filter_frames`.
    """
    height, width = out.shape[-2:]
    side = round(kernels.shape[-3] ** 0.5)
    for tap in range(side**2):
        row, column = (dilation * i for i in divmod(tap, side))
        window = padded[..., row : row + height, column : column + width]
        out.addcmul_(window, kernels[..., tap, None, :, :])


def continue_rows(frames: Tensor, first: int, out: Tensor, reach: int) -> None:
    """Copy rows of frames, continued as `pad_frames` does.

    Args:
        frames: `(count, planes, height, width)`.
        first: row of the frames that becomes the first of `out`; may be negative.
        out: `(count, planes, rows, width + 2 * reach)`, overwritten.
        reach: columns to add on each side.
    """
    height, width = frames.shape[-2:]
    above = min(max(-first, 0), out.shape[2])
    below = max(first + out.shape[2] - height, 0)
    inside = out[:, :, above : out.shape[2] - below, reach : reach + width]
    inside.copy_(frames[:, :, first + above : first + above + inside.shape[2]])
    middle = out[..., reach : reach + width]
    middle[:, :, :above] = frames[:, :, :1]
    middle[:, :, out.shape[2] - below :] = frames[:, :, -1:]
    out[..., :reach] = middle[..., :1]
    out[..., reach + width :] = middle[..., -1:]


def pad_frames(burst: Tensor, reach: int) -> Tensor:
    """Continue frames `(batch, count, planes, height, width)` by `reach` cells on each side."""
    padded = F.pad(burst.flatten(1, 2), (reach,) * 4, mode="replicate")
    return torch.unflatten(padded, 1, burst.shape[1:3])
