"""`kpn eval`: PSNR and SSIM of a network and of baselines; stress scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..choices import BASELINES, GAINS, USUAL_BASELINES
from . import console
from .exposure_list import ev_option
from .options import DEVICE, JSON, PHOTOS, PRECISION, QUIET, WEIGHTS, FloatRange, IntRange
from .photos import load_photos
from .values import FilePath

if TYPE_CHECKING:
    from ..network.kpn import KPN
    from ..system.device import Precision

_SLOW_BASELINES = [name for name in BASELINES if name not in USUAL_BASELINES]
_PHOTO_PIXELS = 256  # smallest side of a usable photo


@click.command(name="eval")
@PHOTOS
@click.option(
    "-o",
    "--output",
    type=FilePath(file_okay=False, path_type=Path),
    help="Folder for eval.json and eval.md; with --scenes, scenes.json and scenes.md.",
)
@click.option(
    "--gains",
    default=",".join(GAINS),
    show_default=True,
    help="Noise levels, comma-separated. 16 is available too: noisier than any training data.",
)
@click.option("--frames", type=IntRange(1), default=8, show_default=True, help="Frames per burst.")
@click.option(
    "--baselines",
    default=",".join(USUAL_BASELINES),
    show_default=True,
    help="Methods to compare with, comma-separated. Available too, but slow (seconds per burst): "
    f"{', '.join(_SLOW_BASELINES)}.",
)
@click.option(
    "--scenes",
    is_flag=True,
    help="Test difficult scenes instead, such as moving objects or flicker: is the result ever "
    "worse than a single frame?",
)
@ev_option(
    "Test brackets too, in a table of their own: exposures in EV, such as -2,0,2, in turn from "
    "0 EV (or the first) on. Takes about twice as long."
)
@click.option(
    "--noise-scale",
    type=FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Stated noise sigma, as a multiple of the true one, to test what a wrong noise model "
    "costs. As in denoising, kpn assumes more where the frames certainly show it.",
)
@click.option(
    "--seed",
    type=IntRange(0),
    default=0,
    show_default=True,
    help="Random seed of the shifts and the noise.",
)
@WEIGHTS
@DEVICE
@PRECISION
@QUIET
@JSON
def evaluate(
    *,
    photos: tuple[Path, ...],
    output: Path | None,
    gains: str,
    frames: int,
    baselines: str,
    scenes: bool,
    ev: tuple[float, ...],
    noise_scale: float,
    seed: int,
    weights: Path | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Measure PSNR and SSIM of a network and of baselines.

    kpn makes hand-held and static bursts with known ground truth from PHOTOS, which are ordinary
    photos or folders that contain them.
    """
    from ..evaluation import baselines as baseline_methods
    from ..evaluation import benchmark, brackets
    from ..network.precision import in_precision
    from ..network.weights import load_weights
    from ..synthesis import protocol
    from ..system.device import pick_device

    levels = _integers("--gains", gains)
    names = [part for part in baselines.split(",") if part]
    baseline_methods.check_installed(names)
    network, recipe = load_weights(weights)
    network, arithmetic = in_precision(network.to(pick_device(device)), precision)
    if arithmetic.note:
        console.note(arithmetic.note)
    if scenes:
        _refuse_with_scenes("gains", "frames", "baselines", "ev", "noise_scale")
        _try_scenes(network, photos, output, seed, arithmetic, as_json)
        return
    loaded = load_photos(photos, _PHOTO_PIXELS)
    sets = {}
    tables = len(benchmark.MOTIONS) + bool(ev)
    mixed = None
    with console.bar("evaluating", tables * len(levels) * len(loaded)) as move:
        for name in benchmark.MOTIONS:
            sets[name] = benchmark.evaluate(
                network,
                loaded,
                gains=levels,
                frames=frames,
                baselines=names,
                static=name == "static",
                seed=seed,
                dtype=arithmetic.dtype,
                noise_scale=noise_scale,
                on_burst=move,
            )
        if ev:
            mixed = brackets.evaluate(
                network,
                loaded,
                ev,
                gains=levels,
                frames=frames,
                seed=seed,
                dtype=arithmetic.dtype,
                noise_scale=noise_scale,
                on_burst=move,
            )
    source = str(weights) if weights else "shipped"
    document = {
        "protocol": protocol.NAME,
        "photos": [scene.name for scene in loaded],
        "frames": frames,
        "seed": seed,
        "noise_scale": noise_scale,
        "weights": source,
        "patches": recipe.get("patches"),
        "precision": arithmetic.name,
        "gains": sets["shifted"],
        "static": sets["static"],
    }
    if mixed is not None:
        document |= {"ev": list(ev), "bracket": mixed}
    conditions = (
        f"{source} weights, {console.count(len(loaded), 'photo')}, bursts of "
        f"{console.count(frames, 'frame')}, noise sigma {noise_scale:g} times the true one, "
        f"seed {seed}, {arithmetic.name}"
    )
    text = f"{conditions}\n\n{benchmark.markdown_tables(sets)}"
    if mixed is not None:
        text += f"\n{brackets.markdown_table(mixed, ev)}"
    if output:
        benchmark.write_results(output, document, text)
    console.print_json(document) if as_json else console.print_text(text)


def _refuse_with_scenes(*names: str) -> None:
    """Refuse options that --scenes would ignore: the scenes set noise levels and frames."""
    source = click.get_current_context().get_parameter_source
    for name in names:
        if source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--scenes cannot be combined with --{name.replace('_', '-')}")


def _try_scenes(
    network: KPN,
    photos: tuple[Path, ...],
    output: Path | None,
    seed: int,
    arithmetic: Precision,
    as_json: bool,
) -> None:
    """Denoise the stress scenes and show how the results compare with a single frame."""
    from ..evaluation import benchmark, stress_scenes

    loaded = load_photos(photos, stress_scenes.PHOTO_PIXELS)
    total = len(stress_scenes.SCENES) * len(stress_scenes.NOISE_LEVELS) * len(loaded)
    with console.bar("evaluating", total) as move:
        table = stress_scenes.evaluate_scenes(
            network, loaded, seed=seed, dtype=arithmetic.dtype, on_burst=move
        )
    text = stress_scenes.markdown_table(table)
    document = {
        "photos": [scene.name for scene in loaded],
        "seed": seed,
        "precision": arithmetic.name,
        "scenes": table,
    }
    if output:
        benchmark.write_results(output, document, text, "scenes")
    console.print_json(document) if as_json else console.print_text(text)


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{option} {text}: give whole numbers, such as 0,1,4") from None
