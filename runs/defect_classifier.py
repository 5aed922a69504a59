"""Train the classifier of defective samples: `python runs/defect_classifier.py TRAIN VAL FILE`.

TRAIN and VAL are folders of photos. From each photo bursts are made with random noise, number of
frames, motion, defects and stars; the features of their suspects (`kpn_cli/defects/features.py`)
are what the classifier learns from. It prints what it misses and takes wrongly on VAL; with
`--check`, of a FILE that exists.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from kpn_cli.burst.frame import Frame
from kpn_cli.defects import classifier, features
from kpn_cli.defects.mean_frame import mean_frame
from kpn_cli.image.noise_model import NoiseModel, typical_log_read
from kpn_cli.synthesis import photos, protocol
from kpn_cli.synthesis.sensor_defects import SensorDefects, add_stars, draw_defects

SEED = 22
CELLS = 192
BURSTS_PER_PHOTO = 5
#: Tripod twice: there, detail stands as still as defects.
REACHES = (0, 0, 2, 16)
COUNTS = (1, 1, 2, 3, 4, 5, 8, 8, 8, 12)
SHARE = 1e-3
MAX_SUSPECTS = 5000
#: Of suspects in stars: rarer in the photos than in the night sky.
STAR_WEIGHT = 3.0
STEPS, BATCH = 20_000, 2048
#: Share of defects in the batches: with few, it learns the rare detail that looks like one.
DEFECTS = 0.1


@dataclass
class Suspects:
    """Features of the suspects of one burst, whether they are defects, and their weights."""

    features: np.ndarray
    defects: np.ndarray
    weights: np.ndarray
    count: int
    reach: int
    samples: int
    still: bool


def random_noise(rng: np.random.Generator) -> NoiseModel:
    """Return the noise of a random camera at a random ISO."""
    log_shot = rng.uniform(-5, -1.5)
    read = 10 ** (float(typical_log_read(np.array(log_shot))) + rng.normal(0, 0.4))
    return NoiseModel.uniform(10**log_shot, read)


def clean_burst(
    rng: np.random.Generator, scene: photos.Scene, count: int, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return noiseless frames and the camera's shifts in sensor pixels."""
    shifts = rng.integers(-2 * reach, 2 * reach + 1, (count, 2))
    shifts[0] = 0
    white = 10 ** rng.uniform(-1, 0)
    frames = protocol.photograph(scene, shifts, white)
    _, _, height, width = frames.shape
    top, left = (int(rng.integers(0, max(side - CELLS, 0) + 1)) for side in (height, width))
    return frames[:, :, top : top + CELLS, left : left + CELLS], shifts[:, ::-1] / 2


