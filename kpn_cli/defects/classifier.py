"""Decides which suspects are defects: a small network, and what the whole picture shows.

The network's output is the logarithm of how much likelier a suspect's features are of a defect
than of detail, in photos at large. Sensors differ in their number of defects by orders of
magnitude, and pictures in how much of their detail looks like one. So both are estimated from the
picture itself, as in Efron's "Size, power and false discovery rates" (Annals of Statistics 2007):
among detail high ratios become rare exponentially; what exceeds that are defects.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save_file

#: Units of the hidden layers.
HIDDEN = (64, 32)
#: Mean and standard deviation of the defects' log ratios on photos, smooth and textured ones.
_DEFECT_MEAN, _DEFECT_SIGMA = 9.0, 3.0
#: Share of the samples that are odd single details, such as glitter, with any ratio up to this one.
_ODD_SHARE, _ODD_REACH = 1e-5, 13.0
#: Rates at which other detail with higher ratios becomes rare.
_DETAIL_RATES = (0.35, 1.3)
_ITERATIONS = 60
#: From this share of the samples and this number on it is certain that a sensor has defects.
_CERTAIN_SHARE, _CERTAIN_NUMBER = 2e-5, 8.0
#: Then a missed one costs more than a repaired detail, and this probability is enough; in a single
#: frame it is not.
_LEAST_PROBABILITY, _LEAST_PROBABILITY_OF_ONE = 0.05, 0.5
#: Otherwise defects are believed from these log ratios on: where detail moves, and where not.
_CLEAR, _BEYOND_DOUBT = 12.0, 11.0


@dataclass(frozen=True)
class Classifier:
    """A network of three layers.

    Attributes:
        weights: of each layer, `(outputs, inputs)` float32.
        biases: of each layer, `(outputs,)` float32.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def log_ratio(self, features: np.ndarray) -> np.ndarray:
        """Return the log likelihood ratio of suspects, `(suspects,)`.

        Args:
            features: `(suspects, features)` float32, by `suspect_features`.
        """
        values = features
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                values = np.maximum(values, 0)
            values = values @ weight.T + bias
        ratio: np.ndarray = values[:, 0].astype(np.float64)
        return ratio


@dataclass(frozen=True)
class Mixture:
    """How the log likelihood ratios above 0 of a picture's suspects are distributed.

    Attributes:
        detail: expected number of suspects that are detail; their ratios are exponentially
            distributed.
        rate: of this distribution.
        odd: expected number of odd single details, in each unit of the logarithm.
        defects: expected number of defects; their ratios are normally distributed.
        samples: of the picture.
    """

    detail: float
    rate: float
    odd: float
    defects: float
    samples: int

    @classmethod
    def of(cls, ratio: np.ndarray, samples: int) -> Mixture:
        """Estimate a mixture by expectation-maximisation.

        Args:
            ratio: `(suspects,)`, log likelihood ratios.
            samples: of the picture.
        """
        high = ratio[ratio > 0]
        odd = _ODD_SHARE * samples / _ODD_REACH
        clear = max(float((high > _DEFECT_MEAN).sum()), 0.5)
        found = cls(max(len(high), 1.0), 0.85, odd, clear, samples)
        for _ in range(_ITERATIONS):
            detail, odds = found._densities(high)
            share = 1 / (1 + odds)  # of all that is no defect
            other = share * detail / (detail + found._odd_density(high))
            number = max(float(other.sum()), 1.0)
            rate = number / max(float((other * high).sum()), 1e-9)
            found = cls(
                number,
                float(np.clip(rate, *_DETAIL_RATES)),
                odd,
                float((1 - share).sum()) + 0.01,
                samples,
            )
        return found

    def are_defects(self, ratio: np.ndarray, *, still: bool, frames: int) -> np.ndarray:
        """Return which suspects are defects, `(suspects,)` bool.

        Args:
            ratio: `(suspects,)`, log likelihood ratios.
            still: whether the frames show the same detail in the same places.
            frames: their number.
        """
        certain = self.defects > max(_CERTAIN_SHARE * self.samples, _CERTAIN_NUMBER)
        least = _LEAST_PROBABILITY_OF_ONE if frames == 1 else _LEAST_PROBABILITY
        odds = self._densities(ratio)[1]
        taken: np.ndarray = (ratio > 0) & (odds > least / (1 - least))
        if not certain:
            taken &= ratio > (_BEYOND_DOUBT if still else _CLEAR)
        return taken

    def _densities(self, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the density of detail at log ratios, and the odds of a defect there."""
        detail = self.detail * self.rate * np.exp(-self.rate * np.maximum(ratio, 0))
        # Beyond the mean a higher ratio must not speak against a defect.
        from_mean = np.minimum(ratio - _DEFECT_MEAN, 0) / _DEFECT_SIGMA
        defect = self.defects * np.exp(-(from_mean**2) / 2) / (_DEFECT_SIGMA * np.sqrt(2 * np.pi))
        return detail, defect / (detail + self._odd_density(ratio))

    def _odd_density(self, ratio: np.ndarray) -> np.ndarray:
        density: np.ndarray = self.odd * np.exp(-np.maximum(ratio - _ODD_REACH, 0))
        return density


def save(classifier: Classifier, path: Path) -> None:
    """Write a classifier as safetensors."""
    tensors = {}
    for number, (weight, bias) in enumerate(
        zip(classifier.weights, classifier.biases, strict=True)
    ):
        tensors[f"{number}.weight"] = np.ascontiguousarray(weight, np.float32)
        tensors[f"{number}.bias"] = np.ascontiguousarray(bias, np.float32)
    save_file(tensors, path)


def load_classifier(path: Path) -> Classifier:
    """Read what `save` wrote."""
    tensors = load(path.read_bytes())
    layers = range(len(tensors) // 2)
    return Classifier(
        tuple(tensors[f"{number}.weight"] for number in layers),
        tuple(tensors[f"{number}.bias"] for number in layers),
    )


@cache
def bundled() -> Classifier:
    """Return the classifier that comes with kpn (`weights/defects.safetensors`)."""
    return load_classifier(Path(str(files("kpn_weights"))) / "defects.safetensors")
