"""Measure brackets of high-contrast scenes against equal frames, the reference and the truth.

    python benchmarks/brackets.py VAL_PHOTOS [--photos N] [--weights FILE] [--precision fp32,int8]

The scenes are photos whose highlights are brightened in linear light: the reference (0 EV) clips
there, the short exposure (-2 EV) does not. Bursts are hand-held, with sub-cell shifts and shutters
that are off by 3 % (sigma); four kinds of them:

    hand-held    frames are equally sharp
    object       a moving object in front of it
    shaken       frames smear in proportion to their exposure time
    ramp         no photo: a surface of one colour that grows brighter, with faint texture; there
                 is no detail to be lost, so that colours show what clipping does to them

Each bracket is compared with as many frames of the reference's exposure ("equal"), with its own
frames of that exposure ("own"), and with the reference. Shadows are the darkest third of the
truth's cells. Colours are compared where the longest exposure begins to clip: G/R and G/B against
the truth, in per cent, of windows along the border of the clipped region, and of all cells of a
brightness.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from kpn_cli.evaluation import metrics
from kpn_cli.evaluation.brackets import denoise_bracket, equal_exposures
from kpn_cli.image.bayer import unpack
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.network.precision import in_precision
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis import protocol
from kpn_cli.synthesis.brackets import Bracket, draw_bracket
from kpn_cli.synthesis.demo import write_comparison
from kpn_cli.synthesis.highlights import with_highlights
from kpn_cli.synthesis.motion import draw_object
from kpn_cli.synthesis.photos import PIXELS_PER_CELL, Scene, load_scenes

KINDS = ("hand-held", "object", "shaken", "ramp")
#: Signal of the brightest highlights in the reference: it clips at 1, the frame of -2 EV at 4.
BRIGHTEST = 3.6
#: Largest shift in photo pixels: 2 mosaic pixels, in steps of a quarter of a cell.
SHIFT = 4
#: Sides of blocks and windows, and reach of the border of the clipped region, in cells.
BLOCK, WINDOW, REACH, CROP = 32, 32, 8, 96
#: Brightness of cells over the longest exposure's clipping point: edges of the classes.
LEVELS = np.geomspace(0.5, 2, 9)
#: Mean squared error below which no difference is visible: 50 dB, 0.8 steps of 8 bits.
INVISIBLE = 1e-5
#: Fewest cells of a class, or of a window.
FEWEST = {"class": 400, "window": 400}
#: Cells of less red or blue than this share of green are left out: noise rules their ratios.
FAINT = 0.3


@dataclass(frozen=True)
class Test:
    """A bracket, the same burst in equal exposures, and the truth.

    Attributes:
        clean: `(4, rows, columns)`, the reference without noise, not clipped.
        recorded, equal: noisy bursts, each frame in its exposure, clipped at 1.
        white: signal of the photo's white.
    """

    clean: np.ndarray
    recorded: np.ndarray
    equal: np.ndarray
    white: float
    noise: NoiseModel
    bracket: Bracket

    @property
    def truth(self) -> np.ndarray:
        """The reference without noise, clipped."""
        return np.minimum(self.clean, 1)


def make_test(
    scenes: list[Scene], number: int, kind: str, evs: list[float], frames: int, gain: int
) -> Test:
    """Return a burst of a photo; it depends on the gain in noise alone.

    The white levels of the photos are the protocol's, in turn.
    """
    rng = np.random.default_rng((number, frames, KINDS.index(kind)))
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    bracket = draw_bracket(rng, evs, frames, shaken=kind == "shaken")
    if kind == "ramp":
        scene = ramp(rng, scenes[number].height, scenes[number].width)
        white = 1.0
    else:
        scene = with_highlights(scenes[number], BRIGHTEST / white)
    shifts = rng.integers(-SHIFT, SHIFT + 1, (frames, 2))
    shifts[0] = 0
    path = mask = None
    if kind == "object":
        size, camera = protocol.frame_size(scene), shifts[:, ::-1] / PIXELS_PER_CELL
        path, mask = draw_object(rng, size, np.arange(frames), camera)
        other = scenes[(number + 1) % len(scenes)].resized(scene.height, scene.width)
    noise = protocol.noise_of_gain(gain)
    bursts = []
    # Equal exposures smear like the reference.
    even = replace(equal_exposures(frames), shake=bracket.shake / bracket.gains[:, None])
    for exposed in (bracket, even):
        planes = protocol.photograph_planes(scene, shifts, None, exposed.shake).astype(np.float32)
        if path is not None:
            steps = np.round(path[:, ::-1] * PIXELS_PER_CELL).astype(int)
            front = protocol.photograph_planes(other, shifts - steps)
            planes += mask * (front - planes)
        clean = protocol.to_raw_signal(planes, white)
        noise_rng = np.random.default_rng((number, frames, KINDS.index(kind), gain))
        bursts.append(exposed.record(clean, noise, noise_rng))
    return Test(clean[0], *bursts, white, noise, bracket)


def ramp(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Return a surface of a random pale colour, from 1/40 of white on the left to white."""
    colour = rng.uniform(0.6, 1, 3)
    grain = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), 6)
    light = 40 ** (np.linspace(-1, 0, width) + 0.01 * grain / grain.std())
    return Scene("ramp", (65535 * colour[:, None, None] * light).astype(np.float32))