def night_sky(
    rng: np.random.Generator, frames: np.ndarray, shifts: np.ndarray, noise: NoiseModel
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames with stars, darker ones mostly, and a mask of the samples that have light."""
    if rng.random() < 0.7:
        frames = frames * np.float32(10 ** rng.uniform(-3, -1))
    _, _, height, width = frames.shape
    number = int(10 ** rng.uniform(1, 2.8))
    spread = 10 ** rng.uniform(np.log10(0.52), np.log10(1.3))
    positions = rng.uniform(0, 1, (number, 2)) * (2 * height, 2 * width)
    level = float(frames[0].mean())
    sigma = (noise.shot[0] * level + noise.read[0]) ** 0.5
    peaks = sigma * 10 ** rng.uniform(0.3, 2.3, (number, 1)) * rng.uniform(0.5, 1, (number, 4))
    lit = add_stars(frames, positions, shifts, peaks, spread * rng.uniform(0.9, 1.2, number))
    return lit, np.abs(lit - frames)[0] > 0.02 * sigma


def suspects_of(
    rng: np.random.Generator, scene: photos.Scene, *, share: float = SHARE, seldom: bool = True
) -> Suspects:
    """Return the suspects of a random burst of a photo."""
    count, reach = int(rng.choice(COUNTS)), int(rng.choice(REACHES))
    noise = random_noise(rng)
    frames, shifts = clean_burst(rng, scene, count, reach)
    lit = np.zeros(frames.shape[1:], bool)
    if rng.random() < 0.3:
        frames, lit = night_sky(rng, frames, shifts, noise)
    _, _, height, width = frames.shape
    defects = draw_defects(rng, height, width, share)
    recorded = defects.recorded(frames)
    noisy = np.minimum(noise.sample(recorded, rng), 1).astype(np.float32)
    if rng.random() < 0.5:
        levels = np.float32(2 ** int(rng.integers(10, 15)) - 1)
        noisy = np.rint(noisy * levels) / levels
    # Users' noise models are a little wrong.
    assumed = noise.with_strength(1.25 ** rng.normal())
    shown = [Frame(torch.from_numpy(planes)) for planes in noisy]
    mean = mean_frame(shown)
    sites = features.find_suspects(mean, assumed, count)
    number, samples = sites.shape[1], 4 * height * width
    at_random = rng.permutation(number)[: MAX_SUSPECTS if seldom else number]
    values = features.suspect_features(sites[:, at_random], sites, mean, shown, assumed)
    still = features.is_still(values)
    values = features.with_context(values, features.context_of(values, number, samples))
    chosen = tuple(sites[:, at_random])
    truth = is_defect(defects, frames, recorded, noise)[chosen]
    weights = np.full(len(at_random), number / max(len(at_random), 1))
    weights[lit[chosen] & ~truth] *= STAR_WEIGHT
    # Defects too small to matter are neither one nor the other.
    kept = truth | ~defects.mask(height, width)[chosen]
    return Suspects(values[kept], truth[kept], weights[kept], count, reach, samples, still)


def is_defect(
    defects: SensorDefects, clean: np.ndarray, recorded: np.ndarray, noise: NoiseModel
) -> np.ndarray:
    """Return the defects that matter: off by more than 1.5 sigma of a frame, on average."""
    error = np.abs(np.minimum(recorded, 1) - np.minimum(clean, 1)).mean(0)
    sigma = np.sqrt(noise.shot[0] * clean.mean(0).clip(0) + noise.read[0])
    mask: np.ndarray = defects.mask(*clean.shape[2:]) & (error > 1.5 * sigma)
    return mask


def all_suspects(folder: Path, seed: int, share: float, *, seldom: bool) -> Iterator[Suspects]:
    """Yield the suspects of random bursts of all photos in a folder."""
    for number, path in enumerate(photos.find_photos([folder])):
        scene = photos.load_scene(path)
        if min(scene.height, scene.width) < 400:
            continue
        for burst in range(BURSTS_PER_PHOTO):
            rng = np.random.default_rng((seed, number, burst))
            yield suspects_of(rng, scene, share=share, seldom=seldom)


def train(found: list[Suspects]) -> classifier.Classifier:
    """Fit the network; its logit becomes the log likelihood ratio of defects and others."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    values = np.concatenate([one.features for one in found])
    truth = np.concatenate([one.defects for one in found])
    weights = np.concatenate([one.weights for one in found])
    for label, part in ((True, DEFECTS), (False, 1 - DEFECTS)):
        weights[truth == label] *= part / weights[truth == label].sum()
    steps = np.cumsum(weights) / weights.sum()
    mean, scale = values.mean(0), values.std(0) + 1e-6
    inputs = torch.from_numpy((values - mean) / scale)
    labels = torch.from_numpy(truth.astype(np.float32))
    sizes = (values.shape[1], *classifier.HIDDEN, 1)
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, STEPS)
    for step in range(STEPS):
        batch = np.searchsorted(steps, rng.random(BATCH)).clip(0, len(truth) - 1)
        loss = binary_cross_entropy_with_logits(network(inputs[batch])[:, 0], labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 5000 == 4999:
            print(f"{step + 1} steps, loss {loss.item():.4f}", flush=True)
    weights_of = [layer.weight.detach().numpy() for layer in layers]
    biases = [layer.bias.detach().numpy() for layer in layers]
    # The scaling of the features becomes a part of the first layer.
    biases[0] = biases[0] - weights_of[0] @ (mean / scale)
    weights_of[0] = weights_of[0] / scale
    biases[2] = biases[2] - np.float32(np.log(DEFECTS / (1 - DEFECTS)))
    return classifier.Classifier(tuple(weights_of), tuple(biases))


def report(trained: classifier.Classifier, folder: Path) -> None:
    """Print the errors of a classifier on bursts of photos, with defects and without."""
    print("| frames | motion | missed | wrongly taken, of a million | the same without defects |")
    print("|---|---|---|---|---|")
    table: dict[tuple[bool, bool], np.ndarray] = {}
    for density, index in ((3e-4, 0), (0.0, 1)):
        for one in all_suspects(folder, SEED + 1, density, seldom=False):
            ratio = trained.log_ratio(one.features)
            mixture = classifier.Mixture.of(ratio, one.samples)
            taken = mixture.are_defects(ratio, still=one.still, frames=one.count)
            counts = table.setdefault((one.count > 1, one.reach > 0), np.zeros(6))
            wrong = (taken & ~one.defects).sum()
            if index == 0:
                missed = (one.defects & ~taken).sum()
                counts += missed, one.defects.sum(), wrong, one.samples, 0, 0
            else:
                counts += 0, 0, 0, 0, wrong, one.samples
    for (several, moved), (missed, number, wrong, samples, more, others) in sorted(table.items()):
        print(
            f"| {'several' if several else 'one'} | {'hand-held' if moved else 'tripod'} | "
            f"{missed / number:.3f} | {1e6 * wrong / samples:.1f} | {1e6 * more / others:.1f} |"
        )


def main() -> None:
    """Train, write the classifier, and print its errors on the validation photos."""
    parser = argparse.ArgumentParser()
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="measure FILE, do not train")
    options = parser.parse_args()
    if options.check:
        trained = classifier.load_classifier(options.file)
    else:
        found = list(all_suspects(options.train, SEED, SHARE, seldom=True))
        defects = sum(int(one.defects.sum()) for one in found)
        print(f"{len(found)} bursts, {defects} defects", flush=True)
        trained = train(found)
        classifier.save(trained, options.file)
    report(trained, options.val)


if __name__ == "__main__":
    main()
