"""PSNR of brackets against as many frames of equal exposure, for `kpn eval --ev`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..align.alignment import AlignedBurst
from ..burst.frame import Frame
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..merge import merge
from ..network.kpn import KPN
from ..synthesis import protocol
from ..synthesis.brackets import Bracket, draw_bracket
from ..synthesis.photos import Scene
from . import metrics

#: Method -> what it is, in the order of the table.
METHODS = {
    "bracket": "all frames of the bracket",
    "equal": "as many frames of the reference's exposure",
    "own": "the bracket's frames of the reference's exposure alone",
    "reference": "the reference, not denoised",
}
#: Ends the seed of a bracket's shutters.
_SHUTTER_STREAM = 1


@dataclass(frozen=True)
class BracketBurst:
    """A bracket of the evaluation protocol, the same burst in equal exposures, and the truth.

    Attributes:
        recorded: `(frames, 4, rows, columns)` float32, linear, noisy, each frame in its own
            exposure and clipped at 1; the reference first.
        equal: the same scene and shifts, all frames in the reference's exposure.
        truth: `(4, rows, columns)` float32, the reference without noise, at most 1.
        white: white level of the scene.
        noise: of each frame as recorded.
        bracket: the exposures.
    """

    recorded: np.ndarray
    equal: np.ndarray
    truth: np.ndarray
    white: float
    noise: NoiseModel
    bracket: Bracket


def draw_burst(
    scene: Scene, number: int, evs: Sequence[float], gain: int, frames: int, seed: int
) -> BracketBurst:
    """Return the protocol's burst of a scene, bracketed and in equal exposures.

    Shifts and white level are those of `benchmark.draw_burst`.

    Args:
        scene: the photo.
        number: index of the scene in the list of photos.
        evs: exposures in EV, see `brackets.in_turn`.
        gain: of `protocol.GAINS` or `protocol.BEYOND_GAINS`.
        frames: number of frames.
        seed: of shifts, shutters and noise.
    """
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    shifts = protocol.draw_camera_shifts(np.random.default_rng((seed, number)), frames)
    shutters = np.random.default_rng((seed, number, _SHUTTER_STREAM, 0))
    bracket = draw_bracket(shutters, evs, frames, shaken=False)
    clean = protocol.photograph(scene, shifts, white)
    noise = protocol.noise_of_gain(gain)
    recorded, equal = (
        frames_of.record(clean, noise, np.random.default_rng((seed, number, gain)))
        for frames_of in (bracket, equal_exposures(frames))
    )
    return BracketBurst(recorded, equal, clean[0], white, noise, bracket)


def equal_exposures(count: int) -> Bracket:
    """Return what a bracket is compared with: frames of the reference's exposure."""
    return Bracket((0.0,) * count, np.ones(count, np.float32), np.zeros((count, 2)))


def denoise_bracket(
    network: KPN,
    recorded: np.ndarray,
    noise: NoiseModel,
    bracket: Bracket,
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[merge.Denoised, AlignedBurst]:
    """Align and merge the frames of a bracket, whose exposures are known as files state them.

    Defects are not looked for: the bursts have none.

    Args:
        network: on its device.
        recorded: `(frames, 4, rows, columns)` float32, each frame in its own exposure, clipped at
            1, the reference first.
        noise: of each frame as recorded.
        bracket: the exposures; if all are equal, so is the burst to kpn.
        dtype: of the convolutions.
    """
    device = next(network.parameters()).device
    mixed = len(bracket.of_reference) < len(recorded)
    frames = [
        Frame(torch.from_numpy(planes), noise=noise if mixed else None).to(device)
        for planes in recorded
    ]
    return merge.denoise_burst(
        network,
        frames,
        noise,
        dtype=dtype,
        measure_residual=False,
        stated=bracket.stated if mixed else None,
    )


def evaluate(
    network: KPN,
    scenes: Sequence[Scene],
    evs: Sequence[float],
    *,
    gains: Sequence[int],
    frames: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    noise_scale: float = 1.0,
    on_burst: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean PSNR (dB) by gain and method, of the whole picture and of its darkest third.

    Args:
        network: on its device.
        scenes: photos, at least 128 photo pixels each way.
        evs: exposures in EV, see `brackets.in_turn`.
        gains: of `protocol.GAINS` or `protocol.BEYOND_GAINS`.
        frames: per burst.
        seed: of shifts, shutters and noise.
        dtype: of the convolutions.
        noise_scale: the sigma that is stated of every frame, over the true one.
        on_burst: called after each of `len(scenes) * len(gains)` bursts.

    Returns:
        `{gain: {method: {"psnr": ..., "shadows": ...}}}`, gains as text, methods as in `METHODS`.

    Raises:
        KpnError: for a network of a single frame.
    """
    if network.config.frames < 2:
        raise KpnError("--ev: these weights merge no frames; give weights for bursts")
    table = {}
    for gain in gains:
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
        for number, scene in enumerate(scenes):
            test = draw_burst(scene, number, evs, gain, frames, seed)
            dark = metrics.darkest_third(test.truth)
            for name, planes in _outputs(network, test, dtype, noise_scale):
                pair = (
                    metrics.psnr(planes, test.truth, test.white),
                    metrics.psnr(planes, test.truth, test.white, dark),
                )
                figures[name].append(pair)
            on_burst()
        table[str(gain)] = {
            name: dict(zip(("psnr", "shadows"), np.mean(pairs, 0).tolist(), strict=True))
            for name, pairs in figures.items()
        }
    return table


def _outputs(
    network: KPN, test: BracketBurst, dtype: torch.dtype, noise_scale: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and output `(4, rows, columns)` of each of `METHODS`."""
    stated = test.noise.with_strength(noise_scale)
    own = test.recorded[test.bracket.of_reference]
    for name, burst, bracket in (
        ("bracket", test.recorded, test.bracket),
        ("equal", test.equal, equal_exposures(len(test.equal))),
        ("own", own, equal_exposures(len(own))),
    ):
        done, _ = denoise_bracket(network, burst, stated, bracket, dtype=dtype)
        yield name, done.planes
    yield "reference", test.recorded[0]


def markdown_table(table: dict[str, dict[str, dict[str, float]]], evs: Sequence[float]) -> str:
    """Return a Markdown table of PSNR, a row per method, a column per gain.

    Args:
        table: what `evaluate` returned.
        evs: exposures in EV, as given to it.
    """
    listed = ", ".join(f"{ev:g}" for ev in evs)
    lines = [f"**bracket** of {listed} EV, PSNR in dB: whole picture / its darkest third", ""]
    lines.append("| gain | " + " | ".join(table) + " |")
    lines.append("|---" * (len(table) + 1) + "|")
    for name, title in METHODS.items():
        cells = [f"{row[name]['psnr']:.2f} / {row[name]['shadows']:.2f}" for row in table.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
