"""Bursts whose frames differ in exposure: brackets, uneven bursts and their noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..image.noise_model import NoiseModel
from .config import SynthConfig

#: Largest difference to the reference's exposure, in EV: a factor of 16.
_LARGEST_EV = 4.0
#: Steps of a camera's exposure bracketing, in EV.
_BRACKET_STEPS = (1 / 3, 2 / 3, 1.0, 1.5, 2.0, 3.0)
#: Standard deviation of the natural logarithm of the gain in uneven bursts.
_UNEVEN_SIGMA = 0.03


@dataclass(frozen=True)
class Exposures:
    """The exposures of a burst's frames relative to the reference, which is the first.

    Attributes:
        gains: `(count,)` float32, g: signal that each frame records over the reference's, by
            exposure time, aperture and ISO together.
        iso_ratios: `(count,)`, ISO of each frame over the reference's.
    """

    gains: np.ndarray
    iso_ratios: np.ndarray

    @classmethod
    def by_time(cls, stops: np.ndarray) -> Exposures:
        """Return exposures that differ in time alone, by `stops`: `(count,)` in EV."""
        return cls((2.0**stops).astype(np.float32), np.ones(len(stops)))

    def recorded_noise(self, noise: NoiseModel) -> list[NoiseModel]:
        """Return the noise model of each frame as recorded; S and O grow with the ISO.

        Args:
            noise: of the reference.
        """
        return [noise.at_iso(ratio) for ratio in self.iso_ratios.tolist()]

    def matched_noise(self, noise: NoiseModel) -> tuple[NoiseModel, ...]:
        """Return the noise model of each frame scaled to the reference's exposure.

        Dividing a frame by g makes its coefficients S / g and O / g^2.

        Args:
            noise: of the reference.
        """
        pairs = zip(self.recorded_noise(noise), self.gains.tolist(), strict=True)
        return tuple(model.scaled(1 / gain) for model, gain in pairs)


def draw_exposures(rng: np.random.Generator, count: int, config: SynthConfig) -> Exposures | None:
    """Return random exposures for a burst; None, mostly, where all frames are exposed alike.

    The reference, which comes first, may be any frame of a bracket.
    """
    kind = rng.random()
    if count == 1 or kind >= config.bracket + config.uneven:
        return None
    if kind < config.bracket:
        stops = _bracket(rng, count)
        iso_share = rng.random() if rng.random() < 0.3 else 0.0  # of the stops
    else:
        stops = rng.normal(0, _UNEVEN_SIGMA / np.log(2), count)
        iso_share = 0.0
    stops = np.clip(stops - stops[0], -_LARGEST_EV, _LARGEST_EV)
    return Exposures((2**stops).astype(np.float32), 2 ** (iso_share * stops))


def _bracket(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the exposure of each frame in EV: a shuffled camera bracket, or random values."""
    if rng.random() < 0.3:
        return rng.uniform(-_LARGEST_EV / 2, _LARGEST_EV / 2, count)
    step = _BRACKET_STEPS[int(rng.integers(len(_BRACKET_STEPS)))]
    levels = int(rng.integers(2, 6))
    return rng.permutation(np.resize(np.arange(levels) * step, count))
