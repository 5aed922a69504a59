"""The training loss: L2 on gamma-corrected pixels plus L1 on their gradients, annealed.

Mildenhall et al., "Burst Denoising with Kernel Prediction Networks", CVPR 2018,
equations 6-8; the balanced form is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import KpnError
from ..image.srgb import srgb_curve

_NEGLIGIBLE = 1e-3  # weight of the per-frame terms, at which they are left out


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss; the paper's symbols in brackets.

    Attributes:
        pixels: weight of the squared error [lambda 2].
        gradients: weight of the absolute error of the gradients [lambda 1]. Small,
            because on means over a patch the squared error is far the smaller
            number of the two.
        anneal: weight of the per-frame terms at the start [beta]; 0, or above 0.001.
        decay: its factor per step [alpha].
        balanced: mean over patches of the logarithm of the loss. The noisiest,
            darkest patches have losses hundreds of times the others' and would
            drown them.
    """

    pixels: float = 1.0
    gradients: float = 0.02
    anneal: float = 0.1
    decay: float = 0.997
    balanced: bool = True

    def __post_init__(self) -> None:
        if 0 < self.anneal <= _NEGLIGIBLE:
            raise KpnError(
                f"training: annealing {self.anneal} is too little to matter; give 0, "
                f"or more than {_NEGLIGIBLE}"
            )

    def anneal_weight(self, step: int) -> float:
        """The weight beta * alpha^t of the per-frame terms; zero once it no longer matters."""
        weight = self.anneal * self.decay**step
        return weight if weight > _NEGLIGIBLE else 0.0


def patch_loss(output: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Return the basic loss of each patch: `(..., planes, height, width)` -> `(...)`.

    Both arguments are gamma-corrected and at least 2 samples high and wide.
    """
    error = output - target
    squares = error.square().mean((-3, -2, -1))
    rows = error.diff(dim=-2).abs().mean((-3, -2, -1))
    columns = error.diff(dim=-1).abs().mean((-3, -2, -1))
    return config.pixels * squares + config.gradients * (rows + columns)


def annealed_loss(
    clean: Tensor,
    per_frame: Tensor | None,
    truth: Tensor,
    white: Tensor,
    config: LossConfig,
    step: int,
) -> Tensor:
    """Return the loss of a batch, a scalar.

    `l(Y) + beta alpha^t sum_i l(f_i(X_i))`, averaged over patches, or the average of its
    logarithm when balanced.

    Args:
        clean: `(batch, 4, height, width)`, Y, all that `merge` made of the burst, linear.
        per_frame: `(batch, count, 4, height, width)`, each frame under its kernels;
            None where there is no such thing, and no annealing then.
        truth: `(batch, 4, height, width)`, linear.
        white: `(batch,)`, the scene's white level; all is divided by it before
            the gamma curve.
        step: t, counted in optimiser steps.
    """
    scale = white[:, None, None, None]
    target = srgb_curve(truth / scale)
    loss = patch_loss(srgb_curve(clean / scale), target, config)
    weight = config.anneal_weight(step)
    if weight > 0 and per_frame is not None:
        each = patch_loss(srgb_curve(per_frame / scale[:, None]), target[:, None], config)
        loss = loss + weight * each.sum(1)
    return (loss + 1e-8).log().mean() if config.balanced else loss.mean()
