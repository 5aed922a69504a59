"""Draw the pictures of the documentation: `python docs/make_figures.py [FOLDER]`.

All pictures show synthetic bursts of two photos that come with scikit-image: a cup of coffee
(Rachel Michetti, CC0) and a cat (Stefan van der Walt, CC0). The bursts are the same every time;
the results change with the network that ships with kpn.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps
from skimage import data

from kpn_cli.align import alignment, warp
from kpn_cli.burst.frame import Frame
from kpn_cli.inspection import drawing, inspect, kernel_figures, map_figures
from kpn_cli.output.develop import develop, to_srgb8
from kpn_cli.pipeline import denoise, loading
from kpn_cli.pipeline.denoise import Engine
from kpn_cli.pipeline.options import Options
from kpn_cli.synthesis import protocol
from kpn_cli.synthesis.camera import Camera, write_frames, write_truth
from kpn_cli.synthesis.demo import bundled_scene
from kpn_cli.synthesis.photos import scene_from_srgb

FRAMES = 8
START = datetime(2026, 1, 1, 12, 0, 0)
#: Side of a crop, in pixels of the sensor.
CROP = 200
_WIDEST = 1860  # pixels of a figure


class Burst:
    """A burst on disk, and the results that kpn makes of it.

    Attributes:
        clean: `(frames, 4, rows, columns)`, linear, without noise.
        noise: model of the noise that was added.
        files: the frames; the first is the reference.
    """

    def __init__(self, folder: Path, clean: np.ndarray, gain: int) -> None:
        """Photograph `clean` at a gain of the protocol."""
        folder.mkdir()
        self.clean, self.noise = clean, protocol.noise_of_gain(gain)
        rng = np.random.default_rng((0, gain))
        noisy = self.noise.sample(clean, rng)
        self.files = write_frames(folder, noisy, self.noise, Camera(), START, "figures")
        self._folder = folder

    def denoised(self, engine: Engine, frames: int = FRAMES, **options: object) -> np.ndarray:
        """Return the result as sRGB, `(rows, columns, 3)` uint8; strength 0 is the reference."""
        with tempfile.TemporaryDirectory() as folder:
            how = Options(Path(folder), formats=("srgb",), reference="first", **options)
            done = denoise.denoise(self.files[:frames], how, engine)
            return _eight_bits(tifffile.imread(done.outputs["srgb"]))

    def truth(self) -> np.ndarray:
        """Return the reference without noise: sRGB, `(rows, columns, 3)` uint8."""
        path = self._folder.with_suffix(".dng")
        write_truth(path, self.clean[0], Camera(), START, "figures")
        return self._developed(path)

    def mean(self) -> np.ndarray:
        """Return the plain mean of the frames after alignment, likewise."""
        read = [loading.read_packed(path) for path in self.files]
        info = read[0][0]
        frames = [_frame(planes, info.black, info.white) for _, planes in read]
        shifts = alignment.align_frames(frames, self.noise)
        height, width = frames[0].size
        mean = warp.warp_frames(frames, shifts, slice(0, height), slice(0, width)).mean(0)
        return to_srgb8(develop(info, mean.numpy(), linear=True))

    def _developed(self, path: Path) -> np.ndarray:
        info, planes = loading.read_packed(path)
        linear = _frame(planes, info.black, info.white).planes()
        return to_srgb8(develop(info, linear, linear=True))


def _frame(planes: np.ndarray, black: tuple[float, ...], white: float) -> Frame:
    import torch

    return Frame(torch.from_numpy(planes), black, white)


def _eight_bits(rgb: np.ndarray) -> np.ndarray:
    return np.rint(rgb / 257).astype(np.uint8)


# --- scenes -----------------------------------------------------------------


def still_life(folder: Path, gain: int) -> Burst:
    """Return a hand-held burst of a cup of coffee."""
    shifts = protocol.draw_camera_shifts(np.random.default_rng(3), FRAMES)
    return Burst(folder, protocol.photograph(bundled_scene(), shifts, 1.0), gain)


def moving(folder: Path, gain: int) -> Burst:
    """Return the same burst with a ball that rolls over the table; it has a cat on it."""
    shifts = protocol.draw_camera_shifts(np.random.default_rng(3), FRAMES)
    clean = protocol.photograph(bundled_scene(), shifts, 1.0)
    photo = cv2.resize(data.chelsea(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    still = np.zeros((1, 2))
    ball = protocol.photograph(scene_from_srgb("cat", photo), still, 1.0)[0]
    radius, rows, columns = 34, *clean.shape[-2:]
    ball = ball[:, 30 : 30 + 2 * radius, 60 : 60 + 2 * radius]
    y, x = np.mgrid[-radius:radius, -radius:radius] + 0.5
    mask = np.clip(radius - np.hypot(y, x), 0, 1).astype(np.float32)
    for number, frame in enumerate(clean):
        top, left = rows - 90 - number, 30 + 9 * number
        place = frame[:, top : top + 2 * radius, left : left + 2 * radius]
        place += mask * (ball - place)
    assert columns > 200
    return Burst(folder, clean, gain)


# --- figures ----------------------------------------------------------------


def _crop(rgb: np.ndarray, top: int, left: int, height: int = CROP, width: int = CROP):
    return rgb[top : top + height, left : left + width]


def side_by_side(
    pictures: dict[str, np.ndarray], place: tuple[int, ...], width: float
) -> Image.Image:
    """Draw the same crop of several pictures side by side, each with its name below."""
    parts = [
        drawing.column(
            [
                drawing.picture(_crop(rgb, *place), width),
                drawing.text(name, 13, width=width),
            ],
            6,
            middle=True,
        )
        for name, rgb in pictures.items()
    ]
    return drawing.row(parts, 8)


def before_and_after(folder: Path, engine: Engine) -> Image.Image:
    """Draw one frame, the result, and the ground truth."""
    burst = still_life(folder / "still", 4)
    pictures = {
        "one frame": burst.denoised(engine, strength=0.0),
        f"kpn, {FRAMES} frames": burst.denoised(engine),
        "the truth": burst.truth(),
    }
    return side_by_side(pictures, (90, 330, 300, 300), 300)


def more_frames(folder: Path, engine: Engine) -> Image.Image:
    """Draw the results of 1, 2, 4 and 8 frames."""
    burst = still_life(folder / "frames", 8)
    pictures = {"one frame, as it is": burst.denoised(engine, strength=0.0)}
    for count in (1, 2, 4, 8):
        name = f"kpn, {count} frame" + "s" * (count > 1)
        pictures[name] = burst.denoised(engine, frames=count)
    return side_by_side(pictures, (330, 440, 180, 180), 180)


def strengths(folder: Path, engine: Engine) -> Image.Image:
    """Draw the results of several values of --strength."""
    burst = still_life(folder / "strength", 2)
    pictures = {
        f"--strength {strength:g}": burst.denoised(engine, strength=strength)
        for strength in (0.0, 0.5, 1.0, 2.0, 4.0)
    }
    return side_by_side(pictures, (90, 600, 180, 180), 180)


def motion(folder: Path, engine: Engine) -> Image.Image:
    """Draw a moving object: one frame, the mean of the frames, the result."""
    burst = moving(folder / "motion", 2)
    pictures = {
        "one frame": burst.denoised(engine, strength=0.0),
        "mean of the aligned frames": burst.mean(),
        "kpn": burst.denoised(engine),
    }
    return side_by_side(pictures, (330, 20, 220, 300), 300)


def inside(folder: Path, engine: Engine) -> dict[str, Image.Image]:
    """Figures of kpn inspect: kernels on what stands still and on what moves, and the weights."""
    burst = moving(folder / "inside", 2)
    places = [(540, 440), (150, 430)]
    options = Options(folder / "none", reference="first")
    found = inspect.inspect(burst.files, options, places)
    still, rolling = found.views
    return {
        "kernels_still": kernel_figures.kernels(found, still),
        "kernels_moving": kernel_figures.kernels(found, rolling),
        "weights": map_figures.weights(found),
    }


def main(output: Path) -> None:
    """Make all figures."""
    engine = Engine(Options())
    output.mkdir(parents=True, exist_ok=True)
    single: dict[str, Callable[[Path, Engine], Image.Image]] = {
        "before_after": before_and_after,
        "frames": more_frames,
        "strength": strengths,
        "motion": motion,
    }
    with tempfile.TemporaryDirectory() as folder:
        drawn = {name: draw(Path(folder), engine) for name, draw in single.items()}
        drawn |= inside(Path(folder), engine)
    for name, picture in drawn.items():
        path = output / f"{name}.webp"
        if picture.width > _WIDEST:
            picture = ImageOps.contain(picture, (_WIDEST, _WIDEST), Image.Resampling.LANCZOS)
        picture.save(path, quality=85, method=6)
        print(path, f"{path.stat().st_size / 1000:.0f} kB", f"{picture.width} x {picture.height}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "img")
