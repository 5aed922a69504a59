"""Scenes that go wrong in the field, with known truth: is the result ever worse than one frame?

Each is a burst of a photo's middle, noiseless frames made from it, noise added as in the
protocol. A frame may be of something else, too bright, black or misaligned on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..burst.frame import Frame
from ..image.noise_model import NoiseModel
from ..merge import merge
from ..network.kpn import KPN
from ..synthesis import protocol
from ..synthesis.motion import draw_object
from ..synthesis.photos import PIXELS_PER_CELL, Scene
from . import metrics

#: Noise levels: a camera at ISO 100 (median of 433 models), and the protocol's.
LEVELS = {"ISO 100": (3.2e-6, 2.8e-9)} | {f"gain {g}": pair for g, pair in protocol.GAINS.items()}
_CELLS = 160  # side of the frames
#: Smallest side of a photo.
PHOTO_PIXELS = PIXELS_PER_CELL * (_CELLS + 2)
_BLOCK = 32  # side of the blocks that are looked at one by one, in cells: 64 sensor pixels
_CROP = 4  # cells at the border that are not measured, as in the protocol
_FRAMES = 8


def _planes(
    scene: Scene, shifts: np.ndarray, angles: np.ndarray | None = None, shear: float = 0
) -> np.ndarray:
    """Frames of a photo's middle, `(count, 4, cells, cells)` float32 in [0, 1].

    Args:
        scene: of `PHOTO_PIXELS` or more each way; what large shifts see beyond it is mirrored.
        shifts: `(count, 2)`, (x, y) in mosaic pixels.
        angles: in radians; None for 0.
        shear: how far a frame's last row lags behind its first, in mosaic pixels, times
            the frame's number: a rolling shutter.
    """
    middle = np.array([scene.width, scene.height]) // 2
    half = np.array([_CELLS, _CELLS]) / 2
    frames = []
    for n, shift in enumerate(shifts):
        angle = 0.0 if angles is None else angles[n]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = PIXELS_PER_CELL * turn
        matrix[0, 1] += PIXELS_PER_CELL * shear * n / (2 * _CELLS)
        offset = middle + shift * PIXELS_PER_CELL / 2 - np.round(matrix @ half)
        frames.append(scene.planes(np.column_stack([matrix, offset]), _CELLS, _CELLS))
    return np.stack(frames).astype(np.float32) / 65535


def _within(rng: np.random.Generator, reach: int, count: int = _FRAMES) -> np.ndarray:
    """Shifts of up to `reach` mosaic pixels, in half pixels; the reference's is zero."""
    shifts = rng.integers(-2 * reach, 2 * reach + 1, (count, 2)) / 2
    shifts[0] = 0
    return shifts


def _moving(scene: Scene, other: Scene, rng: np.random.Generator) -> np.ndarray:
    shifts = _within(rng, 2)
    camera = shifts[:, ::-1] / 2
    way, mask = draw_object(rng, (_CELLS, _CELLS), np.arange(_FRAMES), camera)
    steps = way[:, ::-1] * 2
    return _planes(scene, shifts) + mask * (_planes(other, shifts - steps) - _planes(scene, shifts))


def _with_last(frames: np.ndarray, last: np.ndarray) -> np.ndarray:
    frames = frames.copy()
    frames[-1] = last
    return frames


def _misaligned(scene: Scene, other: Scene, rng: np.random.Generator) -> np.ndarray:
    shifts = _within(rng, 2)
    shifts[::2] += 200  # further than the aligner looks
    shifts[0] = 0
    return _planes(scene, shifts)


#: Name -> noiseless frames of a scene, with a second photo at hand.
SCENES: dict[str, Callable[[Scene, Scene, np.random.Generator], np.ndarray]] = {
    "static": lambda s, o, rng: _planes(s, np.zeros((_FRAMES, 2))),
    "within 2": lambda s, o, rng: _planes(s, _within(rng, 2)),
    "within 16": lambda s, o, rng: _planes(s, _within(rng, 16)),
    "within 64": lambda s, o, rng: _planes(s, _within(rng, 64)),
    "turned": lambda s, o, rng: _planes(
        s, _within(rng, 2), np.radians(rng.uniform(-0.5, 0.5, _FRAMES)) * (np.arange(_FRAMES) > 0)
    ),
    "rolling shutter": lambda s, o, rng: _planes(s, _within(rng, 2), shear=0.5),
    "object moves": _moving,
    "one of another scene": lambda s, o, rng: _with_last(
        _planes(s, _within(rng, 2)), _planes(o, np.zeros((1, 2)))[0]
    ),
    "one black": lambda s, o, rng: _with_last(_planes(s, _within(rng, 2)), np.float32(0)),
    "one brighter": lambda s, o, rng: _with_last(
        _planes(s, _within(rng, 2)), 1.5 * _planes(s, _within(rng, 2, 2))[1]
    ),
    "flicker": lambda s, o, rng: (
        _planes(s, _within(rng, 2))
        * np.concatenate([[1], rng.uniform(0.95, 1.05, _FRAMES - 1)]).astype(np.float32)[
            :, None, None, None
        ]
    ),
    "half misaligned": _misaligned,
    "highlights": lambda s, o, rng: _planes(s, _within(rng, 2)),
}
#: Scenes that are exposed too long, and how much longer than the sensor takes.
_CLIPPED, _OVER = {"highlights"}, 2.5


