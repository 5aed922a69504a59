"""Training targets for `--strength`: the output to learn where the assumed noise is wrong.

Strength is the assumed sigma over the true one. Below 1 the target keeps a share of the
reference's noise. Above 1 the target loses faint detail, as it would under that much noise; it
has no noise at any strength from 1 up.
"""

from __future__ import annotations

import numpy as np
import torch

from ..image.filters import box
from ..image.noise_model import NoiseModel

#: At strength s < 1 the target keeps the share (1 - s)^1.8 of the reference's noise.
_KEPT_EXPONENT = 1.8
#: At strength s > 1 the target loses detail as under noise of this times (s^2 - 1) times the
#: reference's variance: half of what the mean of eight frames keeps. It is the same for bursts of
#: all sizes, so that a strength looks the same whatever the number of frames.
_EXTRA_VARIANCE = 1 / 16
#: Number of scales of detail: of 3, 9 and 27 cells.
_SCALES = 3


def strength_target(
    truth: np.ndarray, reference_noise: np.ndarray, noise: NoiseModel, strength: float
) -> np.ndarray:
    """Return the output that a network should learn at a strength.

    Above 1, a Wiener filter multiplies each scale of detail by e / (e + n): e is its local
    energy, n the energy at this scale of white noise with (strength^2 - 1) / 16 times the
    reference's variance.

    Args:
        truth: `(4, height, width)` float32, the reference without noise, linear.
        reference_noise: `(4, height, width)` float32, the reference less `truth`.
        noise: the true noise model of the reference.
        strength: the assumed sigma over the true one.

    Returns:
        `(4, height, width)` float32, a new array.
    """
    if strength == 1:
        return np.array(truth, order="C")
    if strength < 1:
        noisy: np.ndarray = truth + np.float32((1 - strength) ** _KEPT_EXPONENT) * reference_noise
        return noisy
    planes = torch.from_numpy(truth)[None]
    signal = box(planes, 3).numpy()
    variance = torch.from_numpy(noise.variance(signal)).clamp_min(1e-12)
    extra_variance = _EXTRA_VARIANCE * (strength**2 - 1) * variance
    result = torch.zeros_like(planes)
    for scale in range(_SCALES):
        smooth = box(planes, 3, 3**scale)
        detail = planes - smooth
        # Variance of unit white noise in the difference of means over 3^scale and 3^(scale + 1)
        # cells square.
        white = 9.0**-scale - 9.0 ** -(scale + 1)
        ratio = (box(detail.square(), 3, 3**scale) / (extra_variance * white)).mean(1, keepdim=True)
        result += detail * (ratio / (1 + ratio))
        planes = smooth
    target: np.ndarray = (result + planes)[0].numpy()
    return target
