"""What a network should make of a burst when it is told another noise than there is.

Strength multiplies the sigma that the network is told. Below 1 a share of the reference's
noise stays in the picture. Above 1 faint detail goes, as it would with that much noise;
but nothing of the noise may come back, whatever the strength: the target has none.
"""

from __future__ import annotations

import numpy as np
import torch

from ..image.filters import box
from ..image.noise_model import NoiseModel

#: At strength s < 1 the share (1 - s)^_KEPT of the reference's noise stays.
_KEPT = 1.8
#: At strength s > 1 detail goes as under (s^2 - 1) times this share of the burst's variance.
_TAKEN = 0.5
#: Detail is judged at so many scales: of 3, 9, 27 ... cells.
_SCALES = 3


def strength_target(
    truth: np.ndarray, own_noise: np.ndarray, noise: NoiseModel, strength: float, count: int
) -> np.ndarray:
    """Return the picture that a strength asks for.

    Above 1, each scale of detail is multiplied by e / (e + n), as by a Wiener filter: e is its
    local energy, n that of noise at that scale, of (strength^2 - 1) / 2 times the variance of
    the mean of `count` frames.

    Args:
        truth: `(4, height, width)` float32, the reference without noise, linear.
        own_noise: the same shape, the reference's noise.
        noise: the true model.
        strength: the sigma that is told over the true one.
        count: frames of the burst.

    Returns:
        `(4, height, width)` float32, a new array.
    """
    if strength == 1:
        return truth.copy()
    if strength < 1:
        return truth + np.float32((1 - strength) ** _KEPT) * own_noise
    planes = torch.from_numpy(truth)[None]
    signal = box(planes, 3).numpy()
    variance = torch.from_numpy(noise.variance(signal)).clamp_min(1e-12)
    further = _TAKEN * (strength**2 - 1) / count * variance
    result = torch.zeros_like(planes)
    for scale in range(_SCALES):
        smooth = box(planes, 3, 3**scale)
        detail = planes - smooth
        # Variance of white noise in the difference of means over 3^scale and 3^(scale + 1).
        white = 9.0**-scale - 9.0 ** -(scale + 1)
        ratio = (box(detail.square(), 3, 3**scale) / (further * white)).mean(1, keepdim=True)
        result += detail * (ratio / (1 + ratio))
        planes = smooth
    return (result + planes)[0].numpy()
