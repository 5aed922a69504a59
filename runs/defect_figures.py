"""Measure the repair of defects: `python runs/defect_figures.py PHOTOS`.

PHOTOS is a folder of photos. From the middle of each, bursts are made with and without defects, on
a tripod and hand-held. The first table has the share of the defects off by more than 6 sigma of a
frame that keep more than half of their error in the mean of the repaired frames, and the samples
that were changed without defects; the second one what became of stars. docs/log.md has the figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from kpn_cli.burst.frame import Frame
from kpn_cli.defects.repair import repair_burst
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis import photos, protocol
from kpn_cli.synthesis.sensor_defects import add_stars

CELLS = 320
SHARE = 3e-4
#: Motion -> largest shift, in photo pixels: half a sensor pixel.
MOTIONS = {"tripod": 0, "within 2 pixels": 4, "within 16 pixels": 32}
NOISES = [
    NoiseModel.uniform(*pair) for pair in ((2.704e-3, 4.672e-5), (3e-4, 3e-6), (6.7e-5, 2.7e-7))
]
STARS, STAR_SIGMA, SKY = 120, 0.6, 0.01


def clean_burst(scene: photos.Scene, number: int, reach: int, frames: int) -> np.ndarray:
    """Return noiseless frames of the middle of a photo, `(frames, 4, rows, columns)`."""
    shifts = np.random.default_rng((number, reach)).integers(-reach, reach + 1, (frames, 2))
    shifts[0] = 0
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    whole = protocol.photograph(scene, shifts, white)
    top, left = (max(side - CELLS, 0) // 2 for side in whole.shape[2:])
    return whole[:, :, top : top + CELLS, left : left + CELLS]


def repaired(noisy: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Return the frames of a burst after its repair."""
    frames = [Frame.of_planes(planes.copy()) for planes in noisy]
    repair_burst(frames, noise)
    return np.stack([frame.planes() for frame in frames])


def figures(scenes: list[photos.Scene], reach: int, frames: int, noise: NoiseModel) -> list[float]:
    """Return the share of hot and of dead samples that keep their error, and samples changed."""
    kept, number = np.zeros(2), np.zeros(2)
    changed = 0
    for index, scene in enumerate(scenes):
        rng = np.random.default_rng((index, frames, reach))
        clean = clean_burst(scene, index, reach, frames)
        flat = clean.reshape(frames, -1)
        sites = rng.choice(flat.shape[1], round(SHARE * flat.shape[1]), replace=False)
        hot = rng.random(len(sites)) < 0.6
        truth = flat[:, sites]
        bad = np.where(hot, np.minimum(truth + rng.uniform(0.08, 0.6, len(sites)), 1), 0)
        recorded = flat.copy()
        recorded[:, sites] = bad
        noisy = np.minimum(noise.sample(recorded.reshape(clean.shape), rng), 1).astype(np.float32)
        done = repaired(noisy, noise).reshape(frames, -1)[:, sites]
        clear = abs(bad[0] - truth[0]) > 6 * np.sqrt(noise.shot[0] * truth[0] + noise.read[0])
        left = abs((done - truth).mean(0)) > abs(bad - truth).mean(0) / 2
        for kind, chosen in enumerate((hot & clear, ~hot & clear & (truth[0] > 0.02))):
            kept[kind] += left[chosen].sum()
            number[kind] += chosen.sum()
        noisy = np.minimum(noise.sample(clean, rng), 1).astype(np.float32)
        changed += int((repaired(noisy, noise) != noisy).any(0).sum())
    return [*(kept / number).tolist(), changed]


def changed_stars(frames: int, noise: NoiseModel) -> tuple[int, float]:
    """Return the number of samples changed in a field of stars, and the 5th percentile of the flux.

    The flux of a star is that within 2 cells, over what it was before the repair.
    """
    rng = np.random.default_rng(frames)
    sky = np.full((frames, 4, CELLS, CELLS), SKY, np.float32)
    places = rng.uniform(20, 2 * CELLS - 20, (STARS, 2))
    peaks = (noise.shot[0] * SKY + noise.read[0]) ** 0.5 * rng.uniform(10, 50, STARS)
    lit = add_stars(sky, places, np.zeros((frames, 2)), peaks, STAR_SIGMA)
    noisy = noise.sample(lit, rng).astype(np.float32)
    done = repaired(noisy, noise)
    flux = []
    for y, x in (places // 2).astype(int):
        box = (..., slice(y - 2, y + 3), slice(x - 2, x + 3))
        flux.append((done - sky).mean(0)[box].sum() / (noisy - sky).mean(0)[box].sum())
    return int((done != noisy).any(0).sum()), float(np.quantile(flux, 0.05))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    folder = parser.parse_args().photos
    scenes = [photos.load_scene(path) for path in photos.find_photos([folder])]
    print("| | hot, S = 2.7e-3 / 3e-4 / 6.7e-5 | dead | samples changed without defects |")
    print("|---|---|---|---|")
    for frames, motion in (*((8, motion) for motion in MOTIONS), (1, "tripod")):
        rows = [figures(scenes, MOTIONS[motion], frames, noise) for noise in NOISES]
        hot, dead, changed = zip(*rows, strict=True)
        name = f"{motion}, {frames} frames" if frames > 1 else "one frame"
        shares = (" / ".join(f"{share:.3f}" for share in kind) for kind in (hot, dead))
        print(f"| {name} | {' | '.join(shares)} | {' / '.join(map(str, changed))} |", flush=True)
    print("\n| frames | samples of stars changed | flux kept, 5th percentile |\n|---|---|---|")
    for frames in (8, 1):
        changed, kept = zip(*(changed_stars(frames, noise) for noise in NOISES), strict=True)
        fluxes = " / ".join(f"{share:.3f}" for share in kept)
        print(f"| {frames} | {' / '.join(map(str, changed))} | {fluxes} |")


if __name__ == "__main__":
    main()
