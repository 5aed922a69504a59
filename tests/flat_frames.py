"""Pairs of flat frames as a camera writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kpn_cli.image import bayer
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.output.dng_tags import DngTags
from kpn_cli.output.dng_writer import write_cfa_dng

BLACK, WHITE, PHASE = 2048, 16383, "GBRG"
#: Brightness of the flats' middle, of the white level.
BRIGHTNESSES = (0.002, 0.01, 0.05, 0.25, 0.7)


def truth(iso: float) -> NoiseModel:
    """A camera whose planes differ: as a median one's at ISO 100, twice that and more above."""
    gain = iso / 100
    shot = np.array([4.0, 5.0, 5.2, 6.0]) * 1e-6 * gain
    read = np.array([5.0, 6.0, 7.0, 9.0]) * 1e-9 * gain**1.7
    return NoiseModel(tuple(shot), tuple(read))


def recorded(noise: NoiseModel) -> NoiseModel:
    """The noise with what rounding to whole numbers adds."""
    rounding = 1 / 12 / (WHITE - BLACK) ** 2
    return NoiseModel(noise.shot, tuple(o + rounding for o in noise.read))


def flat(brightness: float, rows: int = 160, columns: int = 240) -> np.ndarray:
    """A grey surface with vignetting to a half, `(4, rows, columns)`."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.float32([0.6, 1, 1, 0.8])[:, None, None] * np.float32(
        brightness * (1 - 0.25 * (x * x + y * y))
    )


def write(
    path: Path,
    planes: np.ndarray,
    iso: float | None,
    seconds: float = 0.01,
    model: str = "Flat 1",
) -> Path:
    """Write noisy planes as a DNG."""
    numbers = np.rint(planes * (WHITE - BLACK) + BLACK).clip(0, WHITE).astype(np.uint16)
    mosaic = bayer.unpack(numbers, PHASE, 2 * planes.shape[1], 2 * planes.shape[2])
    tags = DngTags(
        PHASE, (BLACK,) * 4, WHITE, make="Maker", model=model, iso=iso, exposure_time=seconds
    )
    write_cfa_dng(path, mosaic, tags)
    return path


def pairs(
    folder: Path,
    isos: tuple[float, ...],
    brightnesses: tuple[float, ...] = BRIGHTNESSES,
    seed: int = 0,
    flicker: float = 0.01,
) -> list[Path]:
    """Write two frames of each brightness and ISO; the second one is a little brighter."""
    rng = np.random.default_rng(seed)
    paths = []
    for iso in isos:
        for brightness in brightnesses:
            for number in range(2):
                light = flat(brightness) * np.float32(1 + flicker * number)
                name = f"{iso:g}_{brightness:g}_{number}.dng"
                noisy = truth(iso).sample(light, rng)
                paths.append(write(folder / name, noisy, iso, brightness / 10))
    return paths
