"""The heart: aligned frames -> network -> clean planes. Knows planes, not files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import tiles
from .align import TILE, Aligner, shifted, stabilise
from .device import autocast
from .features import robust_weights, sigma_map
from .merge import merge, restore
from .network import KPN
from .noise import NoiseModel

#: Side of a tile in sensor pixels, chosen by `--tile`; the network's working memory grows
#: with its square.
DEFAULT_TILE = 768
#: Cells beyond a tile that the network sees; half of it is discarded. The
#: network that ships sees further; what that changes is lost in the noise that is left
#: (tests/test_denoiser.py has the bound).
_HALO = 32
#: The noise that is left is told from a square of so many cells in each tile, and from
#: so many trials.
_TRIED, _NOISES = 96, 4


@dataclass(frozen=True)
class Frame:
    """The samples of one frame and how they become linear.

    Attributes:
        samples: `(4, height, width)`, planes R, G1, G2, B, any dtype: uint16 as the
            camera recorded them, half the memory of floats.
        black, white: levels in units of `samples`, black for each plane.
    """

    samples: Tensor
    black: tuple[float, ...] = (0.0,) * 4
    white: float = 1.0

    def linear(self, samples: Tensor) -> Tensor:
        """Map samples `(4, ...)` of this frame to float32, 0 = black, 1 = white level."""
        black = torch.tensor(self.black, device=samples.device).view(4, *[1] * (samples.dim() - 1))
        return (samples.float() - black) / (self.white - black)

    def to(self, device: torch.device) -> Frame:
        """The same on another device."""
        samples = self.samples
        if device.type != "cpu" and samples.dtype == torch.uint16:
            # Few operations know uint16 elsewhere.
            samples = samples.to(torch.int32)
        return Frame(samples.to(device), self.black, self.white)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in cells."""
        return self.samples.shape[1], self.samples.shape[2]


@dataclass(frozen=True)
class Denoised:
    """Clean planes and what is known about them.

    Attributes:
        planes: `(4, height, width)` float32, linear, 1.0 = white level.
        noise_left: the share of the reference's noise variance that is left, a
            mean over the picture, if the noise of all samples is independent; None
            where no kernels tell.
    """

    planes: np.ndarray
    noise_left: float | None


def align_frames(
    frames: Sequence[Frame], noise: NoiseModel, on_frame: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Return the tile shifts of each frame against the first, whose own are zero."""
    reference = stabilise(frames[0].linear(frames[0].samples), noise)
    aligner = Aligner(reference)
    shifts = []
    for frame in frames[1:]:
        shifts.append(aligner.align(stabilise(frame.linear(frame.samples), noise)))
        on_frame()
    rows, columns = (-(-side // TILE) for side in frames[0].size)
    still = torch.zeros(rows, columns, 2, dtype=torch.int64, device=reference.device)
    return [still, *shifts]


def aligned_part(
    frames: Sequence[Frame], shifts: Sequence[Tensor], rows: slice, columns: slice
) -> Tensor:
    """Return a part of all frames, `(frames, 4, rows, columns)`, linear, over the reference's."""
    return torch.stack(
        [
            frame.linear(shifted(frame.samples, shift, rows, columns))
            for frame, shift in zip(frames, shifts, strict=True)
        ]
    )


def agreement(
    frames: Sequence[Frame], shifts: Sequence[Tensor], noise: NoiseModel, side: int = 256
) -> list[float]:
    """Return how far each frame agrees with the first, 0 to 1, over samples of the picture.

    The mean robust weight on a grid of up to 16 squares that cover little of a
    large picture, but all parts of it.
    """
    height, width = frames[0].size
    shot, read = _coefficients(noise, frames[0].samples.device)
    sums = torch.zeros(len(frames), dtype=torch.float64)
    squares = 0
    for top in _places(height, side):
        for left in _places(width, side):
            rows, columns = slice(top, top + side), slice(left, left + side)
            rows, columns = (slice(s.start, min(s.stop, n)) for s, n in
                             ((rows, height), (columns, width)))  # fmt: skip
            part = aligned_part(frames, shifts, rows, columns)
            sigma = sigma_map(part[:1], shot, read)
            differences = (part[1:] - part[:1]) / (2**0.5 * sigma)
            weights = robust_weights(differences[None])[0].mean((1, 2))
            sums[0] += 1
            sums[1:] += weights.cpu().double()  # in this order: MPS has no float64
            squares += 1
    return (sums / squares).tolist()


def _places(length: int, side: int) -> list[int]:
    """Starts of up to 4 evenly spread stretches of `side` samples."""
    number = min(4, max(1, length // side))
    return [round((length - side) * i / max(number - 1, 1)) if length > side else 0
            for i in range(number)]  # fmt: skip


def _coefficients(noise: NoiseModel, device: torch.device) -> tuple[Tensor, Tensor]:
    return (
        torch.tensor([noise.shot], device=device),
        torch.tensor([noise.read], device=device),
    )


def denoise_frames(
    network: KPN,
    frames: Sequence[Frame],
    shifts: Sequence[Tensor],
    noise: NoiseModel,
    *,
    dtype: torch.dtype = torch.float32,
    tile: int = DEFAULT_TILE,
    on_tile: Callable[[], None] = lambda: None,
) -> Denoised:
    """Merge frames into clean planes, the first being the reference.

    Args:
        network: on the device of the frames.
        frames: 1 to `network.config.frames` of equal size.
        shifts: from `align_frames`.
        noise: what the network is told; scale it for more or less denoising.
        dtype: of the convolutions.
        tile: side of a tile in sensor pixels; memory grows with its square.
        on_tile: called after each of `tile_count` tiles.
    """
    device = frames[0].samples.device
    shot, read = _coefficients(noise, device)

    def process(rows: slice, columns: slice) -> np.ndarray:
        burst = aligned_part(frames, shifts, rows, columns)[None]
        with torch.inference_mode(), autocast(device, dtype):
            clean, _, kernels = restore(network, burst, shot, read)
        if kernels is not None:
            left.append(_noise_left(kernels, len(frames)))
        return clean[0].cpu().numpy()

    left: list[tuple[float, int]] = []  # and from how many cells each figure is
    out = tiles.blend(process, 4, *frames[0].size, **_cut(network, tile), on_tile=on_tile)
    if not left:
        return Denoised(out, None)
    means, numbers = zip(*left, strict=True)
    return Denoised(out, float(np.average(means, weights=numbers)))


def _noise_left(kernels: Tensor, count: int) -> tuple[float, int]:
    """Variance that kernels leave of noise of variance 1, and from how many cells it is told.

    Tried out on noise in the middle of the tile: kernels that follow on each other have no
    short formula.
    """
    height, width = kernels.shape[-2:]
    rows, columns = (
        slice(max(side - _TRIED, 0) // 2, (side + min(side, _TRIED)) // 2)
        for side in (height, width)
    )
    some = kernels[..., rows, columns]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, count, _NOISES, *some.shape[-2:], generator=generator).to(some)
    return float(merge(noise, some).square().mean()), some[0, 0, 0].numel()


def _cut(network: KPN, tile: int) -> dict[str, int]:
    return {"tile": max(tile // 2, 1), "halo": _HALO, "grid": network.config.stride}


def tile_count(network: KPN, height: int, width: int, tile: int = DEFAULT_TILE) -> int:
    """Number of tiles for planes of `height` and `width` cells."""
    return tiles.count(height, width, **_cut(network, tile))
