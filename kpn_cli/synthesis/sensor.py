"""Noiseless frames -> training burst: undone white balance, exposure, noise, sensor faults."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..image.noise_model import NoiseModel, typical_log_read
from .config import SynthConfig
from .exposures import Exposures, draw_exposures
from .strength_target import strength_target

#: Largest ratio of the assumed sigma to the true one, and of the true one to the assumed.
_LARGEST_STRENGTH = 4.0
#: The same for the sigma in the NoiseProfile of synthetic files.
_LARGEST_PROFILE_ERROR = 1.5
#: log10 of the range of the share of defective samples; share of dead ones among them.
_DEFECT_RANGE, _DEAD_SHARE = (-5.5, -3.5), 0.4


@dataclass(frozen=True)
class Patch:
    """One training burst.

    Attributes:
        burst: `(count, 4, cells, cells)` float32, noisy linear planes in the reference's
            exposure, the reference first.
        target: `(4, cells, cells)` float32, the output to be learned: the reference without
            noise; at another strength than 1, see `strength_target`.
        noise: the reference's noise as the network assumes it.
        white: white level of the scene, 0 to 1.
        frame_noise: the assumed noise of each frame, scaled to the reference's exposure, the
            reference first; empty where all frames are exposed alike.
        clip: signal at which each frame clips, scaled likewise; empty likewise.
    """

    burst: np.ndarray
    target: np.ndarray
    noise: NoiseModel
    white: float
    frame_noise: tuple[NoiseModel, ...] = ()
    clip: tuple[float, ...] = ()

    def first(self, count: int) -> Patch:
        """Return the patch with its first `count` frames only."""
        return replace(
            self,
            burst=self.burst[:count],
            frame_noise=self.frame_noise[:count],
            clip=self.clip[:count],
        )


def draw_colours(rng: np.random.Generator, config: SynthConfig) -> np.ndarray | None:
    """Return a random matrix `(3, 3)` from linear sRGB to white-balanced camera RGB, or None.

    Colour filters of real cameras overlap more than sRGB's primaries: each camera value is a
    mean of sRGB's values, mostly of the same colour and less of its neighbours in the spectrum.
    Rows sum to 1, so that white stays white.
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
    """Divide red and blue by their white-balance gains, except in highlights.

    A plain division would turn clipped white into coloured grey, which no sensor records;
    therefore the gain fades to 1 as the cell approaches white (Brooks et al., "Unprocessing
    Images for Learned Raw Denoising", CVPR 2019, section 3.4).

    Args:
        planes: `(..., 4, height, width)` in [0, 1].
        red, blue: gains, at least 1.

    Returns:
        A new array of the same shape.
    """
    out: np.ndarray = planes * np.array([1 / red, 1, 1, 1 / blue], np.float32)[:, None, None]
    grey = planes.mean(-3)
    bright = grey > 0.9
    if bright.any():
        highlight = np.square((grey[bright] - np.float32(0.9)) * 10)
        for plane, gain in ((0, np.float32(1 / red)), (3, np.float32(1 / blue))):
            faded = highlight + (1 - highlight) * gain
            out[..., plane, :, :][bright] = planes[..., plane, :, :][bright] * faded
    return out


def draw_noise(rng: np.random.Generator, config: SynthConfig) -> NoiseModel:
    """Return the noise at a random ISO of a random camera.

    O follows S as in `noise_model.typical_log_read`, with scatter; with `config.noise_levels`, both
    are those of that camera.
    """
    if config.noise_levels:
        shots, reads = np.log10(np.maximum(sorted(config.noise_levels), 1e-12)).T
        log_shot = rng.uniform(shots[0], shots[-1])
        read = float(10 ** np.interp(log_shot, shots, reads))
        return NoiseModel.uniform(10**log_shot, read)
    low, high = config.shot_range
    if rng.random() < config.noisy:
        low = min(max(config.noisy_from, low), high)
    log_shot = rng.uniform(low, high)
    log_read = float(typical_log_read(np.array(log_shot))) + rng.normal(0, 0.4)
    return NoiseModel.uniform(10**log_shot, 10**log_read)


