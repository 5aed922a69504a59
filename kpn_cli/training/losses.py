"""The training loss: L2 on gamma-corrected pixels plus L1 on their gradients, annealed.

Mildenhall et al., "Burst Denoising with Kernel Prediction Networks", CVPR 2018, equations 6-8.
The balanced form is not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import KpnError
from ..image.srgb import srgb_curve

#: Weight of the per-frame terms from which on they are left out.
_NEGLIGIBLE = 1e-3


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss, with the paper's symbols in brackets.

    Attributes:
        pixels: weight of the squared error [lambda 2].
        gradients: weight of the absolute error of the gradients [lambda 1]. It is small because
            the mean squared error is a far smaller number than the mean absolute error.
        anneal: weight of the per-frame terms at the start [beta]; 0, or above 0.001.
        decay: factor of that weight per step [alpha].
        balanced: whether to average the logarithm of the patches' losses. Otherwise the noisiest
            and darkest patches, with losses hundreds of times the others', dominate.

    Raises:
        KpnError: for a positive weight too small to have any effect.
    """

    pixels: float = 1.0
    gradients: float = 0.02
    anneal: float = 0.1
    decay: float = 0.997
    balanced: bool = True

    def __post_init__(self) -> None:
        if 0 < self.anneal <= _NEGLIGIBLE:
            raise KpnError(
                f"training: an annealing weight of {self.anneal} has no effect; give 0, "
                f"or more than {_NEGLIGIBLE}"
            )

    def anneal_weight(self, step: int) -> float:
        """Return the weight beta * alpha^t of the per-frame terms; zero once negligible."""
        weight = self.anneal * self.decay**step
        return weight if weight > _NEGLIGIBLE else 0.0


def patch_loss(output: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Return the basic loss of each patch, `(...)`.

    Args:
        output, target: `(..., planes, height, width)`, gamma-corrected, at least 2 samples high
            and wide.
        config: weights.
    """
    error = output - target
    squares = error.square().mean((-3, -2, -1))
    rows = error.diff(dim=-2).abs().mean((-3, -2, -1))
    columns = error.diff(dim=-1).abs().mean((-3, -2, -1))
    return config.pixels * squares + config.gradients * (rows + columns)


def annealed_loss(
    clean: Tensor,
    per_frame: Tensor | None,
    target: Tensor,
    white: Tensor,
    config: LossConfig,
    step: int,
) -> Tensor:
    """Return the loss of a batch, a scalar.

    `l(Y) + beta alpha^t sum_i l(f_i(X_i))`, averaged over patches, or the average of its
    logarithm when balanced.

    Args:
        clean: `(batch, 4, height, width)`, Y: the network's output, linear.
        per_frame: `(batch, count, 4, height, width)`, f_i(X_i): each frame filtered with its
            kernels; None without kernels, and then there is no annealing.
        target: `(batch, 4, height, width)`, linear.
        white: `(batch,)`, white level of the scene; outputs and target are divided by it before
            the gamma curve.
        config: weights.
        step: t, number of optimiser steps taken.
    """
    scale = white[:, None, None, None]
    encoded_target = srgb_curve(target / scale)
    loss = patch_loss(srgb_curve(clean / scale), encoded_target, config)
    weight = config.anneal_weight(step)
    if weight > 0 and per_frame is not None:
        encoded_frames = srgb_curve(per_frame / scale[:, None])
        loss = loss + weight * patch_loss(encoded_frames, encoded_target[:, None], config).sum(1)
    return (loss + 1e-8).log().mean() if config.balanced else loss.mean()
