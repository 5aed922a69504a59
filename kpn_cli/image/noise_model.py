"""The noise model of a raw frame: shot noise grows with the signal, read noise does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import KpnError, wrong_type

#: O (read noise) grows with the ISO to this power, S (shot noise) in proportion: the slope of
#: `typical_log_read`.
_READ_SLOPE = 1.6
#: Largest S and O: more than any sensor's.
MAX_COEFFICIENT = 1e3


def typical_log_read(log_shot: np.ndarray) -> np.ndarray:
    """Return log10 of the O (read noise) that is typical for log10 of S (shot noise).

    A line through the medians of 433 cameras' noise profiles and the KPN paper's gains;
    individual cameras scatter about it with a standard deviation of 0.4.
    """
    return -4.3 + _READ_SLOPE * (log_shot + 2.57)


@dataclass(frozen=True)
class NoiseModel:
    """`Var[x] = shot * x + read`, for x in [0, 1] after black and white levels.

    Both are *variance* coefficients as in the DNG NoiseProfile (DNG
    specification, tag 51041: S and O), never sigmas; one value for each of the
    planes R, G1, G2, B.

    Attributes:
        shot: S of each plane, 0 to 1000.
        read: O of each plane, 0 to 1000.

    Raises:
        KpnError: for other values, or a plane without any noise.
    """

    shot: tuple[float, float, float, float]
    read: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        for name in ("shot", "read"):
            given = getattr(self, name)
            try:
                values = tuple(float(value) for value in given)
            except (TypeError, ValueError):
                expected = "four numbers, one for each of R, G1, G2, B"
                raise wrong_type(name, expected, given) from None
            if len(values) != 4 or not all(0 <= value <= MAX_COEFFICIENT for value in values):
                raise KpnError(f"noise model: {name} must be four numbers from 0 to 1000: {values}")
            object.__setattr__(self, name, values)
        if not all(s + o > 0 for s, o in zip(self.shot, self.read, strict=True)):
            raise KpnError("noise model: shot and read noise are both zero; give at least one")

    @classmethod
    def uniform(cls, shot: float, read: float) -> NoiseModel:
        """Return the model with the same coefficients for all planes."""
        return cls((shot, shot, shot, shot), (read, read, read, read))

    def scaled(self, gain: float) -> NoiseModel:
        """Return the model of `gain * x`: S is multiplied by the gain, O by its square."""
        return self._multiplied(gain, gain * gain)

    def at_iso(self, ratio: float) -> NoiseModel:
        """Return what is likely at `ratio` times the ISO, at the same gain of the samples."""
        return self._multiplied(ratio, ratio**_READ_SLOPE)

    def with_strength(self, strength: float) -> NoiseModel:
        """Return the model whose sigma is `strength` times this one's, at every signal."""
        variance = strength * strength
        return self._multiplied(variance, variance)

    def _multiplied(self, shot_factor: float, read_factor: float) -> NoiseModel:
        r, g1, g2, b = (
            (shot_factor * s, read_factor * o) for s, o in zip(self.shot, self.read, strict=True)
        )
        return NoiseModel((r[0], g1[0], g2[0], b[0]), (r[1], g1[1], g2[1], b[1]))

    def variance(self, planes: np.ndarray) -> np.ndarray:
        """Return the variance of each sample.

        Args:
            planes: the signal, `(..., 4, height, width)`; negative values are taken as 0.
        """
        shot = np.asarray(self.shot, planes.dtype)[:, None, None]
        read = np.asarray(self.read, planes.dtype)[:, None, None]
        variance: np.ndarray = shot * np.maximum(planes, 0) + read
        return variance

    def sample(self, planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return `planes` `(..., 4, height, width)` plus Gaussian noise, float32, not clamped."""
        noise = rng.standard_normal(planes.shape, dtype=np.float32)
        noise *= np.sqrt(self.variance(planes))
        noise += planes
        return noise
