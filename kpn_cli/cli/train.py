"""`kpn train`: train a network on photos or shards; resume an interrupted run."""

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
from . import console, inputs, streams
from .options import DEVICE, QUIET, TRAINING_NOISE, TRAINING_PRECISION, Choice, FloatRange, IntRange
from .photos import load_photos
from .train_data import TrainingData, load_data
from .train_progress import TrainingPace
from .values import FilePath

if TYPE_CHECKING:
    from torch import Tensor

    from ..image.noise_model import NoiseModel
    from ..synthesis.patches import BatchSource
    from ..training.config import TrainConfig
    from ..training.run import Progress


def _parse_blocks(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, ...]:
    """Read the numbers of --extra-blocks."""
    try:
        return tuple(int(part) for part in (value or "").split(",") if value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not like 0,0,1,1") from None


@click.command()
@click.argument("data", nargs=-1, required=True, type=FilePath(), callback=inputs.training_data)
@click.option(
    "-o",
    "--output",
    type=FilePath(file_okay=False, path_type=Path),
    help="Folder of the run: checkpoint, weights and log. If it holds a run, that run is resumed.",
)
@click.option(
    "--val",
    type=FilePath(path_type=Path),
    help="Photo, or folder of photos, to validate on; best.safetensors is chosen by their PSNR.",
)
@click.option(
    "--variant",
    type=Choice(VARIANTS),
    default="kpn",
    show_default=True,
    help="Network to train: kpn, or an ablation of the paper: direct predicts pixels instead of "
    "kernels, single takes one frame, noanneal drops the annealed per-frame loss, blind is given "
    "no noise model.",
)
@click.option(
    "--patches",
    type=IntRange(1),
    default=500_000,
    show_default=True,
    help="Length of the run in patches; the cosine schedule and the annealing adapt to it.",
)
@click.option(
    "--minutes",
    type=FloatRange(0, min_open=True),
    help="Stop after this many minutes; the same command continues the run.",
)
@click.option(
    "--batch",
    type=IntRange(1),
    default=16,
    show_default=True,
    help="Patches per step, summed over all processes.",
)
@click.option(
    "--lr",
    type=FloatRange(0, min_open=True),
    default=6e-4,
    show_default=True,
    help="Peak learning rate of Adam.",
)
@click.option(
    "--schedule",
    type=Choice(SCHEDULES),
    default="cosine",
    show_default=True,
    help="Learning rate after the warm-up: falling along a cosine, or constant.",
)
@click.option(
    "--cooldown",
    type=IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="With --schedule constant: lower the rate linearly to zero over the last N patches.",
)
@click.option(
    "--ema",
    type=FloatRange(0, 1, max_open=True),
    default=0.999,
    show_default=True,
    help="Decay per step of the moving average of the weights; the averaged weights are saved.",
)
@click.option(
    "--anneal",
    type=FloatRange(0),
    help="Initial weight of the annealed per-frame loss (the paper's beta).  [default: 0.1]",
)
@click.option(
    "--decay",
    type=FloatRange(0, 1),
    help="Factor per step on that weight (the paper's alpha). Default: the per-frame loss ends "
    "after a twentieth of the run.",
)
@click.option(
    "--balanced/--plain",
    default=True,
    show_default=True,
    help="Average the logarithm of the loss over patches, so that the noisiest do not dominate, or "
    "the loss itself as in the paper.",
)
@click.option(
    "--mix/--no-mix",
    default=True,
    show_default=True,
    help="Transfer detail between the Bayer planes after the kernels, or use the kernels alone.",
)
@click.option(
    "--extra-blocks",
    callback=_parse_blocks,
    metavar="A,B,C,D",
    help="More residual blocks in the U-Net: how many at each of its levels, finest first. Weights "
    "of --init get them without a change of their result.",
)
@click.option(
    "--init",
    type=FilePath(dir_okay=False, path_type=Path),
    help='Weights to start from; "shipped" stands for those that come with kpn.',
)
@click.option(
    "--seed",
    type=IntRange(0),
    default=0,
    show_default=True,
    help="Random seed of the data and the initial weights.",
)
@click.option(
    "--validate-every",
    type=IntRange(1),
    default=10_000,
    show_default=True,
    help="Patches between validations.",
)
@click.option(
    "--save-every",
    type=IntRange(1),
    default=5_000,
    show_default=True,
    help="Patches between checkpoints.",
)
@TRAINING_NOISE
@click.option(
    "--workers",
    type=IntRange(0),
    help="Threads that generate training data, or processes beside a GPU. Default: as many as suit "
    "the device.",
)
@click.option(
    "--calibrate",
    type=FilePath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Train nothing, but add to the weights in FILE what int8 arithmetic needs: the ranges of "
    "their activations, recorded on the photos in DATA.",
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Also write TensorBoard logs to the folder tensorboard in the run's folder.",
)
@DEVICE
@TRAINING_PRECISION
@QUIET
def train(
    *,
    data: tuple[Path, ...],
    output: Path | None,
    calibrate: Path | None,
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
    extra_blocks: tuple[int, ...],
    init: Path | None,
    seed: int,
    validate_every: int,
    save_every: int,
    noise: NoiseModel | Path | None,
    workers: int | None,
    tensorboard: bool,
    device: str,
    precision: str,
) -> None:
    """Train a network on synthetic bursts, or resume a run.

    DATA is photos (files or folders), from which bursts are made on the fly, or the tar files
    of kpn synth --format shards, also on a web server ('http://host/shard-{00000..00099}.tar').
    PyTorch's launcher trains with several processes:
    torchrun --nproc-per-node 2 -m kpn_cli train ...
    """
    from ..training.config import TrainConfig, loss_for, with_variant
    from ..training.tensorboard import check_tensorboard

    console.mute_other_ranks()
    if calibrate is not None:
        _calibrate(calibrate, data, seed)
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
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
        save_every=save_every,
        workers=workers,
        device=device,
        precision=precision,
        loss=loss_for(patches, batch, anneal, decay, balanced),
    )
    init = _initial_weights(init)
    if tensorboard:
        check_tensorboard()
    config = with_variant(_with_architecture(config, output, init, mix, extra_blocks), variant)
    loaded = load_data(data, val, config)
    config = _with_noise(config, loaded.source, noise)
    best = _run(loaded, output, config, init=init, minutes=minutes, tensorboard=tensorboard)
    console.print_path(best)