# --- figures ----------------------------------------------------------------


def brightness(test: Test) -> np.ndarray:
    """Return the brightest sample of each cell over the longest exposure's clipping point."""
    return test.clean.max(0) * test.bracket.longest


def usable(test: Test) -> np.ndarray:
    """Return the cells whose colour the reference records."""
    _, *others = test.clean
    red, green, blue = test.clean[0], (others[0] + others[1]) / 2, others[2]
    return (test.clean.max(0) < 0.85) & (np.minimum(red, blue) > FAINT * green)


def off_in_colour(planes: np.ndarray, test: Test, where: np.ndarray) -> list[float]:
    """Return by how much G/R and G/B of cells differ from the truth's, in per cent."""
    means, truths = (p[:, where].mean(1, dtype=np.float64) for p in (planes, test.clean))
    green = (means[1] + means[2]) / (truths[1] + truths[2])
    return [100 * float(green * truths[n] / means[n] - 1) for n in (0, 3)]


def colours_by_level(planes: np.ndarray, test: Test) -> list[list[float]]:
    """Return the errors of G/R and G/B of cells by `LEVELS`, and their number; 0 if too few."""
    level, fit = brightness(test), usable(test)
    classes = [fit & (level >= a) & (level < b) for a, b in pairwise(LEVELS)]
    return [
        [*off_in_colour(planes, test, cells), int(cells.sum())]
        if cells.sum() >= FEWEST["class"]
        else [0.0, 0.0, 0]
        for cells in classes
    ]


def pooled(photos: list[list[list[float]]]) -> np.ndarray:
    """Return the mean errors over photos, weighted by cells: `(classes, 2)`, NaN for no cells."""
    errors = np.array(photos, float)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = (errors[..., :2] * errors[..., 2:]).sum(0) / errors[..., 2:].sum(0)
    return mean


def clipping_border(test: Test) -> np.ndarray:
    """Return the cells on both sides of the border of the longest exposure's clipped region."""
    clipped = (cv2.blur(brightness(test), (3, 3)) >= 1).astype(np.uint8)
    side = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    return (cv2.dilate(clipped, side) > cv2.erode(clipped, side)) & usable(test)


def colours_of_windows(planes: np.ndarray, test: Test) -> list[float]:
    """Return the errors of G/R and G/B of the windows along the clipping border."""
    border, errors = clipping_border(test), []
    for top in range(0, border.shape[0], WINDOW):
        for left in range(0, border.shape[1], WINDOW):
            cells = np.zeros_like(border)
            window = slice(top, top + WINDOW), slice(left, left + WINDOW)
            cells[window] = border[window]
            if cells.sum() >= FEWEST["window"]:
                errors += np.abs(off_in_colour(planes, test, cells)).tolist()
    return errors


