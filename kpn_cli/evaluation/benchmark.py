"""PSNR and SSIM against baselines on the protocol's bursts, for `kpn eval`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..align import alignment, warp
from ..burst.frame import Frame
from ..choices import BASELINES, USUAL_BASELINES
from ..defects.repair import repair_burst
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..merge import merge
from ..network.kpn import KPN
from ..synthesis import protocol
from ..synthesis.photos import Scene
from ..system.files import atomic, make_folder
from . import baselines as baseline_methods
from . import metrics

#: Sets of bursts: with the protocol's shifts, or on a tripod.
MOTIONS = ("shifted", "static")


@dataclass(frozen=True)
class ProtocolBurst:
    """A burst of the evaluation protocol with its ground truth.

    Attributes:
        burst: `(frames, 4, rows, columns)` float32, linear, noisy, the reference first.
        truth: `(4, rows, columns)` float32, the reference without noise.
        white: white level of the scene.
        noise: the true noise model.
    """

    burst: np.ndarray
    truth: np.ndarray
    white: float
    noise: NoiseModel


def draw_burst(
    scene: Scene, number: int, gain: int, frames: int, seed: int, static: bool = False
) -> ProtocolBurst:
    """Return the protocol's burst of a scene.

    Shifts and white level do not depend on the gain: gains differ in noise alone.

    Args:
        scene: the photo.
        number: index of the scene in the list of photos.
        gain: of `protocol.GAINS` or `protocol.BEYOND_GAINS`.
        frames: number of frames.
        seed: of shifts and noise.
        static: whether the burst is on a tripod, without shifts.
    """
    white = protocol.WHITE_LEVELS[number % len(protocol.WHITE_LEVELS)]
    shifts = protocol.draw_camera_shifts(np.random.default_rng((seed, number)), frames)
    clean = protocol.photograph(scene, 0 * shifts if static else shifts, white)
    noise = protocol.noise_of_gain(gain)
    noisy = noise.sample(clean, np.random.default_rng((seed, number, gain)))
    return ProtocolBurst(noisy, clean[0], white, noise)


def evaluate(
    network: KPN,
    scenes: Sequence[Scene],
    *,
    gains: Sequence[int],
    frames: int,
    baselines: Sequence[str] = USUAL_BASELINES,
    static: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    noise_scale: float = 1.0,
    on_burst: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean PSNR (dB) and SSIM by gain and method.

    Args:
        network: on its device.
        scenes: photos, at least 128 photo pixels each way.
        gains: of `protocol.GAINS` or `protocol.BEYOND_GAINS`.
        frames: per burst; a network for fewer frames merges them in groups, a network for a
            single frame gets the reference.
        baselines: of `choices.BASELINES`.
        static: whether bursts are on a tripod instead of with the protocol's shifts.
        seed: of shifts and noise.
        dtype: of the convolutions.
        noise_scale: the sigma that is stated, over the true one (`profile_check.raise_noise`).
        on_burst: called after each of `len(scenes) * len(gains)` bursts.

    Returns:
        `{gain: {method: {"psnr": ..., "ssim": ...}}}`, gains as text, "kpn" first.

    Raises:
        KpnError: for an unknown gain or baseline.
    """
    _check(gains, baselines)
    table = {}
    for gain in gains:
        figures: dict[str, list[tuple[float, float]]] = {}
        for number, scene in enumerate(scenes):
            test = draw_burst(scene, number, gain, frames, seed, static)
            for name, planes in _outputs(network, test, baselines, dtype, noise_scale):
                pair = (
                    metrics.psnr(planes, test.truth, test.white),
                    metrics.ssim(planes, test.truth, test.white),
                )
                figures.setdefault(name, []).append(pair)
            on_burst()
        table[str(gain)] = {
            name: dict(zip(("psnr", "ssim"), np.mean(pairs, 0).tolist(), strict=True))
            for name, pairs in figures.items()
        }
    return table


def _check(gains: Sequence[int], baselines: Sequence[str]) -> None:
    known = protocol.GAINS | protocol.BEYOND_GAINS
    for gain in gains:
        if gain not in known:
            raise KpnError(f"--gains {gain}: choose among {', '.join(map(str, known))}")
    for name in baselines:
        if name not in BASELINES:
            raise KpnError(f"--baselines {name}: choose among {', '.join(BASELINES)}")


def _outputs(
    network: KPN,
    test: ProtocolBurst,
    baselines: Sequence[str],
    dtype: torch.dtype,
    noise_scale: float,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and output `(4, rows, columns)` of the network and of each baseline."""
    device = next(network.parameters()).device
    frames = repaired_frames(test.burst, test.noise, device)
    inputs = frames if network.config.frames > 1 else frames[:1]
    aligned_burst = alignment.align_burst(inputs, test.noise).keep_best(network.config.frames)
    stated = test.noise.with_strength(noise_scale)
    done = merge.denoise_frames(
        network,
        aligned_burst.frames,
        aligned_burst.shifts,
        stated,
        dtype=dtype,
        measure_residual=False,
    )
    yield "kpn", done.planes
    if "reference" in baselines:
        yield "reference", test.burst[0]
    if "mean" in baselines:
        yield "mean", test.burst.mean(0)
    if "aligned-mean" in baselines:
        rows, columns = (slice(0, side) for side in frames[0].size)
        shifts = alignment.align_frames(frames, test.noise)
        aligned = warp.warp_frames(frames, shifts, rows, columns)
        yield "aligned-mean", aligned.mean(0).cpu().numpy()
    if "nlm" in baselines:
        yield "nlm", baseline_methods.non_local_means(test.burst[0], test.noise)
    if "wavelets" in baselines:
        yield "wavelets", baseline_methods.wavelets(test.burst[0], test.noise)


def repaired_frames(burst: np.ndarray, noise: NoiseModel, device: torch.device) -> list[Frame]:
    """Return the frames of a burst as `kpn denoise` would align them: with defects repaired.

    Args:
        burst: `(frames, 4, rows, columns)` float32, linear; left unchanged.
        noise: of each frame.
        device: of the frames returned.
    """
    frames = [Frame.of_planes(planes.copy()) for planes in burst]
    repair_burst(frames, noise)
    return [frame.to(device) for frame in frames]


def markdown_tables(sets: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    """Return a Markdown table of PSNR and SSIM for each set: a row per method, a column per gain.

    Args:
        sets: set -> what `evaluate` returned.
    """
    blocks = []
    for name, table in sets.items():
        gains = list(table)
        methods = list(next(iter(table.values())))
        lines = [f"**{name}**, PSNR in dB / SSIM", ""]
        lines.append("| gain | " + " | ".join(gains) + " |")
        lines.append("|---" * (len(gains) + 1) + "|")
        for method in methods:
            cells = [
                f"{table[g][method]['psnr']:.2f} / {table[g][method]['ssim']:.4f}" for g in gains
            ]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def write_results(folder: Path, document: dict[str, object], text: str, name: str = "eval") -> None:
    """Write `NAME.json` with a document and `NAME.md` with a text into a folder.

    Raises:
        KpnError: if the disk refuses a file.
    """
    make_folder(folder)
    as_json = json.dumps(document, indent=2) + "\n"
    for path, content in ((folder / f"{name}.json", as_json), (folder / f"{name}.md", text)):
        with atomic(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