def _calibrate(path: Path, data: tuple[Path, ...], seed: int) -> None:
    """Record the ranges of the activations of a weight file on photos."""
    from click.core import ParameterSource

    from ..synthesis.config import SynthConfig
    from ..synthesis.patches import PhotoSource
    from ..training.activation_ranges import BURSTS, add_ranges, bursts_of, check_file

    context = click.get_current_context()
    for name in context.params:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("calibrate", "data", "seed"):
            raise click.UsageError(
                f"--calibrate trains nothing; leave --{name.replace('_', '-')} out"
            )
    check_file(path)
    config = SynthConfig()
    source = PhotoSource(load_photos(data, config.photo_pixels))
    with console.bar("recording", BURSTS) as move:

        def bursts() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for burst in bursts_of(source.scenes, config, seed, BURSTS):
                yield burst
                move()

        add_ranges(path, bursts(), {"data": source.digest, "seed": seed})
    photos = console.count(len(source.scenes), "photo")
    console.note(f"{path}: activation ranges of {BURSTS} bursts from {photos} added")
    console.print_path(path)


def _initial_weights(init: Path | None) -> Path | None:
    """Return the weight file that --init stands for."""
    from ..network.weights import default_weights

    return default_weights() if init is not None and str(init) == "shipped" else init


def _with_architecture(
    config: TrainConfig, output: Path, init: Path | None, mix: bool, extra_blocks: tuple[int, ...]
) -> TrainConfig:
    """Return the config with the network of the run or the initial weights, or a new network.

    Initial weights of an older network get what it lacks: the dilated kernel, the cross-plane
    detail (unless --no-mix) and the extra blocks.
    """
    from ..network.kpn import KPNConfig
    from ..training.config import with_network
    from ..training.run import network_config_of

    if init is not None:
        shape = network_config_of(output, init)
        scales = max(shape.scales, KPNConfig.scales) if mix else 0
        blocks = extra_blocks or shape.extra_blocks
        shape = replace(shape, wide=True, scales=scales, extra_blocks=blocks)
        return with_network(config, shape)
    scales = KPNConfig.scales if mix else 0
    return with_network(config, replace(config.network, scales=scales, extra_blocks=extra_blocks))


def _with_noise(
    config: TrainConfig, source: BatchSource, noise: NoiseModel | Path | None
) -> TrainConfig:
    """Return the config for the noise levels of --noise; unchanged without."""
    from ..image.noise_model import NoiseModel
    from ..noise import calibration
    from ..synthesis.patches import PhotoSource

    if noise is None:
        return config
    if not isinstance(source, PhotoSource):
        raise click.UsageError("the bursts of shards contain noise already; leave --noise out")
    if isinstance(noise, NoiseModel):
        models = [noise]
    else:
        models = [level.noise for level in calibration.load_calibration(noise).levels]
    levels = tuple((sum(m.shot) / 4, sum(m.read) / 4) for m in models)  # means over the planes
    return replace(config, data=replace(config.data, noise_levels=levels))


def _run(
    data: TrainingData,
    output: Path,
    config: TrainConfig,
    *,
    init: Path | None,
    minutes: float | None,
    tensorboard: bool,
) -> Path:
    """Train and show the progress; return the best weights. Ctrl-C saves and exits.

    A terminal shows a bar, all else gets a line a minute.
    """
    from ..training import loop

    pace = TrainingPace(config.patches, minutes)
    on_terminal = streams.is_stderr_terminal()
    loss = ""
    with console.bar("training", config.patches) as move, _interrupts() as interrupted:

        def begin(patches: int) -> None:
            pace.start(patches)
            for line in data.lines:
                console.note(line)
            move(completed=patches)
            if patches:
                console.note(f"{output}: resuming at {patches} of {config.patches} patches")

        def step(patches: int) -> None:
            pace.step(patches)
            limit = pace.left_by_minutes()  # the bar itself knows the time for all patches
            move(completed=patches, description=f"training{loss}{limit and f', {limit}'}")
            if not on_terminal and pace.line_due():
                console.note(pace.line())

        def show(progress: Progress) -> None:
            nonlocal loss
            loss = f", loss {progress.loss:.3f}"
            move(completed=progress.patches, description=f"training{loss}")
            console.note(console.progress_line(progress))

        best = loop.train(
            data.source,
            data.validation,
            output,
            config,
            init=init,
            minutes=minutes,
            tensorboard=tensorboard,
            should_stop=interrupted,
            on_start=begin,
            on_step=step,
            on_progress=show,
            on_note=console.note,
        )
        if interrupted():
            console.note(f"interrupted; {output} is saved, run the same command again to continue")
            sys.exit(console.INTERRUPTED)
        if pace.stopped():
            console.note(f"{pace.stopped()}; run the same command again to continue")
    return best


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM; yield a function that says whether one has arrived.

    A second signal of the same kind has its usual effect and ends the program at once.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
