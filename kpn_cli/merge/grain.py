"""Grain: give a share of the reference's luminance noise back to the clean picture.

What the merged picture lacks of the reference in a cell is noise: n_k = reference_k - result_k in
the planes k = R, G1, G2, B. Its luminance is weighed as sRGB's, after white balance with gains m_k:

    v = X * open * sum_k w_k n_k,    w_k = a_k m_k,    a = 0.2126, 0.3576, 0.3576, 0.0722

and one value is added to the four samples of the cell, in proportion to its colour:

    result_k += v * d_k,    d_k = (max(result_k, 0) + e / m_k) / (Y + e),
    Y = sum_k w_k max(result_k, 0),    e = 2 sigmas of the luminance noise at black

As sum_k w_k d_k = 1, the luminance gets X of the noise that it has lost. Where the signal is above
noise, d_k is proportional to the colour: the cell becomes brighter or darker, and keeps its hue and
saturation. A grey stays grey at any brightness, as e / m_k is grey too. Towards black, d_k becomes
that grey, and does not enlarge what is left of colour noise. So no channel reaches black long
before the others. Nothing is cut off at black: the mean stays.

`open` fades grain out where the reference's own noise begins to be cut off by its clipping point,
so highlights are clean. A sample counts with four sigmas at most, so that a defect that was not
repaired makes no speck.

Grain makes no ghosts: it only moves the result towards the reference. Where the result already is
the reference's (`guard`), because frames contradict it, n is zero and nothing is added: there the
noise stays as it is, at its full strength and in colour. With grain, that differs less from its
surroundings than without.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..burst.frame import Frame
from ..image.noise_model import NoiseModel
from ..system.bands import Band, bands, for_each
from .guard import CLIPPED

#: Luminance of linear sRGB (IEC 61966-2-1; ITU-R BT.709) in the planes R, G1, G2, B.
_LUMINANCE = (0.2126, 0.3576, 0.3576, 0.0722)
#: Sigmas of luminance noise at black below which a colour turns to grey.
_GREY_SIGMAS = 2.0
#: A sample counts with this many sigmas at most.
_MAX_SIGMAS = 4.0
#: Grain fades out where a sample is nearer to clipping than the second, and ends at the first, both
#: in sigmas.
_NO_ROOM, _ROOM = 2.0, 4.0
_MIN_VARIANCE, _MIN_GREY = 1e-10, 1e-6
#: Gains of white balance beyond this factor are a damaged tag's.
_LARGEST_GAIN = 16.0
#: Cells that one core works on together.
_CELLS_AT_ONCE = 2**15

#: Gains R, G, B of white balance, with G == 1.
Balance = tuple[float, float, float]


def add_grain(
    planes: np.ndarray,
    reference: Frame,
    noise: NoiseModel,
    white_balance: Balance,
    share: float,
    observed: float = 1.0,
) -> None:
    """Add grain to a clean picture, in place; see above. Each cell depends on itself alone.

    Args:
        planes: `(4, height, width)` float32, R, G1, G2, B, the result; 0 is black, 1 is white.
        reference: without defects, of the same size.
        noise: of the reference.
        white_balance: gains R, G, B.
        share: X, 0 to 1.
        observed: sigma that the frames show over that of `noise`: if noise is understated, four
            of its sigmas are too few.
    """
    _, height, width = planes.shape
    result = torch.from_numpy(planes)
    cell = _Cell.of(noise, white_balance, max(observed, 1.0), reference.clip)

    def work(band: Band) -> None:
        samples = reference.samples[:, band.rows]
        original = reference.linear(samples).cpu()
        part = result[:, band.rows]
        part += cell.grain(part, original).mul_(share)

    step = max(_CELLS_AT_ONCE // width, 1)
    for_each(lambda: work, bands(height, step), torch.device("cpu"))


class _Cell:
    """What the grain of a cell is made with, each of shape `(4, 1, 1)`."""

    def __init__(self, shot: Tensor, read: Tensor, gains: Tensor, clip: float) -> None:
        """Keep variance coefficients, gains of white balance and the signal at clipping."""
        self._shot, self._read, self._clip = shot, read, clip
        self._weights = _column(_LUMINANCE) * gains
        grey = _GREY_SIGMAS * float((self._weights.square() * read).sum().sqrt())
        self._grey = max(grey, _MIN_GREY)
        self._offset = self._grey / gains

    @classmethod
    def of(cls, noise: NoiseModel, balance: Balance, observed: float, clip: float) -> _Cell:
        """Return it for the noise of the reference, its sigma times `observed`."""
        noise = noise.with_strength(observed)
        return cls(_column(noise.shot), _column(noise.read), _column(_gains(balance)), clip)

    def grain(self, clean: Tensor, original: Tensor) -> Tensor:
        """Return what is added at a share of 1: `(4, rows, columns)`, as the arguments are."""
        signal = clean.clamp_min(0)
        sigma = self._read.addcmul(self._shot, signal).clamp_min_(_MIN_VARIANCE).sqrt_()
        limit = sigma * _MAX_SIGMAS
        lost = (original - clean).clamp_(-limit, limit).mul_(self._weights).sum(0)
        room = ((self._clip - clean) / sigma).amin(0)
        room = room.sub_(_NO_ROOM).div_(_ROOM - _NO_ROOM).clamp_(0, 1)
        lost *= room * room * (3 - 2 * room)
        lost *= (original < CLIPPED * self._clip).all(0)
        luminance = (signal * self._weights).sum(0)
        return signal.add_(self._offset).mul_(lost / luminance.add_(self._grey))


def with_grain(
    noise: NoiseModel, residual: float, white_balance: Balance, share: float
) -> NoiseModel:
    """Return the noise of a picture with grain, on a grey surface.

    What remains of noise in a merged picture is its reference's and the other frames', in the
    proportions of the best mean: its covariance with the reference's noise is its own variance. So
    grain, which is X times the difference of the two, adds X^2 (1 - residual) of the luminance
    noise's variance to that of the picture. The luminance noise's variance, sum_j w_j^2 (S_j x_j +
    O_j), becomes a linear function of a plane's own signal by x_j = x_k m_k / m_j.

    Args:
        noise: of the reference.
        residual: share of its variance that was measured in the merged picture, 0 to 1.
        white_balance: gains R, G, B.
        share: X, 0 to 1.
    """
    gains = np.array(_gains(white_balance))
    squares = (np.array(_LUMINANCE) * gains) ** 2
    added = share**2 * (1 - residual)
    shot = added * np.sum(squares / gains * noise.shot) / gains
    read = added * np.sum(squares * noise.read) / gains**2
    r, g1, g2, b = (residual * np.array(noise.shot) + shot).tolist()
    red, green1, green2, blue = (residual * np.array(noise.read) + read).tolist()
    return NoiseModel((r, g1, g2, b), (red, green1, green2, blue))


def reduction_with_grain(strength: float, share: float) -> float:
    """Return how much of noise was reduced, 0 to 1: the mean of luminance and colour.

    Args:
        strength: of denoising.
        share: of grain, which takes back that much of the reduction in luminance, none in colour.
    """
    return min(strength, 1.0) * (1 - share / 2)


def _gains(white_balance: Balance) -> tuple[float, float, float, float]:
    limited = (min(max(gain, 1 / _LARGEST_GAIN), _LARGEST_GAIN) for gain in white_balance)
    red, green, blue = limited
    return red, green, green, blue


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]
