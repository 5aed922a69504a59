"""Ordinary photo -> training burst: misaligned frames of linear raw planes with noise.

The geometry (`draw_planes`) is drawn patch by patch with OpenCV; the photometry
(`expose`) works on a whole batch with torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .noise import typical_read
from .photos import Scene

_PHOTO_PIXELS_PER_CELL = 4


@dataclass(frozen=True)
class SynthConfig:
    """What training bursts are like. Shifts are in cells, chances from 0 to 1.

    The frames are those the network meets behind the aligner: residuals within
    half a cell, now and then a cell more, a failure or an object of its own mind.

    Attributes:
        cells: side of a patch.
        frames: the most frames of a burst.
        full: chance that a batch has all frames; else 1 to frames - 1 of them.
        static: chance of a tripod: all frames exactly aligned.
        partly: chance that each frame is exactly aligned with chance 1/2.
        rough: chance that residuals are within 1.5 cells instead of 0.5.
        turning: chance of rotation, up to half a degree about a far point.
        off_by_one, failed: chance, for each frame, of a shift of one cell more, or
            of up to `failure` cells.
        softer: chance of a photo enlarged by up to 1/0.6, soft as pixels of real raws are.
        moving: chance of an object that moves by itself.
        shot_range: log10 of the range of S: from cameras at base ISO to a little above
            the protocol's gain 8.
        noisy, noisy_from: chance that S is drawn from the upper part of the range only,
            above this log10: there the network has most to learn.
        clipped, quantised: chance that frames are clipped at white, or quantised
            to 10-14 bits.
    """

    cells: int = 64
    frames: int = 8
    full: float = 0.75
    static: float = 0.15
    partly: float = 0.15
    rough: float = 0.1
    turning: float = 0.25
    off_by_one: float = 0.06
    failed: float = 0.04
    failure: float = 12.0
    softer: float = 0.25
    moving: float = 0.15
    shot_range: tuple[float, float] = (-6.0, -1.3)
    noisy: float = 0.5
    noisy_from: float = -2.8
    clipped: float = 0.3
    quantised: float = 0.3

    @property
    def photo_pixels(self) -> int:
        """Smallest side of a photo that patches can be cut from."""
        return _PHOTO_PIXELS_PER_CELL * (self.cells + 4)


# --- geometry ---------------------------------------------------------------


def _draw_shifts(rng: np.random.Generator, count: int, config: SynthConfig) -> np.ndarray:
    """Residual shift of each frame in cells, `(count, 2)`; the reference's is zero."""
    kind = rng.random()
    reach = 1.5 if rng.random() < config.rough else 0.5
    shifts = rng.uniform(-reach, reach, (count, 2))
    # As in the evaluation protocol, most shifts are whole photo pixels: sampled
    # without interpolation, all frames are equally sharp.
    if rng.random() < 0.7:
        shifts = np.round(shifts * _PHOTO_PIXELS_PER_CELL) / _PHOTO_PIXELS_PER_CELL
    if kind < config.static:
        shifts[:] = 0
    elif kind < config.static + config.partly:
        shifts[rng.random(count) < 0.5] = 0
    luck = rng.random(count)
    if kind >= config.static:
        failed = luck < config.failed
        shifts[failed] = rng.uniform(-config.failure, config.failure, (count, 2))[failed]
        astray = ~failed & (luck < config.failed + config.off_by_one)
        shifts[astray] += rng.integers(-1, 2, (count, 2))[astray]
    shifts[0] = 0
    return shifts


def _draw_maps(
    rng: np.random.Generator, scene: Scene, shifts: np.ndarray, config: SynthConfig
) -> list[np.ndarray]:
    """Affine maps from cells to photo pixels, one per frame, about a random place."""
    flip = np.diag(rng.choice((-1.0, 1.0), 2))
    zoom = rng.uniform(0.6, 1.0) if rng.random() < config.softer else 1.0
    linear = _PHOTO_PIXELS_PER_CELL * zoom * (flip if rng.random() < 0.5 else flip[::-1])
    reach = config.photo_pixels / 2
    centre = np.array([rng.uniform(reach, side - reach) for side in (scene.width, scene.height)])
    centre = np.round(centre)
    middle = (config.cells - 1) / 2
    # A tripod does not turn either.
    turning = rng.random() < config.turning and shifts.any()
    angles = np.radians(rng.uniform(-0.5, 0.5, len(shifts))) * turning
    angles[0] = 0
    maps = []
    for (dy, dx), angle in zip(shifts, angles, strict=True):
        # A turn about a far point is, within a patch, a shift (drawn above) and a turn about it.
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = linear @ turn
        offset = centre + linear @ (dx, dy) - np.round(matrix @ (middle, middle))
        maps.append(np.column_stack([matrix, offset]))
    return maps


