"""`kpn eval`: PSNR and SSIM of a network against baselines, and stress scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..choices import GAINS, USUAL_BASELINES
from . import console
from .options import DEVICE, JSON, PHOTOS, PRECISION, QUIET, WEIGHTS
from .photos import load_photos

if TYPE_CHECKING:
    import torch

    from ..network.kpn import KPN


@click.command(name="eval")
@PHOTOS
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for eval.json and eval.md.",
)
@click.option(
    "--gains",
    default=",".join(GAINS),
    show_default=True,
    help="Noise levels; also 16, more shot noise than any that was trained on.",
)
@click.option(
    "--frames", type=click.IntRange(1), default=8, show_default=True, help="Frames of a burst."
)
@click.option(
    "--baselines",
    default=",".join(USUAL_BASELINES),
    show_default=True,
    help="What to compare with; also nlm and wavelets, which take seconds a burst.",
)
@click.option(
    "--scenes",
    is_flag=True,
    help="Instead: scenes that go wrong in the field, against one frame.",
)
@click.option(
    "--noise-scale",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="The sigma that the network is told, over the true one.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of shifts and noise."
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
    noise_scale: float,
    seed: int,
    weights: Path | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Measure a network against baselines, on hand-held and on static bursts."""
    from ..evaluation import benchmark
    from ..network.weights import load_weights
    from ..synthesis import protocol
    from ..system.device import pick_device, pick_precision

    levels = _integers("--gains", gains)
    network, recipe = load_weights(weights)
    where = pick_device(device)
    network = network.to(where)
    if scenes:
        _refuse_with_scenes("gains", "frames", "baselines", "noise_scale")
        _try_scenes(network, photos, output, seed, pick_precision(precision, where), as_json)
        return
    loaded = load_photos(photos, 256)
    sets = {}
    with console.bar("evaluating", len(benchmark.MOTIONS) * len(levels) * len(loaded)) as move:
        for name in benchmark.MOTIONS:
            sets[name] = benchmark.evaluate(
                network,
                loaded,
                gains=levels,
                frames=frames,
                baselines=[part for part in baselines.split(",") if part],
                static=name == "static",
                seed=seed,
                dtype=pick_precision(precision, where),
                noise_scale=noise_scale,
                on_burst=move,
            )
    document = {
        "protocol": protocol.NAME,
        "photos": [scene.name for scene in loaded],
        "frames": frames,
        "seed": seed,
        "noise_scale": noise_scale,
        "weights": str(weights) if weights else "shipped",
        "patches": recipe.get("patches"),
        "gains": sets["shifted"],
        "static": sets["static"],
    }
    text = _conditions(document) + benchmark.markdown_tables(sets)
    if output:
        benchmark.write_results(output, document, text)
    click.echo(json.dumps(document, indent=2) if as_json else text)


def _conditions(document: dict[str, object]) -> str:
    """Say what tables are of, so that two can be told apart."""
    return (
        "{weights} weights, {count} photos, bursts of {frames}, told {noise_scale:g} times "
        "the true sigma, seed {seed}\n\n"
    ).format(count=len(document["photos"]), **document)


def _refuse_with_scenes(*names: str) -> None:
    """The scenes have their own noise levels and frames: say so rather than ignore an option."""
    source = click.get_current_context().get_parameter_source
    for name in names:
        if source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--scenes goes without --{name.replace('_', '-')}")


def _try_scenes(
    network: KPN,
    photos: tuple[Path, ...],
    output: Path | None,
    seed: int,
    dtype: torch.dtype,
    as_json: bool,
) -> None:
    from ..evaluation import benchmark, stress_scenes

    loaded = load_photos(photos, stress_scenes.PHOTO_PIXELS)
    total = len(stress_scenes.SCENES) * len(stress_scenes.NOISE_LEVELS) * len(loaded)
    with console.bar("evaluating", total) as move:
        table = stress_scenes.evaluate_scenes(
            network, loaded, seed=seed, dtype=dtype, on_burst=move
        )
    text = stress_scenes.markdown_table(table)
    document = {"photos": [scene.name for scene in loaded], "seed": seed, "scenes": table}
    if output:
        benchmark.write_results(output, document, text, "scenes")
    click.echo(json.dumps(document, indent=2) if as_json else text)


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{option} {text}: give numbers, such as 0,1,4") from None