def block_errors(planes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean squared error of each block of 64x64 sensor pixels, as displayed.

    With what is added to each: where the reference clips as a whole, it has no error at all.
    """
    error = np.square(metrics.to_display(planes, 1.0) - metrics.to_display(truth, 1.0)).mean(0)
    rows, columns = (side // BLOCK for side in error.shape)
    cut = error[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.mean((1, 3)) + INVISIBLE


def figures(outputs: dict[str, np.ndarray], test: Test) -> dict:
    """Return the figures of a burst: PSNR in dB, errors of colours in per cent."""
    dark = metrics.darkest_third(test.truth)
    found: dict = {"clipped": float((brightness(test) >= 1)[dark].mean())}
    for name, planes in outputs.items():
        found[f"{name} shadows"] = metrics.psnr(planes, test.truth, test.white, dark)
        found[f"{name} whole"] = metrics.psnr(planes, test.truth, 1.0)
    before = block_errors(outputs["reference"], test.truth)
    for name in ("bracket", "equal"):
        after = block_errors(outputs[name], test.truth)
        found[f"{name} block"] = float(10 * np.log10(before / after).min())
    for name in ("bracket", "equal"):
        found[f"{name} levels"] = colours_by_level(outputs[name], test)
        found[f"{name} windows"] = colours_of_windows(outputs[name], test)
    return found


def outputs_of(network, test: Test, dtype) -> tuple[dict[str, np.ndarray], int]:
    """Return the results of a burst by name, and the number of the bracket's merged frames."""
    own = test.recorded[test.bracket.of_reference]
    done, aligned = denoise_bracket(network, test.recorded, test.noise, test.bracket, dtype=dtype)
    found = {"reference": test.recorded[0], "bracket": done.planes}
    for name, burst in (("equal", test.equal), ("own", own)):
        even = equal_exposures(len(burst))
        found[name] = denoise_bracket(network, burst, test.noise, even, dtype=dtype)[0].planes
    return found, len(aligned.used)


# --- pictures ---------------------------------------------------------------


def developed(planes: np.ndarray, at: tuple[int, int], lift: float) -> np.ndarray:
    """Return a crop as linear RGB, 16 bit: white-balanced, demosaiced bilinearly, brightened."""
    rows, columns = (slice(start, start + CROP) for start in at)
    balance = np.float32([1 / protocol.NEUTRAL[0], 1, 1, 1 / protocol.NEUTRAL[2]])
    # As editors do: no colour is brighter than the clipped one that is darkest when balanced.
    cut = np.clip(planes[:, rows, columns] * balance[:, None, None], 0, 1)
    numbers = np.rint(np.minimum(cut * lift, 1) * 65535).astype(np.uint16)
    mosaic = unpack(numbers, "RGGB", 2 * cut.shape[1], 2 * cut.shape[2])
    return cv2.cvtColor(np.ascontiguousarray(mosaic), cv2.COLOR_BayerRGGB2RGB)


def densest(weight: np.ndarray) -> tuple[int, int]:
    """Return the corner of the crop with the largest sum of weights."""
    sums = cv2.integral(weight.astype(np.float32))
    boxes = sums[CROP:, CROP:] - sums[CROP:, :-CROP] - sums[:-CROP, CROP:] + sums[:-CROP, :-CROP]
    row, column = np.unravel_index(boxes.argmax(), boxes.shape)
    return int(row), int(column)


def write_pictures(folder: Path, name: str, outputs: dict[str, np.ndarray], test: Test) -> None:
    """Write crops at 200 %: reference, own, equal, bracket, truth; in shadows and at the border."""
    folder.mkdir(parents=True, exist_ok=True)
    dark = -cv2.blur(test.truth.mean(0), (9, 9))
    for place, weight, lift in (
        ("shadows", dark - dark.min(), 1.0),
        ("border", clipping_border(test), 1.0),
        ("worst", np.zeros(0), 1.0),
    ):
        if place == "worst":
            ratio = block_errors(outputs["bracket"], test.truth) / block_errors(
                outputs["reference"], test.truth
            )
            row, column = np.unravel_index(ratio.argmax(), ratio.shape)
            middle = np.array([row, column]) * BLOCK + 4 - (CROP - BLOCK) // 2
            at = tuple(
                int(np.clip(m, 0, s - CROP)) for m, s in zip(middle, dark.shape, strict=True)
            )
        else:
            at = densest(weight)
        # As bright as an editor would show it: the crop's median at 18 % grey, by at most 5 EV.
        crop = test.truth[:, at[0] : at[0] + CROP, at[1] : at[1] + CROP]
        lift = float(np.clip(0.18 / max(np.median(crop[1]), 1e-4), 0.5, 32))
        shown = [outputs[n] for n in ("reference", "own", "equal", "bracket")] + [test.truth]
        write_comparison(
            folder / f"{name}_{place}.png", [developed(planes, at, lift) for planes in shown]
        )


# --- tables -----------------------------------------------------------------


def print_quality(rows: dict[tuple, list[dict]]) -> None:
    """Print PSNR against equal frames, own frames and the reference."""
    print("\nPSNR differences in dB: mean over the photos / worst photo\n")
    print("| burst | frames | gain | arithmetic | shadows, over equal | shadows, over own "
          "| shadows, over the reference | equal over own, shadows | whole, over the reference "
          "| worst block | equal: worst block | fewest merged "
          "| share of the shadows that the longest exposure clips |")  # fmt: skip
    print("|---" * 13 + "|")
    for key, found in rows.items():

        def differ(one: str, other: str, found: list = found) -> str:
            values = [f[one] - f[other] for f in found]
            return f"{np.mean(values):+.2f} / {min(values):+.2f}"

        cells = [
            differ("bracket shadows", "equal shadows"),
            differ("bracket shadows", "own shadows"),
            differ("bracket shadows", "reference shadows"),
            differ("equal shadows", "own shadows"),
            differ("bracket whole", "reference whole"),
            *(f"{min(f[f'{n} block'] for f in found):+.2f}" for n in ("bracket", "equal")),
            str(min(f["used"] for f in found)),
            f"{np.mean([f['clipped'] for f in found]):.0%}",
        ]
        print(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")


def print_colours(rows: dict[tuple, list[dict]]) -> None:
    """Print errors of colours of the bracket, and of equal frames, which have them by noise."""
    print("\nG/R and G/B against the truth, per cent: mean / largest of the absolute errors\n")
    print("| burst | frames | gain | arithmetic | by brightness, pooled over photos | equal frames "
          "| windows along the border | equal frames |")  # fmt: skip
    print("|---" * 8 + "|")
    for key, found in rows.items():
        cells = []
        for title in ("levels", "windows"):
            for name in ("bracket", "equal"):
                errors = [f[f"{name} {title}"] for f in found]
                values = np.abs(pooled(errors) if title == "levels" else np.concatenate(errors))
                empty = np.isnan(values).all() or not values.size
                cells.append(
                    "-" if empty else f"{np.nanmean(values):.2f} / {np.nanmax(values):.2f}"
                )
        print(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")


def print_profile(rows: dict[tuple, list[dict]]) -> None:
    """Print errors of colours by brightness, pooled over photos."""
    print("\nG/R, G/B against the truth by brightness over the clipping point, pooled, per cent\n")
    spans = [f"{a:.2f}-{b:.2f}" for a, b in pairwise(LEVELS)]
    print("| burst | frames | gain | arithmetic | of | " + " | ".join(spans) + " |")
    print("|---" * (5 + len(spans)) + "|")
    for key, found in rows.items():
        for name in ("bracket", "equal"):
            errors = pooled([f[f"{name} levels"] for f in found])
            cells = ["-" if np.isnan(red) else f"{red:+.2f}, {blue:+.2f}" for red, blue in errors]
            print(f"| {' | '.join(map(str, key))} | {name} | {' | '.join(cells)} |")


def print_precisions(rows: dict[tuple, list[dict]], names: list[str]) -> None:
    """Print what other precisions change against the first."""
    print(f"\nPSNR of brackets against {names[0]}, dB: mean / worst photo\n")
    print("| burst | frames | gain | arithmetic | whole | shadows |")
    print("|---" * 6 + "|")
    for key, found in rows.items():
        if key[-1] == names[0]:
            continue
        plain = rows[(*key[:-1], names[0])]
        cells = []
        for what in ("bracket whole", "bracket shadows"):
            lost = [f[what] - p[what] for f, p in zip(found, plain, strict=True)]
            cells.append(f"{np.mean(lost):+.3f} / {min(lost):+.3f}")
        print(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos_folder", type=Path)
    parser.add_argument("--photos", type=int, default=6, help="so many, spread over the folder")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--gains", default="1,4")
    parser.add_argument("--frames", default="8,9")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--exposures", default="-2,0,2", help="in EV")
    parser.add_argument("--precision", default="fp32", help="of fp32, bf16, int8, with commas")
    parser.add_argument("--pictures", type=Path, help="folder for crops at 200 %%")
    arguments = parser.parse_args()
    network, _ = load_weights(arguments.weights)
    names, networks = arguments.precision.split(","), {}
    for name in names:
        ready, arithmetic = in_precision(network, name)
        if arithmetic.name != name:
            raise SystemExit(arithmetic.note)
        networks[name] = ready, arithmetic.dtype
    scenes = load_scenes([arguments.photos_folder], at_least=4 * (CROP + 32))
    scenes = scenes[:: max(len(scenes) // arguments.photos, 1)][: arguments.photos]
    evs = [float(ev) for ev in arguments.exposures.split(",")]
    rows = defaultdict(list)
    for kind in arguments.kinds.split(","):
        for frames in map(int, arguments.frames.split(",")):
            for gain in map(int, arguments.gains.split(",")):
                for number in range(len(scenes)):
                    test = make_test(scenes, number, kind, evs, frames, gain)
                    for name, (ready, dtype) in networks.items():
                        outputs, used = outputs_of(ready, test, dtype)
                        key = kind, frames, gain, name
                        rows[key].append(figures(outputs, test) | {"used": used})
                        if arguments.pictures:
                            title = "_".join(map(str, (number, *key)))
                            write_pictures(arguments.pictures, title, outputs, test)
    print(
        f"{len(scenes)} photos, {arguments.exposures} EV, {arguments.weights or 'shipped'} weights"
    )
    print_quality(rows)
    print_colours(rows)
    print_profile(rows)
    if len(names) > 1:
        print_precisions(rows, names)


if __name__ == "__main__":
    main()
