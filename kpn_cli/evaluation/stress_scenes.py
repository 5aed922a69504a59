"""Stress scenes: synthetic bursts of what goes wrong in the field, with ground truth.

They check that the result is never worse than the reference frame. Each burst shows the middle of
a photo, with the protocol's noise. Some frames are black, too bright, misaligned, of another scene
or of another exposure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..image.noise_model import NoiseModel
from ..merge import merge
from ..network.kpn import KPN
from ..synthesis import protocol
from ..synthesis.brackets import draw_bracket
from ..synthesis.motion import draw_object
from ..synthesis.photos import PIXELS_PER_CELL, Scene
from . import brackets, metrics
from .benchmark import repaired_frames

#: Noise level -> (S, O): a camera at ISO 100 (median of 433 models), and the protocol's gains.
NOISE_LEVELS = {"ISO 100": (3.2e-6, 2.8e-9)} | {
    f"gain {g}": pair for g, pair in protocol.GAINS.items()
}
#: Side of the frames, in cells.
_CELLS = 160
#: Smallest side of a photo, in photo pixels.
PHOTO_PIXELS = PIXELS_PER_CELL * (_CELLS + 2)
#: Side of the blocks that are compared one by one, in cells.
_BLOCK = 32
#: Border that `metrics.to_display` crops, in cells.
_BORDER = 4
_FRAMES = 8
#: Error that is added to both mean squared errors: 90 dB, where no difference is visible.
_NEGLIGIBLE_ERROR = 1e-9


def _frames(
    scene: Scene, shifts: np.ndarray, angles: np.ndarray | None = None, shear: float = 0
) -> np.ndarray:
    """Return noiseless frames of a photo's middle, `(count, 4, cells, cells)` float32 in [0, 1].

    Args:
        scene: of `PHOTO_PIXELS` or more each way; mirrored beyond its border.
        shifts: `(count, 2)`, (x, y) in mosaic pixels.
        angles: `(count,)`, rotation in radians; None for 0.
        shear: rolling shutter: shift of a frame's last row against its first, in mosaic pixels,
            per frame number.
    """
    middle = np.array([scene.width, scene.height]) // 2
    half = np.array([_CELLS, _CELLS]) / 2
    frames = []
    for n, shift in enumerate(shifts):
        angle = 0.0 if angles is None else angles[n]
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = PIXELS_PER_CELL * rotation
        matrix[0, 1] += PIXELS_PER_CELL * shear * n / (2 * _CELLS)
        offset = middle + shift * PIXELS_PER_CELL / 2 - np.round(matrix @ half)
        frames.append(scene.planes(np.column_stack([matrix, offset]), _CELLS, _CELLS))
    planes: np.ndarray = np.stack(frames).astype(np.float32) / 65535
    return planes


def _shifts(rng: np.random.Generator, reach: int, count: int = _FRAMES) -> np.ndarray:
    """Return shifts `(count, 2)` of up to `reach` mosaic pixels; the reference's is zero."""
    shifts = rng.integers(-2 * reach, 2 * reach + 1, (count, 2)) / 2
    shifts[0] = 0
    return shifts


def _moving(scene: Scene, other: Scene, rng: np.random.Generator) -> np.ndarray:
    shifts = _shifts(rng, 2)
    camera_shifts = shifts[:, ::-1] / 2
    path, mask = draw_object(rng, (_CELLS, _CELLS), np.arange(_FRAMES), camera_shifts)
    steps = path[:, ::-1] * 2
    background = _frames(scene, shifts)
    moving: np.ndarray = background + mask * (_frames(other, shifts - steps) - background)
    return moving


def _with_last(frames: np.ndarray, last: np.ndarray) -> np.ndarray:
    frames = frames.copy()
    frames[-1] = last
    return frames


def _misaligned(scene: Scene, other: Scene, rng: np.random.Generator) -> np.ndarray:
    shifts = _shifts(rng, 2)
    shifts[::2] += 200  # beyond the aligner's search range
    shifts[0] = 0
    return _frames(scene, shifts)


#: Name -> function of a photo, another photo and a random generator that returns noiseless frames
#: `(8, 4, cells, cells)` of the first photo. Its place in this table is in the random seed: add
#: scenes at the end.
SCENES: dict[str, Callable[[Scene, Scene, np.random.Generator], np.ndarray]] = {
    "static": lambda s, o, rng: _frames(s, np.zeros((_FRAMES, 2))),
    "within 2": lambda s, o, rng: _frames(s, _shifts(rng, 2)),
    "within 16": lambda s, o, rng: _frames(s, _shifts(rng, 16)),
    "within 64": lambda s, o, rng: _frames(s, _shifts(rng, 64)),
    "turned": lambda s, o, rng: _frames(
        s,
        _shifts(rng, 2),
        np.radians(rng.uniform(-0.5, 0.5, _FRAMES)) * (np.arange(_FRAMES) > 0),
    ),
    "rolling shutter": lambda s, o, rng: _frames(s, _shifts(rng, 2), shear=0.5),
    "object moves": _moving,
    "one of another scene": lambda s, o, rng: _with_last(
        _frames(s, _shifts(rng, 2)), _frames(o, np.zeros((1, 2)))[0]
    ),
    "one black": lambda s, o, rng: _with_last(_frames(s, _shifts(rng, 2)), np.float32(0)),
    "one brighter": lambda s, o, rng: _with_last(
        _frames(s, _shifts(rng, 2)), 1.5 * _frames(s, _shifts(rng, 2, 2))[1]
    ),
    "flicker": lambda s, o, rng: (
        _frames(s, _shifts(rng, 2))
        * np.concatenate([[1], rng.uniform(0.95, 1.05, _FRAMES - 1)]).astype(np.float32)[
            :, None, None, None
        ]
    ),
    "half misaligned": _misaligned,
    "highlights": lambda s, o, rng: _frames(s, _shifts(rng, 2)),
    "bracket": lambda s, o, rng: _frames(s, _shifts(rng, 2)),
    "bracket, object moves": _moving,
}
#: Overexposed scenes, and their white level, beyond clipping.
_CLIPPED, _CLIPPED_WHITE = {"highlights"}, 2.5
#: Scenes whose frames differ in exposure, and their exposures in EV, in turn.
_BRACKETED, _EVS = {"bracket", "bracket, object moves"}, (-2.0, 0.0, 2.0)


