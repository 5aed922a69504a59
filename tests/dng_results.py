"""Sources, denoised DNGs made of them, and how to compare both."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import rawpy

from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.output.develop import preview
from kpn_cli.output.dng_source import is_auxiliary_image
from kpn_cli.output.dng_writer import write_denoised_dng
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.tiff.reader import read_tree

SHARED = Path(__file__).parents[2] / "shared" / "raw"
REAL = ["single/canon-kiss-x4.dng", "single/blackmagic-pocket-linearization-table.dng",
        "pi-static/frame_00.dng"]  # fmt: skip
NOISE = NoiseModel((1e-4, 2e-4, 2e-4, 3e-4), (1e-7, 2e-7, 2e-7, 3e-7))
NOW = datetime(2025, 6, 7, 8, 9, 10, tzinfo=timezone(timedelta(hours=2)))


def identity(source: Path, output: Path, **options) -> Path:
    """Write the planes of a frame as its own result: the identity for a network."""
    info = read_info(source)
    planes = read_planes(info)
    options = {"noise": NOISE, "modified": NOW} | options
    tree = read_tree(source, is_auxiliary_image)
    write_denoised_dng(output, info, tree, planes, preview(info, planes), **options)
    return output


def linear_samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The whole frame above black and over LibRaw's range, and the frame in DN."""
    with rawpy.imread(str(path)) as raw:
        frame = raw.raw_image.copy()
        black = np.array(raw.black_level_per_channel)[raw.raw_colors]
        return (frame - black.astype(float)) / (raw.white_level - black.max()), frame


def rendered(path: Path, **options) -> np.ndarray:
    options = {
        "use_camera_wb": True, "no_auto_bright": True, "adjust_maximum_thr": 0, "output_bps": 16,
        "gamma": (1, 1), "demosaic_algorithm": rawpy.DemosaicAlgorithm.LINEAR,
    } | options  # fmt: skip
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(**options)


def blocks(rgb: np.ndarray, size: int = 64) -> np.ndarray:
    rows, columns = rgb.shape[0] // size, rgb.shape[1] // size
    cut = rgb[: rows * size, : columns * size].astype(np.float64)
    return cut.reshape(rows, size, columns, size, 3).mean(axis=(1, 3))


def assert_alike(ours: np.ndarray, theirs: np.ndarray, dark: float = 0.0) -> None:
    """Means of channels and of blocks of 64 pixels agree within 1 %; below `dark`, absolutely."""
    assert ours.shape == theirs.shape
    top = np.iinfo(ours.dtype).max
    np.testing.assert_allclose(ours.mean((0, 1)), theirs.mean((0, 1)), rtol=0.01)
    np.testing.assert_allclose(blocks(ours), blocks(theirs), rtol=0.01, atol=0.01 * dark * top)
