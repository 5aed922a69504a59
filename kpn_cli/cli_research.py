"""The commands for researchers: synth, train, eval."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import console
from .choices import (
    DATASET_FORMATS,
    DATASET_GAINS,
    GAINS,
    RANDOM_GAIN,
    SCHEDULES,
    USUAL_BASELINES,
    VARIANTS,
)
from .cli_options import DEVICE, JSON, ONE_NOISE, PHOTOS, PRECISION, QUIET, WEIGHTS

if TYPE_CHECKING:
    import torch

    from .network import KPN
    from .noise import NoiseModel
    from .run import Progress
    from .synth import Source


@click.command()
@PHOTOS
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the data set; one that was begun there is gone on with.",
)
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="Bursts.")
@click.option(
    "--frames", type=click.IntRange(1), default=8, show_default=True, help="Frames of a burst."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(DATASET_FORMATS),
    default="dng",
    show_default=True,
    help="Folders of DNG files with their truth, or tar files of training patches.",
)
@click.option(
    "--gain",
    type=click.Choice(DATASET_GAINS),
    default=RANDOM_GAIN,
    show_default=True,
    help="Noise level of the evaluation protocol, or any camera's at any ISO.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Fixes every byte."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@QUIET
def synth(
    *,
    photos: tuple[Path, ...],
    output: Path,
    count: int,
    frames: int,
    form: str,
    gain: str,
    seed: int,
    workers: int,
) -> None:
    """Make a data set of noisy bursts, with their truth, from ordinary photos."""
    from . import dataset
    from .photos import find_photos, readable_photos

    config = dataset.DatasetConfig(count, frames, form, gain, seed)
    with console.bar("photos", len(find_photos(photos))) as move:
        usable = readable_photos(
            photos, at_least=config.photo_pixels, on_photo=move, on_skip=console.note
        )
    with console.bar("writing", config.parts) as move:
        dataset.write_dataset(usable, output, config, workers=workers, on_part=lambda path: move())
    is_in = "burst is" if config.count == 1 else "bursts are"
    console.note(f"{config.count} {is_in} in {output}")
    console.print_path(output)


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run; a run that is there is resumed.",
)
@click.option("--val", type=click.Path(path_type=Path), help="Photos to validate on.")
@click.option(
    "--variant",
    type=click.Choice(VARIANTS),
    default="kpn",
    show_default=True,
    help="The network, or an ablation: pixels instead of kernels, one frame, "
    "no annealing, no noise estimate.",
)
@click.option(
    "--patches",
    type=click.IntRange(1),
    default=500_000,
    show_default=True,
    help="Length of the run, which the rate's cosine and the annealing follow.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Stop after so long, wherever the run is; the same command goes on from there.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Patches a step, of all processes together.",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Adam's rate at its highest.",
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    default="cosine",
    show_default=True,
    help="The rate falls, or stays.",
)
@click.option(
    "--cooldown",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Let a constant rate fall to zero over the last so many patches.",
)
@click.option(
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.999,
    show_default=True,
    help="Decay per step of the moving average of the weights, which is what is saved.",
)
@click.option(
    "--anneal",
    type=click.FloatRange(0),
    help="Weight of the per-frame terms [beta].  [default: 0.1]",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1),
    help="Its factor per step [alpha]; by default they end after a twentieth of the run.",
)
@click.option("--balanced/--plain", default=True, show_default=True, help="Log loss, or paper's.")
@click.option(
    "--mix/--no-mix",
    default=True,
    show_default=True,
    help="Planes take each other's detail, or kernels are all.",
)
@click.option(
    "--init",
    type=click.Path(dir_okay=False, path_type=Path),
    help='Start from weights; "shipped" for the ones that come with kpn.',
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of data and weights."
)
@click.option(
    "--validate-every",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Patches between validations.",
)
@ONE_NOISE
@click.option("--workers", type=click.IntRange(0), help="Threads that draw the data.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's files too.")
@DEVICE
@PRECISION
@QUIET
def train(
    *,
    data: tuple[Path, ...],
    output: Path,
    val: Path | None,
    variant: str,
    patches: int,
    minutes: float | None,
    batch: int,
    lr: float,
    schedule: str,
    cooldown: int,
    ema: float,
    anneal: float | None,
    decay: float | None,
    balanced: bool,
    mix: bool,
    init: Path | None,
    seed: int,
    validate_every: int,
    noise: NoiseModel | Path | None,
    workers: int | None,
    tensorboard: bool,
    device: str,
    precision: str,
) -> None:
    """Train a network on bursts; resumes the run in OUTPUT.

    DATA are ordinary photos (files or folders), from which bursts are made on the fly,
    or the tar files of kpn synth --format shards. Under PyTorch's launcher, several
    processes train together: torchrun --nproc-per-node 2 -m kpn_cli train ...
    """
    from . import train as training
    from .network import KPNConfig
    from .run import is_begun, shape_of
    from .synth import Photos
    from .train_config import TrainConfig, loss_for, with_network, with_variant
    from .weights import default_weights

    console.let_first_speak()
    if anneal and variant in ("noanneal", "direct"):
        raise click.UsageError(f"--variant {variant} has no annealing; leave --anneal out")
    config = TrainConfig(
        patches=patches,
        batch=batch,
        rate=lr,
        schedule=schedule,
        cooldown=cooldown,
        average=ema,
        seed=seed,
        validate_every=validate_every,
        workers=workers,
        device=device,
        precision=precision,
        loss=loss_for(patches, batch, anneal, decay, balanced),
    )
    if init is not None:
        init = default_weights() if str(init) == "shipped" else init
        shape = shape_of(output, init)
        scales = max(shape.scales, KPNConfig.scales) if mix else 0
        ratios = shape.noise_ratios or not is_begun(output)
        shape = replace(shape, wide=True, scales=scales, noise_ratios=ratios)
        config = with_network(config, shape)
    elif not mix:
        config = with_network(config, replace(config.network, scales=0))
    config = with_variant(config, variant)
    source = _source(data, config.data.photo_pixels)
    if noise is not None:
        if not isinstance(source, Photos):
            raise click.UsageError("shards have their noise already; leave --noise out")
        levels = _noise_levels(noise)
        config = replace(config, data=replace(config.data, noise_levels=levels))
    val_scenes = _load((val,), config.data.photo_pixels) if val else []
    if val_scenes:
        console.note(
            "PSNR in dB at gains 0 / 1 / 2 / 4 / 8, on patches of the validation photos: "
            "frames within half a cell (shifted), or exactly aligned (static)"
        )
    with console.bar("training", patches) as move, _interrupts() as interrupted:

        def begin(seen: int) -> None:
            move(completed=seen)
            if seen:
                console.note(f"{output}: at {seen} of {patches} patches")

        def show(progress: Progress) -> None:
            move(completed=progress.patches, description=f"training, loss {progress.loss:.3f}")
            console.note(console.progress_line(progress))

        best = training.train(
            source,
            val_scenes,
            output,
            config,
            init=init,
            minutes=minutes,
            board=tensorboard,
            should_stop=interrupted,
            on_start=begin,
            on_step=lambda seen: move(completed=seen),
            on_progress=show,
        )
        if interrupted():
            console.note(f"interrupted and saved; the same command goes on from {output}")
            sys.exit(130)
    console.print_path(best)


def _noise_levels(noise: NoiseModel | Path) -> tuple[tuple[float, float], ...]:
    """Pairs S, O to train for, means over the planes: of all ISOs of a calibration."""
    from . import calibration
    from .noise import NoiseModel

    if isinstance(noise, NoiseModel):
        models = [noise]
    else:
        models = [level.noise for level in calibration.load(noise).levels]
    return tuple((sum(m.shot) / 4, sum(m.read) / 4) for m in models)


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come; a second one ends the program at once."""
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, previous[number])

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _source(paths: tuple[Path, ...], at_least: int) -> Source:
    from .shards import Shards, find_shards
    from .synth import Photos

    found = find_shards(paths)
    return Shards(found) if found else Photos(_load(paths, at_least))


