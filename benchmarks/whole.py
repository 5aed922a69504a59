"""Time of `kpn denoise` as a whole: `python benchmarks/whole.py [megapixels] [frames]`.

Makes a burst from an enlarged bundled picture, denoises it in a new process, and prints the time in
seconds and per megapixel. It depends on the machine: compare ratios within one run. `memory.py`
measures memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from kpn_cli.synthesis.demo import write_demo_burst
from kpn_cli.synthesis.photos import scene_from_srgb


def make_burst(folder: Path, megapixels: float, frames: int) -> list[Path]:
    """Write a burst of a size in megapixels; return its files."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5) * 2 + 64
    size = (int(1.5 * height), height)
    photo = cv2.resize(data.coffee(), size, interpolation=cv2.INTER_CUBIC)
    # The enlarged picture is smooth; added texture lets the aligner work as on photos.
    grain = np.random.default_rng(0).normal(0, 6, photo.shape[:2]).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 1.5)[..., None] * 4
    photo = np.clip(photo + grain, 0, 255).astype(np.uint8)
    return write_demo_burst(scene_from_srgb("coffee", photo), folder, frames=frames)[0]


def main(megapixels: float, frames: int) -> None:
    """Run the benchmark and print its line."""
    with tempfile.TemporaryDirectory() as folder:
        files = make_burst(Path(folder), megapixels, frames)
        command = [Path(sys.executable).with_name("kpn"), "denoise", *files, "-o", folder, "--json"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    (burst,) = json.loads(run.stdout)["bursts"]
    seconds = burst["seconds"]
    print(
        f"{megapixels:g} megapixels x {frames}: {seconds:.1f} s on {burst['device']}, "
        f"{seconds / megapixels:.2f} s per megapixel; "
        + ", ".join(f"{stage} {time:.1f} s" for stage, time in burst["timings"].items())
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(float(arguments[0]) if arguments else 12, int(arguments[1]) if arguments[1:] else 8)
