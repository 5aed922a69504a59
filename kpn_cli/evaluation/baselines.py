"""Classical denoisers of one frame, to compare with: scikit-image's, after variance stabilisation.

`Var[x] = S x + O` becomes 1 under `f(x) = (2 / S) sqrt(S x + O)`. Its concavity biases a
mean of f by -f''-terms; to first order `E[f(x)] = D` belongs to `f(mean) = D + 1 / (2 D)`,
which `unstabilised` takes into account (derived as for the Poisson case in Makitalo and Foi,
"Optimal Inversion of the Generalized Anscombe Transformation for Poisson-Gaussian Noise",
IEEE TIP 2013). `block_matching.stabilise` is another transform: it has Anscombe's 3/8 S^2 under the
root, which this inverse doesn't fit, and no inverse, which alignment doesn't need.
"""

from __future__ import annotations

import numpy as np

from ..errors import KpnError
from ..image.noise_model import NoiseModel

_PATCH, _REACH = 5, 6  # of non-local means, in cells
_FILTERING = 0.8  # of sigma: the strength that scikit-image's documentation advises
_LEAST = 1e-2  # of the stabilised signal, where its square is taken for the inverse


def stabilised(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return planes `(4, height, width)` with noise of variance 1, float32."""
    shot, read = _columns(noise)
    return (2 / shot * np.sqrt(np.maximum(shot * planes + read, 0))).astype(np.float32)


def unstabilised(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Undo `stabilised` for planes that have been denoised, without bias."""
    shot, read = _columns(noise)
    level = np.maximum(planes, _LEAST)
    mean = level + 1 / (2 * np.maximum(level, 1))
    return (shot / 4 * mean**2 - read / shot).astype(np.float32)


def _columns(noise: NoiseModel) -> tuple[np.ndarray, np.ndarray]:
    # Without shot noise there is nothing to stabilise; a trace of it changes nothing.
    shot = np.maximum(np.array(noise.shot), 1e-9)[:, None, None]
    return shot, np.array(noise.read)[:, None, None]


def non_local_means(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Denoise a frame, `(4, height, width)`, by non-local means over all planes together."""
    from skimage.restoration import denoise_nl_means

    stable = stabilised(planes, noise)
    clean = denoise_nl_means(
        stable,
        patch_size=_PATCH,
        patch_distance=_REACH,
        h=_FILTERING,
        sigma=1.0,
        fast_mode=True,
        channel_axis=0,
    )
    return unstabilised(clean, noise)


def wavelets(planes: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Denoise a frame, `(4, height, width)`, by soft thresholds on wavelets (BayesShrink).

    Raises:
        KpnError: if PyWavelets is not installed.
    """
    from skimage.restoration import denoise_wavelet

    stable = stabilised(planes, noise)
    try:
        clean = denoise_wavelet(stable, sigma=1.0, rescale_sigma=False, channel_axis=0)
    except ImportError:
        raise KpnError(
            "--baselines wavelets: PyWavelets is not installed; pip install 'kpn[research]'"
        ) from None
    return unstabilised(clean, noise)
