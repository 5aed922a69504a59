"""The noise of a raw frame: shot noise that grows with the signal, read noise that does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import KpnError, wrong_type


def typical_read(log_shot: np.ndarray) -> np.ndarray:
    """log10 of the O that goes with log10 of S.

    A line through the medians of 433 cameras' profiles and the KPN paper's gains;
    single cameras scatter about it by 0.4.
    """
    return -4.3 + 1.6 * (log_shot + 2.57)


@dataclass(frozen=True)
class NoiseModel:
    """`Var[x] = shot * x + read`, for x in [0, 1] after black and white levels.

    Both are *variance* coefficients as in the DNG NoiseProfile (DNG
    specification, tag 51041: S and O), never sigmas; one value for each of the
    planes R, G1, G2, B.
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
            if len(values) != 4 or not all(0 <= value <= 1e3 for value in values):
                raise KpnError(f"noise model: {name} must be four numbers from 0 to 1000: {values}")
            object.__setattr__(self, name, values)
        if not all(s + o > 0 for s, o in zip(self.shot, self.read, strict=True)):
            raise KpnError("noise model: shot and read noise are both zero; give at least one")

    @classmethod
    def uniform(cls, shot: float, read: float) -> NoiseModel:
        """The same coefficients for all planes."""
        return cls((shot,) * 4, (read,) * 4)

    def scaled(self, gain: float) -> NoiseModel:
        """The model of `gain * x`: shot noise scales with the gain, read noise with its square."""
        return NoiseModel(
            tuple(gain * s for s in self.shot), tuple(gain * gain * o for o in self.read)
        )

    def with_strength(self, strength: float) -> NoiseModel:
        """The model whose sigma is `strength` times this one's, at every signal."""
        variance = strength * strength
        return NoiseModel(
            tuple(variance * s for s in self.shot), tuple(variance * o for o in self.read)
        )

    def variance(self, planes: np.ndarray) -> np.ndarray:
        """Return the variance at each sample of `(..., 4, height, width)`; negatives count as 0."""
        shot = np.asarray(self.shot, planes.dtype)[:, None, None]
        read = np.asarray(self.read, planes.dtype)[:, None, None]
        return shot * np.maximum(planes, 0) + read

    def sample(self, planes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return `planes` with Gaussian noise of this model added, not clamped, as float32."""
        noise = rng.standard_normal(planes.shape, dtype=np.float32)
        noise *= np.sqrt(self.variance(planes))
        noise += planes
        return noise
