"""TensorBoard log of a training run: curves, and pictures of one burst of each set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import KpnError
from ..evaluation.metrics import to_display
from ..network.apply_kernels import restore
from ..synthesis.patches import TrainingBatch
from ..synthesis.protocol import NEUTRAL
from ..system.device import autocast
from .run import Progress, TrainingRun
from .validation import ValidationSets

#: Gain of the bursts that are shown.
_GAIN = 2
#: Screen pixels per cell.
_ZOOM = 4


def check_tensorboard() -> Any:
    """Return the class that writes TensorBoard logs; call it before anything is made.

    Raises:
        KpnError: if TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise KpnError(
            "--tensorboard: TensorBoard is not installed; pip install 'kpn[research]'"
        ) from None
    return SummaryWriter


class TensorBoardLog:
    """Writes scalars and pictures to `tensorboard/` in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        """Open the log in the folder of a run.

        Raises:
            KpnError: if TensorBoard is not installed.
        """
        self._writer = check_tensorboard()(str(folder / "tensorboard"))

    def add_report(self, run: TrainingRun, progress: Progress, sets: ValidationSets) -> None:
        """Add a report and, after a validation, pictures of the first burst of each set."""
        patches = progress.patches
        self._scalar("train/loss", progress.loss, patches)
        self._scalar("train/patches per second", progress.speed, patches)
        self._scalar("train/rate", run.config.rate_at(run.step), patches)
        for name, row in (progress.table or {}).items():
            for gain, figure in row.items():
                self._scalar(f"psnr {name}/gain {gain}", figure, patches)
        if progress.table is not None:
            for name, gains in sets.items():
                for title, picture in _pictures(run, gains[_GAIN][0]).items():
                    self._writer.add_image(f"{name}/{title}", picture, patches, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the log."""
        self._writer.close()

    def _scalar(self, name: str, value: float, patches: int) -> None:
        self._writer.add_scalar(name, value, patches)


def _pictures(run: TrainingRun, burst: TrainingBatch) -> dict[str, np.ndarray]:
    """Return pictures `(height, width, 3)` uint8 of a batch of one burst, by title.

    Noisy, denoised and clean side by side; and the kernels at the middle.
    """
    network = run.average.eval()
    inputs = burst.to(run.device)
    with torch.inference_mode(), autocast(run.device, run.dtype):
        clean, _, kernels = restore(network, inputs.burst, inputs.shot, inputs.read, inputs.clip)
    white = float(burst.white)
    shown = (inputs.burst[0, 0], clean[0], burst.target[0])
    row = [_to_rgb(planes.cpu().numpy(), white) for planes in shown]
    pictures = {"noisy, denoised, clean": np.concatenate(row, 1)}
    if kernels is not None:
        count, taps, height, width = kernels.shape[1:]
        side = round(taps**0.5)
        middle = kernels[0, :, :, height // 2, width // 2].reshape(count, side, side)
        pictures["kernels"] = _kernels_to_rgb(middle.float().cpu().numpy())
    return pictures


def _to_rgb(planes: np.ndarray, white: float) -> np.ndarray:
    """Return planes as sRGB, one pixel per cell, with the protocol's white balance."""
    neutral = np.array([NEUTRAL[0], 1, 1, NEUTRAL[2]], np.float32)[:, None, None]
    picture = to_display(planes / neutral, white)
    rgb = np.stack([picture[0], picture[1:3].mean(0), picture[3]], -1)
    return np.round(255 * rgb).astype(np.uint8).repeat(_ZOOM, 0).repeat(_ZOOM, 1)


def _kernels_to_rgb(kernels: np.ndarray) -> np.ndarray:
    """Draw kernels `(count, K, K)` in a row: positive weights green, negative ones red."""
    scaled = np.clip(kernels / max(np.abs(kernels).max(), 1e-9), -1, 1)
    framed = np.pad(scaled, ((0, 0), (0, 0), (0, 1)))
    row = np.concatenate(list(framed), 1)
    rgb = np.stack([np.maximum(-row, 0), np.maximum(row, 0), np.zeros_like(row)], -1)
    return np.round(255 * rgb).astype(np.uint8).repeat(4 * _ZOOM, 0).repeat(4 * _ZOOM, 1)