def _draw_mask(rng: np.random.Generator, count: int, config: SynthConfig) -> np.ndarray:
    """Share of an object in each sample: a soft ellipse that moves from frame to frame.

    Returns `(count, 4, cells, cells)` float32 in [0, 1]; planes at their place in the cell.
    """
    cells = config.cells
    place = np.arange(cells, dtype=np.float32)
    rows = place[:, None] + np.float32([0, 0, 0.5, 0.5])[:, None, None]
    columns = place[None, :] + np.float32([0, 0.5, 0, 0.5])[:, None, None]
    speed = rng.uniform(-6, 6, 2) if rng.random() < 0.5 else rng.uniform(-1, 1, 2)
    when = rng.permutation(count) - rng.integers(count)
    middle = rng.uniform(0.15, 0.85, 2) * cells + when[:, None] * speed
    radii = rng.uniform(3, 0.4 * cells, 2)
    angle = rng.uniform(0, np.pi)
    y = rows - middle[:, 0].astype(np.float32)[:, None, None, None]
    x = columns - middle[:, 1].astype(np.float32)[:, None, None, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    distance = ((cos * x + sin * y) / radii[0]) ** 2 + ((cos * y - sin * x) / radii[1]) ** 2
    mask = np.clip((1 - distance) * np.float32(radii.min() / 2) + 0.5, 0, 1)
    if rng.random() < 0.3:  # appears or vanishes
        mask[rng.random(count) < 0.5] = 0
    return mask.astype(np.float32)


def draw_planes(
    scenes: Sequence[Scene], rng: np.random.Generator, count: int, config: SynthConfig
) -> np.ndarray:
    """Return the noiseless frames of a random patch, the reference first.

    Returns:
        `(count, 4, cells, cells)` float32 in [0, 1], linear with the photo's white balance.
    """

    def photograph(shifts: np.ndarray) -> np.ndarray:
        scene = scenes[rng.integers(len(scenes))]
        maps = _draw_maps(rng, scene, shifts, config)
        frames = [scene.planes(matrix, config.cells, config.cells) for matrix in maps]
        return np.stack(frames).astype(np.float32) / 65535

    burst = photograph(_draw_shifts(rng, count, config))
    if rng.random() < config.moving:
        mask = _draw_mask(rng, count, config)
        thing = photograph(_draw_shifts(rng, count, config))
        burst += mask * (thing - burst)
    return burst


# --- photometry -------------------------------------------------------------


def undo_white_balance(planes: Tensor, red: Tensor, blue: Tensor) -> Tensor:
    """Divide red and blue by their white-balance gains, keeping highlights.

    A plain division would turn blown-out white into coloured grey, which no
    sensor records; the gain therefore fades to 1 as the cell nears white
    (Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019,
    section 3.4).

    Args:
        planes: `(batch, ..., 4, height, width)` in [0, 1].
        red, blue: `(batch,)`, at least 1.
    """
    grey = planes.mean(-3, keepdim=True)
    highlight = ((grey - 0.9).clamp_min(0) / 0.1).square()
    ones = torch.ones_like(red)
    gains = torch.stack([1 / red, ones, ones, 1 / blue], 1)
    gains = gains.view(len(red), *[1] * (planes.dim() - 4), 4, 1, 1)
    return planes * torch.maximum(gains, highlight + (1 - highlight) * gains)


@dataclass(frozen=True)
class Batch:
    """Training data.

    Attributes:
        burst: `(batch, count, 4, cells, cells)` noisy planes, the reference first.
        truth: `(batch, 4, cells, cells)`, the reference without noise.
        shot, read: `(batch, 4)` variance coefficients.
        white: `(batch,)`, white level of the scene.
    """

    burst: Tensor
    truth: Tensor
    shot: Tensor
    read: Tensor
    white: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(
            *(
                value.to(device, non_blocking=True)
                for value in (self.burst, self.truth, self.shot, self.read, self.white)
            )
        )


def add_noise(planes: Tensor, shot: Tensor, read: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of variance `shot * x + read`, not clamped.

    Args:
        planes: `(batch, ..., 4, height, width)`.
        shot, read: `(batch, 4)`.
    """
    shape = (len(planes), *[1] * (planes.dim() - 4), 4, 1, 1)
    sigma = (planes * shot.view(shape)).add_(read.view(shape)).sqrt_()
    return torch.randn(planes.shape, generator=generator).mul_(sigma).add_(planes)


def expose(planes: Tensor, rng: np.random.Generator, config: SynthConfig) -> Batch:
    """Photograph noiseless patches: white balance undone, exposure, noise, clipping, quantisation.

    Args:
        planes: `(batch, count, 4, height, width)` in [0, 1], the reference first.
    """
    batch = len(planes)

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, batch)).float()

    white = 10 ** uniform(-1, 0)
    clean = undo_white_balance(planes, uniform(1.2, 2.4), uniform(1.2, 2.4))
    clean = clean * white.view(-1, 1, 1, 1, 1)
    low, high = config.shot_range
    upper = np.clip(config.noisy_from, low, high)
    lowest = np.where(rng.random(batch) < config.noisy, upper, low)
    log_shot = rng.uniform(lowest, high)
    log_read = typical_read(log_shot) + rng.normal(0, 0.4, batch)
    shot, read = (
        torch.from_numpy(10**x).float()[:, None].repeat(1, 4) for x in (log_shot, log_read)
    )
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    burst = add_noise(clean, shot, read, generator)
    for patch in np.flatnonzero(rng.random(batch) < config.clipped):
        burst[patch].clamp_(max=1)
    for patch in np.flatnonzero(rng.random(batch) < config.quantised):
        levels = 2 ** int(rng.integers(10, 15)) - 1
        burst[patch].mul_(levels).round_().div_(levels)
    return Batch(burst, clean[:, 0].contiguous(), shot, read, white)


def draw_batch(
    scenes: Sequence[Scene], seed: Sequence[int], size: int, config: SynthConfig
) -> Batch:
    """Return the batch that `seed` stands for: the same numbers, the same bytes.

    All its bursts have the same number of frames.
    """
    rng = np.random.default_rng(seed)
    whole = config.frames == 1 or rng.random() < config.full
    count = config.frames if whole else int(rng.integers(1, config.frames))
    planes = np.stack([draw_planes(scenes, rng, count, config) for _ in range(size)])
    return expose(torch.from_numpy(planes), rng, config)
