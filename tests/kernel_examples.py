"""Bursts with kernels, and the loop that filters them."""

from __future__ import annotations

import torch


def example(batch=2, count=3, channels=4, side=3, height=5, width=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    burst = torch.randn(batch, count, channels, height, width, generator=generator, dtype=dtype)
    kernels = torch.randn(batch, count, side**2, height, width, generator=generator, dtype=dtype)
    return burst, kernels


def by_loop(burst, kernels, dilation=1):
    """Sample by sample; differentiable by autograd."""
    batch, count, channels, height, width = burst.shape
    side = round(kernels.shape[2] ** 0.5)
    out = []
    for b, n, plane, y, x in torch.cartesian_prod(
        *(torch.arange(size) for size in (batch, count, channels, height, width))
    ).tolist():
        total = 0
        for tap in range(side**2):
            row = min(max(y + dilation * (tap // side - side // 2), 0), height - 1)
            column = min(max(x + dilation * (tap % side - side // 2), 0), width - 1)
            total = total + kernels[b, n, tap, y, x] * burst[b, n, plane, row, column]
        out.append(total)
    return torch.stack(out).view(burst.shape)
