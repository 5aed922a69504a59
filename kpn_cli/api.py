"""The public Python API, offered as `kpn_cli.denoise` etc.; docs/api.md has examples.

The functions check their arguments and call the stages of the pipeline. A wrong type raises a
`TypeError` that names the argument; a wrong value, or a file that cannot be used, raises a
`KpnError`. Arguments are never modified, and only `denoise` writes files.

A *plane* holds the samples of one colour of the Bayer mosaic. The four planes of a frame come in
the order R, G1, G2, B: G1 is the green of the red rows, G2 that of the blue rows. A sample of a
plane is a *cell*: 2x2 pixels of the sensor. Linear planes are 0 at the black level and 1 at the
white level; noise makes some samples negative, and they stay so.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .align.alignment import align_burst
from .align.warp import warp_frames
from .burst.frame import Frame, noise_coefficients
from .errors import KpnError, wrong_type
from .image import bayer
from .image.noise_model import NoiseModel
from .merge import merge
from .network.kpn import KPN
from .network.precision import in_precision
from .network.weights import load_weights
from .pipeline import denoise as pipeline
from .pipeline.options import Options, path_of
from .pipeline.result import Result, Stage
from .raw import reader
from .raw.full_exif import complete
from .raw.info import RawInfo
from .system.device import pick_device
from .system.memory import free_memory, memory_as_error

Array = npt.NDArray[np.float32]
Samples = npt.NDArray[np.floating[Any]]
StrPath = str | os.PathLike[str]

#: Side in sensor pixels of the tiles in which kernels are predicted: kernels take 900 bytes a cell.
_KERNEL_TILE = 512
#: A mean sample above this is no linear plane: even a clipped frame has a mean of 1.
_LARGEST_MEAN = 2.0


# --- files ----------------------------------------------------------------------------


def denoise(
    paths: StrPath | Iterable[StrPath],
    options: Options | None = None,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Result:
    """Denoise the raw files of one burst and write the outputs.

    All files are taken as one burst; only the command `kpn denoise` groups files by time.

    Args:
        paths: a raw file or a folder of raw files, or several of them, in any order.
        options: how, and where the outputs go; by default `Options()`.
        on_progress: called with the name of a stage, such as "aligning", the number of its steps
            done, and their total.

    Returns:
        The files written (`outputs`, by format), the frames used, the noise, and so on.

    Raises:
        TypeError: if an argument has a wrong type.
        KpnError: if files cannot be read, are no burst, or an output cannot be written. No
            output is left half-written.
    """
    files = _paths(paths)
    if options is None:
        options = Options()
    if not isinstance(options, Options):
        raise wrong_type("options", "an Options", options)
    if options.report:
        raise KpnError("options.report: only the command kpn denoise --report writes a report")

    def on_stage(stage: Stage) -> None:
        if on_progress is not None:
            on_progress(stage.name, stage.done, stage.total)

    return pipeline.denoise(files, options, on_stage=on_stage)


def read_raw(path: StrPath) -> tuple[Array, RawInfo]:
    """Read the linear planes of a raw file, and what it says about itself.

    Args:
        path: a raw file of a Bayer sensor, in any format that LibRaw reads.

    Returns:
        Planes, `(4, rows, columns)` float32, 0 = black level, 1 = white level, not clipped; and
        camera, exposure, levels, size, noise profile, and so on.

    Raises:
        TypeError: if the path is neither a str nor a Path.
        KpnError: if the file is no Bayer raw, or damaged.
    """
    file = path_of("path", path)
    with memory_as_error():
        info, mosaic = reader.read_raw(file)
        info = complete(info)
        samples = torch.from_numpy(bayer.pack(mosaic, info.phase))
        return Frame(samples, info.black, info.white).planes(), info


def _paths(paths: object) -> list[Path]:
    if isinstance(paths, (str, os.PathLike)):
        return [path_of("paths", paths)]
    if not isinstance(paths, Iterable) or isinstance(paths, bytes):
        raise wrong_type("paths", "a str, a Path or a list of them", paths)
    files = [path_of(f"paths[{n}]", path) for n, path in enumerate(paths)]
    if not files:
        raise KpnError("paths is empty; give the raw files of a burst, or their folder")
    return files


# --- arrays ---------------------------------------------------------------------------


def denoise_planes(
    frames: Samples,
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    network: KPN | None = None,
    device: str | None = None,
    precision: str = "auto",
) -> Array:
    """Denoise a burst of linear planes; the first frame is the reference.

    As with files, the frames are aligned to the reference and brought to its brightness. A frame
    that shows something else, or is heavily blurred, is not used.

    Args:
        frames: `(frames, 4, rows, columns)`, floating point, 0 = black, 1 = white. One frame or
            more; a single frame is denoised spatially.
        noise: of the reference. Where four frames or more certainly show at least 1.25 times its
            sigma, what they show is assumed, up to twice the sigma.
        strength: factor of the noise sigma that the network assumes, from 0 to 4; 0 returns the
            reference unchanged.
        network: as `load_network` returns it; by default the bundled one.
        device: "auto", "cpu", "cuda" or "mps"; by default the network's, or "auto".
        precision: of the network's arithmetic: "auto", "fp32", "bf16" or "int8"; the last needs
            OpenVINO and a network with activation ranges, else floating point is used, with a
            warning (`UserWarning`).

    Returns:
        The clean reference, `(4, rows, columns)` float32.

    Raises:
        TypeError: if an argument has a wrong type.
        KpnError: if frames have another shape or hold NaN or infinity, or an option has a wrong
            value.
    """
    burst = _planes(frames)
    options = Options(strength=strength, precision=precision)
    noise = _noise(noise)
    network = _network(network, device)
    if options.strength == 0:
        reference: Array = burst[0].copy()
        return reference
    target = _device_of(network)
    with memory_as_error():
        network, arithmetic = in_precision(
            network, options.precision, pixels=4 * burst.shape[-2] * burst.shape[-1]
        )
        if arithmetic.note:
            warnings.warn(arithmetic.note, stacklevel=2)
        done, _ = merge.denoise_burst(
            network,
            _on_device(burst, target),
            noise,
            strength=options.strength,
            dtype=arithmetic.dtype,
            tile=merge.tile_side(network, free_memory(target), len(burst)),
            measure_residual=False,
        )
    if not np.isfinite(done.planes).all():
        raise KpnError("the result holds values that are not numbers; check noise and network")
    return done.planes


def denoise_mosaics(
    frames: Samples,
    phase: str,
    noise: NoiseModel,
    *,
    strength: float = 1.0,
    network: KPN | None = None,
    device: str | None = None,
    precision: str = "auto",
) -> Array:
    """Denoise a burst of linear Bayer mosaics; the first frame is the reference.

    Args:
        frames: `(frames, height, width)`, floating point, 0 = black, 1 = white, in sensor pixels.
        phase: colours of the first 2x2 pixels, row by row: "RGGB", "GRBG", "GBRG" or "BGGR".
        noise, strength, network, device, precision: as for `denoise_planes`.

    Returns:
        The clean reference, `(height, width)` float32.

    Raises:
        TypeError, KpnError: as `denoise_planes`.
    """
    mosaics = _samples(frames, "(frames, height, width)", 3)
    if not isinstance(phase, str):
        raise wrong_type("phase", f"one of {', '.join(bayer.PHASES)}", phase)
    planes = denoise_planes(
        np.stack([bayer.pack(mosaic, phase) for mosaic in mosaics]),
        noise,
        strength=strength,
        network=network,
        device=device,
        precision=precision,
    )
    return bayer.unpack(planes, phase, *mosaics.shape[1:])


# --- the network ----------------------------------------------------------------------


def load_network(path: StrPath | None = None, device: str = "auto") -> KPN:
    """Load a network, ready for use.

    Args:
        path: a weight file written by `kpn train`; None for the bundled network.
        device: "auto", "cpu", "cuda" or "mps".

    Returns:
        A `torch.nn.Module` in evaluation mode, without gradients. Its `config` says how many
        frames it takes, the side of its kernels, and so on.

    Raises:
        TypeError: if an argument has a wrong type.
        KpnError: if the file is missing or damaged, or there is no such device.
    """
    file = None if path is None else path_of("path", path)
    target = _device(device)
    network, _ = load_weights(file)
    return network.to(target)


def predict_kernels(
    frames: Samples,
    noise: NoiseModel,
    *,
    network: KPN | None = None,
    device: str | None = None,
) -> Array:
    """Predict the kernels under which the frames of a burst are merged.

    The clean reference begins as the sum of all aligned frames, each filtered with its kernel of
    each cell. The dilated kernel and the cross-plane detail that the network applies to this sum
    afterwards are not shown. Computed in float32.

    Args:
        frames: as for `denoise_planes`; at most `network.config.frames` of them.
        noise, network, device: as for `denoise_planes`.

    Returns:
        `(frames, K*K, rows, columns)` float32, where K is `network.config.kernel`; the same
        kernels serve all four planes. `kernels[n, :, y, x].reshape(K, K)` holds the weights of
        frame n around cell (y, x). At each cell, the weights of all frames sum to 1. A frame that
        is not used has weights of 0. The array takes 100 bytes for each frame and cell.

    Raises:
        TypeError, KpnError: as `denoise_planes`; also for more frames than the network takes,
            and for a network that writes pixels instead of kernels.
    """
    burst = _planes(frames)
    noise = _noise(noise)
    network = _network(network, device)
    config = network.config
    if len(burst) > config.frames:
        raise KpnError(f"{len(burst)} frames, but the network takes {config.frames}; give fewer")
    if config.output != "kernels":
        raise KpnError("this network writes pixels, not kernels; load another")
    target = _device_of(network)
    count, _, height, width = burst.shape
    with memory_as_error(), torch.inference_mode():
        kernels = np.zeros((count, config.kernel**2, height, width), np.float32)
        found = align_burst(_on_device(burst, target), noise)
        shot, read = noise_coefficients(noise, target)
        for rows, columns in merge.tile_spans(network, height, width, _KERNEL_TILE):
            aligned = warp_frames(found.frames, found.shifts, rows.slice, columns.slice)
            predicted = network(aligned[None], shot, read)[0]
            # They sum to the number of frames, of which the mean is taken.
            part = predicted[0, : len(found.used)].cpu().numpy() / len(found.used)
            part *= rows.weight[:, None] * columns.weight
            kernels[found.used, :, rows.slice, columns.slice] += part
    return kernels


# --- checks ---------------------------------------------------------------------------


def _samples(frames: object, shape: str, dimensions: int) -> Array:
    """Return an array of a burst as float32, not copied if it is that already."""
    if not isinstance(frames, np.ndarray):
        raise wrong_type("frames", f"a numpy array of shape {shape}", frames)
    if not np.issubdtype(frames.dtype, np.floating):
        raise TypeError(
            f"frames must hold floating-point samples, 0 at black and 1 at white, not "
            f"{frames.dtype}"
        )
    if frames.ndim != dimensions or 0 in frames.shape:
        raise KpnError(f"frames has the shape {frames.shape}; give {shape}, all of 1 or more")
    if not np.isfinite(frames).all():
        raise KpnError("frames holds NaN or infinite samples; replace them")
    if frames[0].mean() > _LARGEST_MEAN:
        raise KpnError(
            f"frames has a mean of {frames[0].mean():g}; subtract the black level and divide by "
            "white - black"
        )
    return np.asarray(frames, np.float32)


def _planes(frames: object) -> Array:
    shape = "(frames, 4, rows, columns)"
    samples = _samples(frames, shape, 4)
    if samples.shape[1] != 4:
        raise KpnError(f"frames has the shape {samples.shape}; give {shape}")
    return samples


def _noise(noise: object) -> NoiseModel:
    if not isinstance(noise, NoiseModel):
        raise wrong_type("noise", "a NoiseModel", noise)
    return noise


def _network(network: object, device: str | None) -> KPN:
    """Return the network that is asked for, on the device that is asked for."""
    if network is None:
        return load_network(device="auto" if device is None else device)
    if not isinstance(network, KPN):
        raise wrong_type("network", "a network as load_network returns it", network)
    there = _device_of(network)
    if device is not None and _device(device).type != there.type:
        raise KpnError(f"device: {device}, but the network is on {there}; leave one of them out")
    return network


def _device(name: object) -> torch.device:
    if not isinstance(name, str):
        raise wrong_type("device", "a str", name)
    return pick_device(name)


def _device_of(network: KPN) -> torch.device:
    return next(network.parameters()).device


def _on_device(burst: Array, device: torch.device) -> list[Frame]:
    # torch warns of arrays that cannot be written to, though nothing does.
    arrays = (np.require(frame, np.float32, ["C", "W"]) for frame in burst)
    return [Frame(torch.from_numpy(array)).to(device) for array in arrays]
