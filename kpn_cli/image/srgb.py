"""The sRGB transfer function and its inverse, on every real number.

IEC 61966-2-1:1999, extended by straight lines outside [0, 1], which keep losses and
averages finite: the linear toe below 0, the tangent at 1 above 1. `srgb_encode` and
`srgb_decode` take numpy arrays, `srgb_curve` takes tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # developing a picture needs no PyTorch
    from torch import Tensor

_TOE = 12.92
_SCALE, _OFFSET, _POWER = 1.055, 0.055, 2.4

#: End of the toe, linear and encoded. The standard prints the encoded value rounded
#: (0.04045); the product makes the two functions inverse to the last bit.
_LINEAR_KNEE = 0.0031308
_ENCODED_KNEE = _TOE * _LINEAR_KNEE

#: Slope of the encoding at 1.
_TANGENT = _SCALE / _POWER


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    """Return the sRGB values of linear ones, any shape, float dtype kept; [0, 1] -> [0, 1]."""
    x = _as_float(linear)
    curve = _SCALE * np.clip(x, _LINEAR_KNEE, 1) ** (1 / _POWER) - _OFFSET
    inside = np.where(x <= _LINEAR_KNEE, _TOE * x, curve)
    return np.where(x > 1, 1 + _TANGENT * (x - 1), inside)


def srgb_decode(encoded: np.ndarray) -> np.ndarray:
    """Return the linear values of sRGB ones, any shape; the inverse of `srgb_encode`."""
    y = _as_float(encoded)
    curve = ((np.clip(y, _ENCODED_KNEE, 1) + _OFFSET) / _SCALE) ** _POWER
    inside = np.where(y <= _ENCODED_KNEE, y / _TOE, curve)
    return np.where(y > 1, 1 + (y - 1) / _TANGENT, inside)


def srgb_curve(linear: Tensor) -> Tensor:
    """Return the sRGB values of a linear tensor of any shape: `srgb_encode` for torch.

    Extended rather than clipped, so that overshoots and noise below black keep a gradient.
    """
    import torch

    curve = _SCALE * linear.clamp(_LINEAR_KNEE, 1) ** (1 / _POWER) - _OFFSET
    beyond = (linear - 1).clamp_min(0) * _TANGENT
    return torch.where(linear < _LINEAR_KNEE, _TOE * linear, curve + beyond)


def _as_float(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float64)
