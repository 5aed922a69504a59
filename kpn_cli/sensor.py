"""Noiseless frames -> what a sensor records: white balance undone, exposure, noise, faults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .noise import NoiseModel, typical_read
from .synth_config import SynthConfig

_MISJUDGED = 1.5  # the told sigma over the true one, or its inverse, at most


@dataclass(frozen=True)
class Patch:
    """One training burst.

    Attributes:
        burst: `(count, 4, cells, cells)` float32, noisy linear planes, the reference first.
        truth: `(4, cells, cells)` float32, the reference without noise.
        noise: what the network is told.
        white: white level of the scene, 0 to 1.
    """

    burst: np.ndarray
    truth: np.ndarray
    noise: NoiseModel
    white: float


def draw_colours(rng: np.random.Generator, config: SynthConfig) -> np.ndarray | None:
    """Return a camera's colours: `(3, 3)`, linear sRGB -> white-balanced camera RGB, or None.

    The filters of real cameras overlap more than sRGB's primaries do; seen the
    other way round, each of their values is a mean of sRGB's, mostly of its own
    colour and some of its neighbours' in the spectrum. Rows add up to one, so
    that white stays white.
    """
    if rng.random() >= config.mixed:
        return None
    red, blue = (rng.uniform(*span) for span in ((0.1, 0.4), (0.0, 0.12)))
    green = rng.uniform(0.05, 0.25, 2)
    far, near = (rng.uniform(*span) for span in ((0.0, 0.08), (0.1, 0.35)))
    return np.array(
        [
            [1 - red - blue, red, blue],
            [green[0], 1 - green.sum(), green[1]],
            [far, near, 1 - far - near],
        ]
    )


def undo_white_balance(planes: np.ndarray, red: float, blue: float) -> np.ndarray:
    """Divide red and blue by their white-balance gains, keeping highlights.

    A plain division would turn blown-out white into coloured grey, which no
    sensor records; the gain therefore fades to 1 as the cell nears white
    (Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019,
    section 3.4).

    Args:
        planes: `(..., 4, height, width)` in [0, 1].
        red, blue: at least 1.
    """
    out = planes * np.float32([1 / red, 1, 1, 1 / blue])[:, None, None]
    grey = planes.mean(-3)
    bright = grey > 0.9
    if bright.any():
        highlight = np.square((grey[bright] - np.float32(0.9)) * 10)
        for plane, gain in ((0, np.float32(1 / red)), (3, np.float32(1 / blue))):
            faded = highlight + (1 - highlight) * gain
            out[..., plane, :, :][bright] = planes[..., plane, :, :][bright] * faded
    return out


def draw_noise(rng: np.random.Generator, config: SynthConfig) -> NoiseModel:
    """Return the noise at a random ISO of a random camera, whose O follows S with scatter.

    Or of the one camera that the config names.
    """
    if config.noise_levels:
        shots, reads = np.log10(np.maximum(sorted(config.noise_levels), 1e-12)).T
        log_shot = rng.uniform(shots[0], shots[-1])
        return NoiseModel.uniform(10**log_shot, 10 ** np.interp(log_shot, shots, reads))
    low, high = config.shot_range
    if rng.random() < config.noisy:
        low = min(max(config.noisy_from, low), high)
    log_shot = rng.uniform(low, high)
    return NoiseModel.uniform(10**log_shot, 10 ** (typical_read(log_shot) + rng.normal(0, 0.4)))


def _with_noise(rng: np.random.Generator, clean: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """`noise.sample`, by torch's generator, which takes 40 % of numpy's time; signals >= 0."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    burst = torch.empty(clean.shape).normal_(generator=generator).numpy()
    shot, read = (np.float32(value)[:, None, None] for value in (noise.shot, noise.read))
    sigma = clean * shot
    sigma += read
    burst *= np.sqrt(sigma, out=sigma)
    burst += clean
    return burst


def _add_row_noise(rng: np.random.Generator, burst: np.ndarray, noise: NoiseModel) -> None:
    """Offset each row of each frame: a fraction of the read noise, alike along the row."""
    count, _, rows, _ = burst.shape
    sigma = rng.uniform(0.1, 0.5) * max(noise.read) ** 0.5
    offsets = (sigma * rng.standard_normal((count, rows, 2))).astype(np.float32)
    for plane in range(4):  # R and G1 share a row of the sensor, G2 and B the next
        burst[:, plane] += offsets[:, :, plane // 2, None]


def _add_hot_pixels(rng: np.random.Generator, burst: np.ndarray, aligned: bool) -> None:
    """Let some pixels of the sensor glow; behind the aligner they lie elsewhere in each frame."""
    count, _, rows, columns = burst.shape
    number = rng.poisson(10 ** rng.uniform(-5, -3.3) * 4 * rows * columns)
    plane, row, column = (rng.integers(0, n, number) for n in (4, rows, columns))
    glow = (10 ** rng.uniform(-1.7, 0, number)).astype(np.float32)
    ways = rng.integers(-8, 9, (count, 2)) * (aligned and rng.random() < 0.5)
    for frame, (down, right) in enumerate(ways):
        y, x = row + down, column + right
        inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        burst[frame, plane[inside], y[inside], x[inside]] += glow[inside]


def add_faults(
    rng: np.random.Generator,
    burst: np.ndarray,
    noise: NoiseModel,
    config: SynthConfig,
    aligned: bool = True,
) -> None:
    """Add, now and then, row noise and hot pixels to `(count, 4, rows, columns)`, in place.

    Args:
        rng: where all chances come from.
        burst: linear planes.
        noise: of the burst; row noise is a fraction of its read noise.
        config: the chances.
        aligned: whether frames have been aligned, so that what stays on the sensor moves.
    """
    if rng.random() < config.row_noise:
        _add_row_noise(rng, burst, noise)
    if rng.random() < config.hot_pixels:
        _add_hot_pixels(rng, burst, aligned)


def told(rng: np.random.Generator, noise: NoiseModel, config: SynthConfig) -> NoiseModel:
    """Return what is said of the noise: the truth, or now and then something like it."""
    if rng.random() < config.misjudged:
        return noise.with_strength(_MISJUDGED ** rng.uniform(-1, 1))
    return noise


def expose(
    planes: np.ndarray,
    rng: np.random.Generator,
    config: SynthConfig,
    noise: NoiseModel | None = None,
) -> Patch:
    """Photograph a noiseless patch.

    In this order: white balance undone, white level of the scene log-uniform in
    [0.1, 1], shot and read noise, faults of the sensor, clipping, quantisation.

    Args:
        planes: `(count, 4, height, width)` in [0, 1], the reference first; left as they are.
        rng: where all chances come from.
        config: what bursts are like.
        noise: to add; None for a random one.
    """
    white = 10 ** rng.uniform(-1, 0)
    clean = undo_white_balance(planes, *rng.uniform(1.2, 2.4, 2))
    clean *= np.float32(white)
    noise = noise or draw_noise(rng, config)
    burst = _with_noise(rng, clean, noise)
    add_faults(rng, burst, noise, config)
    if rng.random() < config.clipped:
        np.minimum(burst, 1, out=burst)
    if rng.random() < config.quantised:
        levels = np.float32(2 ** int(rng.integers(10, 15)) - 1)
        burst *= levels
        np.rint(burst, out=burst)
        burst /= levels
    return Patch(burst, clean[0].copy(), told(rng, noise, config), white)