def _load(paths: tuple[Path, ...], at_least: int) -> list[Any]:
    from .photos import find_photos, load_scenes

    with console.bar("photos", len(find_photos(paths))) as move:
        return load_scenes(paths, at_least=at_least, on_photo=move, on_skip=console.note)


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
    from . import evaluate as evaluation
    from . import protocol
    from .device import pick_device, pick_precision
    from .weights import load_weights

    levels = _integers("--gains", gains)
    network, recipe = load_weights(weights)
    where = pick_device(device)
    network = network.to(where)
    if scenes:
        _refuse_with_scenes("gains", "frames", "baselines", "noise_scale")
        _try_scenes(network, photos, output, seed, pick_precision(precision, where), as_json)
        return
    loaded = _load(photos, 256)
    sets = {}
    with console.bar("evaluating", len(evaluation.SETS) * len(levels) * len(loaded)) as move:
        for name in evaluation.SETS:
            sets[name] = evaluation.evaluate(
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
    text = _conditions(document) + evaluation.markdown(sets)
    if output:
        evaluation.save(output, document, text)
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
    from . import battery, evaluate

    loaded = _load(photos, battery.PHOTO_PIXELS)
    total = len(battery.SCENES) * len(battery.LEVELS) * len(loaded)
    with console.bar("evaluating", total) as move:
        table = battery.run(network, loaded, seed=seed, dtype=dtype, on_burst=move)
    text = battery.markdown(table)
    document = {"photos": [scene.name for scene in loaded], "seed": seed, "scenes": table}
    if output:
        evaluate.save(output, document, text, "scenes")
    click.echo(json.dumps(document, indent=2) if as_json else text)


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{option} {text}: give numbers, such as 0,1,4") from None
