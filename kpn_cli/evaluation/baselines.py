"""Classical single-frame denoisers as baselines: scikit-image's, after variance stabilisation.

`f(x) = (2 / S) sqrt(S x + O)` turns noise with `Var[x] = S x + O` into noise of variance 1. As f
is concave, the mean of f(x) is below f of the mean: to first order, `E[f(x)] = D` means
`f(E[x]) = D + 1 / (2 D)`. `unstabilise` corrects for this (derived as for the Poisson case in
Makitalo and Foi, "Optimal Inversion of the Generalized Anscombe Transformation for
Poisson-Gaussian Noise", IEEE TIP 2013).

`block_matching.stabilise` is another transform: it has Anscombe's 3/8 S^2 under the root, which
this inverse does not fit, and needs no inverse.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import KpnError
from ..image.noise_model import NoiseModel

#: Non-local means: side of a patch and largest distance between patches, in cells.
_PATCH, _REACH = 5, 6
#: Non-local means: filter strength over sigma, as scikit-image's documentation recommends.
_FILTER_STRENGTH = 0.8
#: Smallest stabilised value that the inverse takes; below, its square would rise again.
_SMALLEST_LEVEL = 1e-2


def stabilise(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Transform linear planes `(4, height, width)` so that their noise has variance 1; float32."""
    shot, read = _coefficients(noise)
    stable: np.ndarray = 2 / shot * np.sqrt(np.maximum(shot * planes + read, 0))
    return stable.astype(np.float32)


def unstabilise(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Invert `stabilise` for denoised planes `(4, height, width)`, without bias; float32."""
    shot, read = _coefficients(noise)
    level = np.maximum(planes, _SMALLEST_LEVEL)
    mean = level + 1 / (2 * np.maximum(level, 1))
    linear: np.ndarray = shot / 4 * mean**2 - read / shot
    return linear.astype(np.float32)


def _coefficients(noise: NoiseModel) -> tuple[np.ndarray, np.ndarray]:
    # Without shot noise f is undefined; so little of it changes nothing.
    shot = np.maximum(np.array(noise.shot), 1e-9)[:, None, None]
    return shot, np.array(noise.read)[:, None, None]


def non_local_means(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Denoise a linear frame `(4, height, width)` by non-local means on all planes together."""
    from skimage.restoration import denoise_nl_means

    stable = stabilise(planes, noise)
    clean = denoise_nl_means(
        stable,
        patch_size=_PATCH,
        patch_distance=_REACH,
        h=_FILTER_STRENGTH,
        sigma=1.0,
        fast_mode=True,
        channel_axis=0,
    )
    return unstabilise(clean, noise)


def wavelets(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Denoise a linear frame `(4, height, width)` by wavelet soft thresholding (BayesShrink).

    Raises:
        KpnError: if PyWavelets is not installed.
    """
    from skimage.restoration import denoise_wavelet

    check_installed(["wavelets"])
    stable = stabilise(planes, noise)
    clean = denoise_wavelet(stable, sigma=1.0, rescale_sigma=False, channel_axis=0)
    return unstabilise(clean, noise)


def check_installed(names: Sequence[str]) -> None:
    """Check that the packages are installed that baselines need.

    Raises:
        KpnError: if PyWavelets is not installed and "wavelets" is among the names.
    """
    if "wavelets" in names:
        try:
            import pywt  # noqa: F401
        except ImportError:
            raise KpnError(
                "--baselines wavelets: PyWavelets is not installed; pip install 'kpn[research]'"
            ) from None