def _with_noise(rng: np.random.Generator, clean: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return `noise.sample` of signals >= 0 by torch's generator, in 40 % of numpy's time."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    burst = torch.empty(clean.shape).normal_(generator=generator).numpy()
    shot, read = (np.array(value, np.float32)[:, None, None] for value in (noise.shot, noise.read))
    sigma = clean * shot
    sigma += read
    burst *= np.sqrt(sigma, out=sigma)
    burst += clean
    return burst


def _add_row_noise(rng: np.random.Generator, burst: np.ndarray, noise: NoiseModel) -> None:
    """Add a random offset, a fraction of the read noise, to each sensor row of each frame."""
    count, _, rows, _ = burst.shape
    sigma = rng.uniform(0.1, 0.5) * max(noise.read) ** 0.5
    offsets = (sigma * rng.standard_normal((count, rows, 2))).astype(np.float32)
    for plane in range(4):  # R and G1 share a row of the sensor, G2 and B the next
        burst[:, plane] += offsets[:, :, plane // 2, None]


def _add_defects(rng: np.random.Generator, burst: np.ndarray, aligned: bool) -> None:
    """Make some sensor samples hot or dead; alignment moves them frame by frame."""
    count, _, rows, columns = burst.shape
    number = rng.poisson(10 ** rng.uniform(*_DEFECT_RANGE) * 4 * rows * columns)
    plane, row, column = (rng.integers(0, n, number) for n in (4, rows, columns))
    dead = rng.random(number) < _DEAD_SHARE
    glow = np.where(dead, 0, 10 ** rng.uniform(-1.7, 0, number)).astype(np.float32)
    response = np.where(dead, rng.uniform(0, 0.3, number), 1).astype(np.float32)
    shifts = rng.integers(-8, 9, (count, 2)) * (aligned and rng.random() < 0.5)
    for frame, (down, right) in enumerate(shifts):
        y, x = row + down, column + right
        inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        defects = frame, plane[inside], y[inside], x[inside]
        burst[defects] = burst[defects] * response[inside] + glow[inside]


def add_faults(
    rng: np.random.Generator,
    burst: np.ndarray,
    noise: NoiseModel,
    config: SynthConfig,
    aligned: bool = True,
) -> None:
    """Add row noise and defects, at the config's chances, in place.

    Args:
        rng: source of all randomness.
        burst: `(count, 4, rows, columns)`, linear planes.
        noise: of the burst; row noise is a fraction of its read noise.
        config: of the bursts.
        aligned: whether the frames are aligned; then defects, fixed on the sensor, move.
    """
    if rng.random() < config.row_noise:
        _add_row_noise(rng, burst, noise)
    if rng.random() < config.defects:
        _add_defects(rng, burst, aligned)


def draw_noise_profile(
    rng: np.random.Generator, noise: NoiseModel, config: SynthConfig
) -> NoiseModel:
    """Return the noise model for a file's NoiseProfile: the true one, or sometimes a wrong one."""
    if rng.random() < config.misjudged:
        return noise.with_strength(_LARGEST_PROFILE_ERROR ** rng.uniform(-1, 1))
    return noise


def _draw_strength(rng: np.random.Generator, config: SynthConfig) -> float:
    """Return the ratio of the assumed sigma to the true one."""
    return _LARGEST_STRENGTH ** rng.uniform(-1, 1) if rng.random() < config.misjudged else 1.0


def capture(
    planes: np.ndarray,
    rng: np.random.Generator,
    config: SynthConfig,
    noise: NoiseModel | None = None,
) -> Patch:
    """Simulate the capture of noiseless frames by a sensor.

    In this order: undo the white balance; draw the scene's white level, log-uniform in [0.1, 1];
    expose each frame; add shot and read noise and sensor faults; clip; quantise; scale frames of
    another exposure to the reference's.

    Args:
        planes: `(count, 4, height, width)` in [0, 1], the reference first; left unchanged.
        rng: source of all randomness.
        config: of the bursts.
        noise: the true noise of the reference; None for a random one.
    """
    white = 10 ** rng.uniform(-1, 0)
    clean = undo_white_balance(planes, *rng.uniform(1.2, 2.4, 2))
    clean *= np.float32(white)
    noise = noise or draw_noise(rng, config)
    exposures = draw_exposures(rng, len(planes), config)
    burst = _record(rng, clean, noise, exposures)
    reference_noise = burst[0] - clean[0]
    add_faults(rng, burst, noise, config)
    # In a bracket, long exposures clip where the reference does not.
    if rng.random() < config.clipped or exposures:
        np.minimum(burst, 1, out=burst)
        np.minimum(reference_noise, 1 - clean[0], out=reference_noise)
    if rng.random() < config.quantised:
        levels = np.float32(2 ** int(rng.integers(10, 15)) - 1)
        burst *= levels
        np.rint(burst, out=burst)
        burst /= levels
    strength = _draw_strength(rng, config)
    target = strength_target(clean[0], reference_noise, noise, strength)
    assumed = noise.with_strength(strength)
    if not exposures:
        return Patch(burst, target, assumed, white)
    burst /= exposures.gains[:, None, None, None]
    clip = tuple((1 / exposures.gains).tolist())
    return Patch(burst, target, assumed, white, exposures.matched_noise(assumed), clip)


def _record(
    rng: np.random.Generator, clean: np.ndarray, noise: NoiseModel, exposures: Exposures | None
) -> np.ndarray:
    """Return what the sensor records of noiseless frames, each at its exposure."""
    if not exposures:
        return _with_noise(rng, clean, noise)
    recorded = clean * exposures.gains[:, None, None, None]
    return np.concatenate(
        [
            _with_noise(rng, frame[None], model)
            for frame, model in zip(recorded, exposures.recorded_noise(noise), strict=True)
        ]
    )
