"""A burst made from a bundled picture, for `kpn demo`, tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from ..output.develop import to_srgb
from ..system.files import atomic, make_folder
from . import protocol
from .camera import Camera, write_frames, write_truth
from .photos import Scene, scene_from_srgb


def bundled_scene() -> Scene:
    """Return scikit-image's picture of a cup of coffee (Rachel Michetti, CC0).

    Enlarged threefold, for a mosaic at half of that: as soft as the pixels of a camera.
    """
    from skimage import data

    picture = data.coffee()  # type: ignore[no-untyped-call]  # scikit-image has no types
    photo = cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    return scene_from_srgb("coffee", photo)


def write_demo_burst(
    scene: Scene, folder: Path, *, gain: int = 2, frames: int = 8, seed: int = 0
) -> tuple[list[Path], Path]:
    """Write a hand-held burst of a scene as DNG files with NoiseProfile, and its ground truth.

    Args:
        scene: the photo to take, at half its resolution.
        folder: for `IMG_0000.dng` ...; made unless it exists. The truth goes beside it, as
            `FOLDER_truth.dng`, since it is no frame of the burst.
        gain: noise level, of `protocol.GAINS`.
        frames: number of frames; the truth is the first without noise.
        seed: of shifts and noise.

    Returns:
        Paths of the frames, and of the truth.
    """
    rng = np.random.default_rng((seed, gain))
    noise = protocol.noise_of_gain(gain)
    clean = protocol.photograph(scene, protocol.draw_camera_shifts(rng, frames), white=1.0)
    make_folder(folder)
    camera, start = Camera(), datetime(2026, 1, 1, 12, 0, 0)
    paths = write_frames(folder, noise.sample(clean, rng), noise, camera, start, "demo")
    truth = folder.with_name(f"{folder.name}_truth.dng")
    write_truth(truth, clean[0], camera, start, "demo")
    return paths, truth


def write_comparison(path: Path, pictures: Sequence[np.ndarray], zoom: int = 2) -> None:
    """Write pictures side by side as an sRGB PNG.

    Args:
        path: of the PNG.
        pictures: `(rows, columns, 3)` linear uint16 each, of one size.
        zoom: screen pixels per pixel.
    """
    gap = np.full((pictures[0].shape[0], 8, 3), 65535, np.uint16)
    row = np.concatenate([part for rgb in pictures for part in (rgb, gap)][:-1], axis=1)
    srgb = (to_srgb(row) // 257).astype(np.uint8)
    large = srgb.repeat(zoom, 0).repeat(zoom, 1)
    content = cv2.imencode(".png", cv2.cvtColor(large, cv2.COLOR_RGB2BGR))[1]
    with atomic(path) as temporary:
        temporary.write_bytes(content.tobytes())
