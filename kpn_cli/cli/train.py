"""`kpn train`: photos or shards -> weights; resumes an interrupted run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..choices import SCHEDULES, VARIANTS
from . import console
from .options import DEVICE, ONE_NOISE, PRECISION, QUIET
from .photos import load_photos

if TYPE_CHECKING:
    from ..image.noise_model import NoiseModel
    from ..synthesis.patches import BatchSource
    from ..training.run import Progress


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
    from ..network.kpn import KPNConfig
    from ..network.weights import default_weights
    from ..synthesis.patches import PhotoSource
    from ..training import loop
    from ..training.config import TrainConfig, loss_for, with_network, with_variant
    from ..training.run import has_checkpoint, network_config_of

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
        shape = network_config_of(output, init)
        scales = max(shape.scales, KPNConfig.scales) if mix else 0
        ratios = shape.noise_ratios or not has_checkpoint(output)
        shape = replace(shape, wide=True, scales=scales, noise_ratios=ratios)
        config = with_network(config, shape)
    elif not mix:
        config = with_network(config, replace(config.network, scales=0))
    config = with_variant(config, variant)
    source = _source(data, config.data.photo_pixels)
    if noise is not None:
        if not isinstance(source, PhotoSource):
            raise click.UsageError("shards have their noise already; leave --noise out")
        levels = _noise_levels(noise)
        config = replace(config, data=replace(config.data, noise_levels=levels))
    val_scenes = load_photos((val,), config.data.photo_pixels) if val else []
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

        best = loop.train(
            source,
            val_scenes,
            output,
            config,
            init=init,
            minutes=minutes,
            tensorboard=tensorboard,
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
    from ..image.noise_model import NoiseModel
    from ..noise import calibration

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


def _source(paths: tuple[Path, ...], at_least: int) -> BatchSource:
    from ..synthesis.patches import PhotoSource
    from ..synthesis.shards import ShardSource, find_shards

    found = find_shards(paths)
    return ShardSource(found) if found else PhotoSource(load_photos(paths, at_least))
