"""The sRGB transfer function and its inverse, exact, on every real number.

IEC 61966-2-1:1999, with the straight pieces that keep losses and averages finite
outside [0, 1]: below 0 the linear toe goes on, above 1 the tangent at 1. Arrays of
numpy have `srgb_encode` and `srgb_decode`, tensors `srgb_curve`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_TOE = 12.92
_SCALE, _OFFSET, _POWER = 1.055, 0.055, 2.4

#: End of the toe, in linear and in encoded values. The standard prints the second one
#: rounded (0.04045); the product makes the two functions inverse to the last bit.
_LINEAR_KNEE = 0.0031308
_ENCODED_KNEE = _TOE * _LINEAR_KNEE

#: Slope of the encoding at 1.
_TANGENT = _SCALE / _POWER


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    """Return sRGB values of linear ones; [0, 1] maps to [0, 1]. Any shape, float dtype kept."""
    x = _as_float(linear)
    curve = _SCALE * np.clip(x, _LINEAR_KNEE, 1) ** (1 / _POWER) - _OFFSET
    inside = np.where(x <= _LINEAR_KNEE, _TOE * x, curve)
    return np.where(x > 1, 1 + _TANGENT * (x - 1), inside)


def srgb_decode(encoded: np.ndarray) -> np.ndarray:
    """Return linear values of sRGB ones: the inverse of `srgb_encode`."""
    y = _as_float(encoded)
    curve = ((np.clip(y, _ENCODED_KNEE, 1) + _OFFSET) / _SCALE) ** _POWER
    inside = np.where(y <= _ENCODED_KNEE, y / _TOE, curve)
    return np.where(y > 1, 1 + (y - 1) / _TANGENT, inside)


def srgb_curve(linear: Tensor) -> Tensor:
    """Return what `srgb_encode` does, of a tensor of any shape, with a gradient everywhere.

    Continued rather than clipped, so that overshoots and noise below black keep a gradient.
    """
    curve = _SCALE * linear.clamp(_LINEAR_KNEE, 1) ** (1 / _POWER) - _OFFSET
    beyond = (linear - 1).clamp_min(0) * _TANGENT
    return torch.where(linear < _LINEAR_KNEE, _TOE * linear, curve + beyond)


def _as_float(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float64)
