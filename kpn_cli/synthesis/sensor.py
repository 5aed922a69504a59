"""Noiseless frames -> what a sensor records: white balance undone, exposure, noise, faults."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..image.noise_model import NoiseModel, typical_log_read
from .config import SynthConfig
from .exposures import Exposures, draw_exposures
from .strength_target import strength_target

#: The sigma that the network is told over the true one, or its inverse, at most.
_MISJUDGED = 4.0
#: log10 of the range of their share of all samples, and the share of the dead among them.
_DEFECTS, _DEAD = (-5.5, -3.5), 0.4
#: The same of the noise profiles of synthetic files.
_MISSTATED = 1.5


@dataclass(frozen=True)
class Patch:
    """One training burst.

    Attributes:
        burst: `(count, 4, cells, cells)` float32, noisy linear planes in the reference's
            exposure, the reference first.
        truth: `(4, cells, cells)` float32, what the network should make of it: the reference
            without noise, or what another strength than 1 makes of that.
        noise: what the network is told of the reference's noise.
        white: white level of the scene, 0 to 1.
        frame_noise: the same for each frame, in the reference's exposure, the reference first;
            empty where frames are exposed alike.
        clip: the signal at which each frame clips, in the reference's exposure; empty likewise.
    """

    burst: np.ndarray
    truth: np.ndarray
    noise: NoiseModel
    white: float
    frame_noise: tuple[NoiseModel, ...] = ()
    clip: tuple[float, ...] = ()

    def first(self, count: int) -> Patch:
        """The same with the first `count` frames."""
        return replace(
            self,
            burst=self.burst[:count],
            frame_noise=self.frame_noise[:count],
            clip=self.clip[:count],
        )


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
    return NoiseModel.uniform(10**log_shot, 10 ** (typical_log_read(log_shot) + rng.normal(0, 0.4)))


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


def _add_defects(rng: np.random.Generator, burst: np.ndarray, aligned: bool) -> None:
    """Let some samples of the sensor be hot or dead; the aligner moves them, frame by frame."""
    count, _, rows, columns = burst.shape
    number = rng.poisson(10 ** rng.uniform(*_DEFECTS) * 4 * rows * columns)
    plane, row, column = (rng.integers(0, n, number) for n in (4, rows, columns))
    dead = rng.random(number) < _DEAD
    glow = np.where(dead, 0, 10 ** rng.uniform(-1.7, 0, number)).astype(np.float32)
    response = np.where(dead, rng.uniform(0, 0.3, number), 1).astype(np.float32)
    ways = rng.integers(-8, 9, (count, 2)) * (aligned and rng.random() < 0.5)
    for frame, (down, right) in enumerate(ways):
        y, x = row + down, column + right
        inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        places = frame, plane[inside], y[inside], x[inside]
        burst[places] = burst[places] * response[inside] + glow[inside]


def add_faults(
    rng: np.random.Generator,
    burst: np.ndarray,
    noise: NoiseModel,
    config: SynthConfig,
    aligned: bool = True,
) -> None:
    """Add, now and then, row noise and defects to `(count, 4, rows, columns)`, in place.

    Args:
        rng: where all chances come from.
        burst: linear planes.
        noise: of the burst; row noise is a fraction of its read noise.
        config: the chances.
        aligned: whether frames have been aligned, so that what stays on the sensor moves.
    """
    if rng.random() < config.row_noise:
        _add_row_noise(rng, burst, noise)
    if rng.random() < config.defects:
        _add_defects(rng, burst, aligned)


def stated(rng: np.random.Generator, noise: NoiseModel, config: SynthConfig) -> NoiseModel:
    """Return what a file says of its noise: the truth, or now and then something like it."""
    if rng.random() < config.misjudged:
        return noise.with_strength(_MISSTATED ** rng.uniform(-1, 1))
    return noise


def _draw_strength(rng: np.random.Generator, config: SynthConfig) -> float:
    """Return the sigma that the network is told, over the true one."""
    return _MISJUDGED ** rng.uniform(-1, 1) if rng.random() < config.misjudged else 1.0


def expose(
    planes: np.ndarray,
    rng: np.random.Generator,
    config: SynthConfig,
    noise: NoiseModel | None = None,
) -> Patch:
    """Photograph a noiseless patch.

    In this order: white balance undone, white level of the scene log-uniform in
    [0.1, 1], exposure of each frame, shot and read noise, faults of the sensor, clipping,
    quantisation; and frames of another exposure are brought to the reference's.

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
    exposures = draw_exposures(rng, len(planes), config)
    burst = _exposed(rng, clean, noise, exposures)
    own_noise = burst[0] - clean[0]
    add_faults(rng, burst, noise, config)
    # A long exposure clips where the reference does not.
    if rng.random() < config.clipped or exposures:
        np.minimum(burst, 1, out=burst)
    if rng.random() < config.quantised:
        levels = np.float32(2 ** int(rng.integers(10, 15)) - 1)
        burst *= levels
        np.rint(burst, out=burst)
        burst /= levels
    strength = _draw_strength(rng, config)
    truth = strength_target(clean[0], own_noise, noise, strength, len(planes))
    assumed = noise.with_strength(strength)
    if not exposures:
        return Patch(burst, truth, assumed, white)
    burst /= exposures.gains[:, None, None, None]
    clip = tuple((1 / exposures.gains).tolist())
    return Patch(burst, truth, assumed, white, exposures.noise(assumed), clip)


def _exposed(
    rng: np.random.Generator, clean: np.ndarray, noise: NoiseModel, exposures: Exposures | None
) -> np.ndarray:
    """What the sensor records of noiseless frames, each in its own exposure."""
    if not exposures:
        return _with_noise(rng, clean, noise)
    recorded = clean * exposures.gains[:, None, None, None]
    return np.concatenate(
        [
            _with_noise(rng, frame[None], model)
            for frame, model in zip(recorded, exposures.own_noise(noise), strict=True)
        ]
    )
