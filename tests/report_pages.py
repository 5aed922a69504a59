"""Bursts and pages of reports, for their tests."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.raw.info import RawInfo

NOISE = NoiseModel.uniform(1e-3, 1e-5)


def picture(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), np.float64)


def info_of(height: int, width: int, **changes) -> RawInfo:
    info = RawInfo(
        path=Path("a.dng"), make="", model="", phase="RGGB", height=height, width=width,
        black=(0.0,) * 4, white=1.0, iso=None, exposure_time=None, f_number=None,
        focal_length=None, captured=None, orientation=1, white_balance=(1.0, 1.0, 1.0),
        color_matrix=None, noise_profile=None,
    )  # fmt: skip
    return replace(info, **changes)


def noisy(clean: np.ndarray) -> Frame:
    return Frame(torch.from_numpy(NOISE.sample(clean, np.random.default_rng(0))))