@dataclass(frozen=True)
class Outcome:
    """How the result compares with the reference frame, in dB of PSNR over it.

    Attributes:
        gain: of the whole picture.
        worst_block: of the block of 64x64 sensor pixels where it is least.
        used: frames that were not dropped, the reference included.
    """

    gain: float
    worst_block: float
    used: int


def try_scene(
    network: KPN,
    name: str,
    level: str,
    scenes: Sequence[Scene],
    number: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Outcome:
    """Denoise a burst of `SCENES` at a level of `LEVELS`; compare with the reference frame.

    Args:
        network: on its device.
        name: of the scene.
        level: of noise.
        scenes: photos; the next one lends what the scene needs of another.
        number: of the photo.
        seed: of motion and noise.
        dtype: of the convolutions.
    """
    rng = np.random.default_rng((seed, number, list(SCENES).index(name)))
    clean = SCENES[name](scenes[number], scenes[(number + 1) % len(scenes)], rng)
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    exposure = _OVER if name in _CLIPPED else white
    clean = protocol.expose(clean * 65535, exposure)
    noise = NoiseModel.uniform(*LEVELS[level])
    noisy = noise.sample(clean, np.random.default_rng((seed, number, *_noise_seed(level))))
    if name in _CLIPPED:
        clean, noisy, white = np.minimum(clean, 1), np.minimum(noisy, 1), 1.0
    device = next(network.parameters()).device
    frames = [Frame(torch.from_numpy(planes).to(device)) for planes in noisy]
    done, found = merge.denoise_burst(network, frames, noise, dtype=dtype, measure_residual=False)
    return _compare(done.planes, noisy[0], clean[0], white, len(found.used))


def _noise_seed(level: str) -> tuple[int, int]:
    return 1, list(LEVELS).index(level)


def _compare(
    output: np.ndarray, reference: np.ndarray, truth: np.ndarray, white: float, used: int
) -> Outcome:
    errors = [
        np.square(metrics.displayed(planes, white) - metrics.displayed(truth, white))
        for planes in (reference, output)
    ]
    side = (_CELLS - 2 * _CROP) // _BLOCK * _BLOCK
    blocks = [
        error[:, :side, :side].reshape(4, -1, _BLOCK, side // _BLOCK, _BLOCK).mean((0, 2, 4))
        for error in errors
    ]
    least = 1e-9  # of an error: 90 dB, where nobody sees a difference
    whole = 10 * np.log10((errors[0].mean() + least) / (errors[1].mean() + least))
    by_block = 10 * np.log10((blocks[0] + least) / (blocks[1] + least))
    return Outcome(float(whole), float(by_block.min()), used)


def run(
    network: KPN,
    scenes: Sequence[Scene],
    *,
    names: Sequence[str] = tuple(SCENES),
    levels: Sequence[str] = tuple(LEVELS),
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    on_burst: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the least figures over photos by scene and level.

    Returns:
        `{scene: {level: {"mean", "least", "block", "used"}}}`: gain over the reference in
        dB, mean and least over photos; that of the worst block of all; fewest frames used.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        for level in levels:
            outcomes = list(
                _outcomes(network, name, level, scenes, seed=seed, dtype=dtype, on_burst=on_burst)
            )
            table.setdefault(name, {})[level] = {
                "mean": float(np.mean([o.gain for o in outcomes])),
                "least": min(o.gain for o in outcomes),
                "block": min(o.worst_block for o in outcomes),
                "used": min(o.used for o in outcomes),
            }
    return table


def _outcomes(
    network: KPN,
    name: str,
    level: str,
    scenes: Sequence[Scene],
    *,
    seed: int,
    dtype: torch.dtype,
    on_burst: Callable[[], None],
) -> Iterator[Outcome]:
    for number in range(len(scenes)):
        yield try_scene(network, name, level, scenes, number, seed=seed, dtype=dtype)
        on_burst()


def markdown(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the table: mean gain, least gain, worst block, a row per scene."""
    levels = list(next(iter(table.values())))
    lines = [
        "dB over the reference frame: mean / least of the photos / worst block",
        "",
        "| scene | " + " | ".join(levels) + " |",
        "|---" * (len(levels) + 1) + "|",
    ]
    for name, row in table.items():
        cells = [f"{v['mean']:.2f} / {v['least']:.2f} / {v['block']:.2f}" for v in row.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
