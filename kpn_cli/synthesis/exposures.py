"""Bursts whose frames differ in exposure: how much signal each records, and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..image.noise_model import NoiseModel
from .config import SynthConfig

#: Largest ratio of two exposures of a burst, in EV: a factor of 16.
_MOST = 4.0
#: Steps of a camera's bracket, in EV.
_STEPS = (1 / 3, 2 / 3, 1.0, 1.5, 2.0, 3.0)
#: Standard deviation of the logarithm of the gain where frames differ by a few per cent.
_UNEVEN = 0.03
#: How read noise grows with the ISO: the slope of `noise_model.typical_log_read`.
_READ_SLOPE = 1.6


@dataclass(frozen=True)
class Exposures:
    """The exposures of a burst.

    Attributes:
        gains: `(count,)` float32, g: recorded signal of each frame over the reference's,
            from exposure time, aperture and ISO.
        isos: `(count,)`, ISO of each frame over the reference's.
    """

    gains: np.ndarray
    isos: np.ndarray

    @classmethod
    def by_time(cls, stops: np.ndarray) -> Exposures:
        """Frames of one ISO and aperture, `(count,)` EV above the reference, which is the first."""
        return cls((2.0**stops).astype(np.float32), np.ones(len(stops)))

    def own_noise(self, noise: NoiseModel) -> list[NoiseModel]:
        """Noise of each frame as it is recorded; S and O grow with its ISO.

        Args:
            noise: of the reference.
        """
        return [
            NoiseModel(
                tuple(iso * s for s in noise.shot),
                tuple(iso**_READ_SLOPE * o for o in noise.read),
            )
            for iso in self.isos.tolist()
        ]

    def noise(self, noise: NoiseModel) -> tuple[NoiseModel, ...]:
        """Noise of each frame in the reference's exposure: S / g and O / g^2."""
        pairs = zip(self.own_noise(noise), self.gains.tolist(), strict=True)
        return tuple(model.scaled(1 / gain) for model, gain in pairs)


def draw_exposures(rng: np.random.Generator, count: int, config: SynthConfig) -> Exposures | None:
    """Return the exposures of a burst; None where all are the same, as mostly.

    Any frame of a bracket may be the reference, which is the first.
    """
    kind = rng.random()
    if count == 1 or kind >= config.bracket + config.uneven:
        return None
    if kind < config.bracket:
        stops = _bracket(rng, count)
        by_iso = rng.random() if rng.random() < 0.3 else 0.0
    else:
        stops = rng.normal(0, _UNEVEN / np.log(2), count)
        by_iso = 0.0
    stops = np.clip(stops - stops[0], -_MOST, _MOST)
    return Exposures((2**stops).astype(np.float32), 2 ** (by_iso * stops))


def _bracket(rng: np.random.Generator, count: int) -> np.ndarray:
    """Exposure of each frame in EV: a camera's bracket, shuffled, or anything."""
    if rng.random() < 0.3:
        return rng.uniform(-_MOST / 2, _MOST / 2, count)
    step = _STEPS[int(rng.integers(len(_STEPS)))]
    different = int(rng.integers(2, 6))
    return rng.permutation(np.resize(np.arange(different) * step, count))