@dataclass(frozen=True)
class PsnrGain:
    """PSNR of the result over that of the reference frame, in dB.

    Attributes:
        gain: of the whole picture.
        worst_block: of the worst block of 64x64 sensor pixels.
        used: number of frames that were merged, the reference included.
    """

    gain: float
    worst_block: float
    used: int


def evaluate_scene(
    network: KPN,
    name: str,
    level: str,
    scenes: Sequence[Scene],
    number: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> PsnrGain:
    """Denoise a burst of a stress scene and compare the result with the reference frame.

    Args:
        network: on its device.
        name: of `SCENES`.
        level: of `NOISE_LEVELS`.
        scenes: photos; the one after `number` is the second photo.
        number: index of the photo.
        seed: of motion and noise.
        dtype: of the convolutions.
    """
    rng = np.random.default_rng((seed, number, list(SCENES).index(name)))
    clean = SCENES[name](scenes[number], scenes[(number + 1) % len(scenes)], rng)
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    exposure = _CLIPPED_WHITE if name in _CLIPPED else white
    clean = protocol.to_raw_signal(clean * 65535, exposure)
    noise = NoiseModel.uniform(*NOISE_LEVELS[level])
    noise_rng = np.random.default_rng((seed, number, *_noise_seed(level)))
    if name in _BRACKETED:
        bracket = draw_bracket(rng, _EVS, _FRAMES, shaken=False)
        recorded = bracket.record(clean, noise, noise_rng)
        done, found = brackets.denoise_bracket(network, recorded, noise, bracket, dtype=dtype)
        return _compare(done.planes, recorded[0], clean[0], white, len(found.used))
    noisy = noise.sample(clean, noise_rng)
    if name in _CLIPPED:
        clean, noisy, white = np.minimum(clean, 1), np.minimum(noisy, 1), 1.0
    device = next(network.parameters()).device
    frames = repaired_frames(noisy, noise, device)
    done, found = merge.denoise_burst(network, frames, noise, dtype=dtype, measure_residual=False)
    return _compare(done.planes, noisy[0], clean[0], white, len(found.used))


def _noise_seed(level: str) -> tuple[int, int]:
    return 1, list(NOISE_LEVELS).index(level)


def _compare(
    output: np.ndarray, reference: np.ndarray, truth: np.ndarray, white: float, used: int
) -> PsnrGain:
    errors = [
        np.square(metrics.to_display(planes, white) - metrics.to_display(truth, white))
        for planes in (reference, output)
    ]
    side = (_CELLS - 2 * _BORDER) // _BLOCK * _BLOCK
    blocks = [
        error[:, :side, :side].reshape(4, -1, _BLOCK, side // _BLOCK, _BLOCK).mean((0, 2, 4))
        for error in errors
    ]
    by_block = _gain(blocks[0], blocks[1])
    return PsnrGain(float(_gain(errors[0].mean(), errors[1].mean())), float(by_block.min()), used)


def _gain(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the gain in dB from one mean squared error to another."""
    ratio = (before + _NEGLIGIBLE_ERROR) / (after + _NEGLIGIBLE_ERROR)
    return np.asarray(10 * np.log10(ratio))


def evaluate_scenes(
    network: KPN,
    scenes: Sequence[Scene],
    *,
    names: Sequence[str] = tuple(SCENES),
    levels: Sequence[str] = tuple(NOISE_LEVELS),
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    on_burst: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluate stress scenes on all photos.

    Args:
        network: on its device.
        scenes: photos.
        names: of `SCENES`.
        levels: of `NOISE_LEVELS`.
        seed: of motion and noise.
        dtype: of the convolutions.
        on_burst: called after each burst.

    Returns:
        `{scene: {level: {"mean", "least", "block", "used"}}}`: mean and smallest gain over the
        photos in dB, gain of the worst block of all, smallest number of merged frames.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        for level in levels:
            gains = []
            for number in range(len(scenes)):
                gains.append(
                    evaluate_scene(network, name, level, scenes, number, seed=seed, dtype=dtype)
                )
                on_burst()
            table.setdefault(name, {})[level] = {
                "mean": float(np.mean([g.gain for g in gains])),
                "least": min(g.gain for g in gains),
                "block": min(g.worst_block for g in gains),
                "used": min(g.used for g in gains),
            }
    return table


def markdown_table(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table: mean gain, smallest gain and worst block, a row per scene."""
    levels = list(next(iter(table.values())))
    lines = [
        "PSNR over the reference frame in dB: mean / smallest over the photos / worst block",
        "",
        "| scene | " + " | ".join(levels) + " |",
        "|---" * (len(levels) + 1) + "|",
    ]
    for name, row in table.items():
        cells = [f"{v['mean']:.2f} / {v['least']:.2f} / {v['block']:.2f}" for v in row.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
