"""TensorBoard's files of a training run: curves, and what the network makes of one burst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..errors import KpnError
from ..evaluation.metrics import displayed
from ..network.restore import restore
from ..synthesis.patches import Batch
from ..synthesis.protocol import NEUTRAL
from ..system.device import autocast
from .run import Progress, Run

_GAIN = 2  # of the pictures
_ZOOM = 4


class Board:
    """Writes scalars and pictures to `tensorboard/` in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise KpnError(
                "--tensorboard: the package is not installed; pip install 'kpn[research]'"
            ) from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def show(self, run: Run, progress: Progress, sets: dict[str, dict[int, list[Batch]]]) -> None:
        """Add a report; pictures of the first validation burst with every validation."""
        add, patches = self._writer.add_scalar, progress.patches
        add("train/loss", progress.loss, patches)
        add("train/patches per second", progress.speed, patches)
        add("train/rate", run.config.rate_at(run.step), patches)
        for name, row in (progress.table or {}).items():
            for gain, figure in row.items():
                add(f"psnr {name}/gain {gain}", figure, patches)
        if progress.table is not None:
            for name, gains in sets.items():
                for title, picture in _pictures(run, gains[_GAIN][0]).items():
                    self._writer.add_image(f"{name}/{title}", picture, patches, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _pictures(run: Run, burst: Batch) -> dict[str, np.ndarray]:
    """Noisy, denoised and clean side by side, and the kernels at the middle: `(h, w, 3)` uint8."""
    network = run.average.eval()
    here = burst.to(run.device)
    with torch.inference_mode(), autocast(run.device, run.dtype):
        clean, _, kernels = restore(network, here.burst, here.shot, here.read, here.clip)
    white = float(burst.white)
    row = [_shown(p.cpu().numpy(), white) for p in (here.burst[0, 0], clean[0], burst.truth[0])]
    pictures = {"noisy, denoised, clean": np.concatenate(row, 1)}
    if kernels is not None:
        count, taps, height, width = kernels.shape[1:]
        middle = kernels[0, :, :, height // 2, width // 2].reshape(count, *[round(taps**0.5)] * 2)
        pictures["kernels"] = _kernels(middle.float().cpu().numpy())
    return pictures


def _shown(planes: np.ndarray, white: float) -> np.ndarray:
    """Half-size picture of planes; the validation bursts' white balance is the protocol's."""
    neutral = np.array([NEUTRAL[0], 1, 1, NEUTRAL[2]], np.float32)[:, None, None]
    picture = displayed(planes / neutral, white)
    rgb = np.stack([picture[0], picture[1:3].mean(0), picture[3]], -1)
    return np.round(255 * rgb).astype(np.uint8).repeat(_ZOOM, 0).repeat(_ZOOM, 1)


def _kernels(kernels: np.ndarray) -> np.ndarray:
    """Kernels `(count, K, K)` in a row: positive weights green, negative ones red."""
    scaled = np.clip(kernels / max(np.abs(kernels).max(), 1e-9), -1, 1)
    framed = np.pad(scaled, ((0, 0), (0, 0), (0, 1)))
    row = np.concatenate(list(framed), 1)
    rgb = np.stack([np.maximum(-row, 0), np.maximum(row, 0), np.zeros_like(row)], -1)
    return np.round(255 * rgb).astype(np.uint8).repeat(4 * _ZOOM, 0).repeat(4 * _ZOOM, 1)
