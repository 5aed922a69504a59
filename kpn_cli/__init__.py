"""kpn: one clean raw photo from a burst of noisy ones, with a Kernel Prediction Network.

The folders follow the data. Each imports only from those before it:

    system      the machine: atomic files and locks, devices, memory, several processes
    image       arrays of a Bayer mosaic: planes, noise model, sRGB, filters, tiles
    tiff        the TIFF container: tags and directories, read and written
    raw         a camera's file -> its mosaic, levels, exposure and tags
    burst       files -> bursts: finding, grouping, choosing the reference frame
    defects     hot, dead and stuck samples, columns and rows: found and repaired
    align       frames -> shifts onto the reference; robustness: weights of frames that moved
    noise       how noisy the frames are: profile, calibration file or estimate
    network     the kernel prediction network: features, kernels, their use, weights
    merge       aligned frames -> the whole clean picture, tile by tile; strength; the guard that
                falls back to the reference; residual noise
    output      clean planes -> DNG, TIFF, JPEG
    pipeline    one burst from files to outputs
    batch       many bursts: plan, reading ahead and writing behind, HTML report
    inspection  `kpn inspect`: what the network does with a burst, as figures
    synthesis   photos -> synthetic noisy bursts with their ground truth
    evaluation  PSNR and SSIM against baselines, and stress scenes
    training    bursts -> weights: loss, loop, run (checkpoint, log), validation
    cli         the `kpn` command: parses options, calls the above, prints

`errors.py` and `choices.py` lie below all of them. `api.py` holds the functions that this package
offers to Python (docs/api.md); it uses the folders down to `pipeline`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import (
        denoise,
        denoise_mosaics,
        denoise_planes,
        load_network,
        predict_kernels,
        read_raw,
    )
    from .errors import KpnError
    from .image.noise_model import NoiseModel
    from .pipeline.options import Options
    from .pipeline.result import Result
    from .raw.info import RawInfo
else:  # hidden from type checkers, which would take any name for one of this package

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used, so that `kpn --help` needs no torch."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{_CLASSES.get(name, 'api')}", __name__), name)
        globals()[name] = value
        return value


__all__ = [
    "KpnError",
    "NoiseModel",
    "Options",
    "RawInfo",
    "Result",
    "__version__",
    "denoise",
    "denoise_mosaics",
    "denoise_planes",
    "load_network",
    "predict_kernels",
    "read_raw",
]

#: The one place of the version (PEP 440). Between releases, the next one's with ".dev0"; a release
#: takes that away, and the "unreleased" of CHANGELOG.md. Of a result, only the tag Software has it.
__version__ = "0.1.0.dev0"

#: Modules of the public classes; the functions are in `api`.
_CLASSES = {
    "KpnError": "errors",
    "NoiseModel": "image.noise_model",
    "Options": "pipeline.options",
    "RawInfo": "raw.info",
    "Result": "pipeline.result",
}


def __dir__() -> list[str]:
    return sorted(__all__)
