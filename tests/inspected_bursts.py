"""Bursts to look into."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from pictures import planes

from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.pipeline.options import Options
from kpn_cli.synthesis.camera import Camera, write_frames

START = datetime(2026, 1, 1, 12)


def write_burst(folder: Path, clean: np.ndarray, noise: NoiseModel) -> list[Path]:
    """Write noiseless frames `(frames, 4, rows, columns)` with noise added."""
    folder.mkdir(parents=True, exist_ok=True)
    noisy = noise.sample(clean, np.random.default_rng(0))
    return write_frames(folder, noisy, noise, Camera(phase="RGGB"), START, "demo")


def still(count: int, height: int, width: int) -> np.ndarray:
    return np.repeat(0.6 * planes(5, height, width)[None], count, 0)


def options(folder: Path, weights: Path | None, **changes: object) -> Options:
    how = {"reference": "first", "precision": "fp32", "overwrite": True} | changes
    return Options(folder, weights=weights, **how)
