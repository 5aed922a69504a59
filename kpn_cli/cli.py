"""The command line: parses, calls the library, exits.

Commands import the library in their bodies, so that `kpn --help` needs no torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__, console
from .errors import KpnError

if TYPE_CHECKING:
    from .noise import NoiseModel

_DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the network runs.",
)
_PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the network; auto is bf16 where the hardware has it.",
)
_WEIGHTS = click.option(
    "--weights",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Weight file; default: the network that ships with kpn.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
_PHOTOS = click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))


class _Group(click.Group):
    """Turns errors that the user can mend into one line and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KpnError as error:
            console.fail(str(error))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kpn")
def main() -> None:
    """One clean raw photo from a burst of noisy ones."""


# --- denoise ----------------------------------------------------------------


def _parse_noise(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    from .noise import NoiseModel

    try:
        shot, read = (float(part) for part in text.split(","))
        return NoiseModel.uniform(shot, read)
    except ValueError:
        raise click.BadParameter("give two numbers, S,O, such as 1e-3,1e-5") from None
    except KpnError as error:
        raise click.BadParameter(str(error)) from None


def _parse_formats(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in ("dng", "linear", "srgb", "jpeg"):
            raise click.BadParameter(f"{name!r} is none of dng, linear, srgb, jpeg")
    return names


@main.command()
@_PATHS
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="denoised",
    show_default=True,
    help="Folder of the results.",
)
@click.option(
    "--format",
    "formats",
    default="dng,linear,srgb",
    show_default=True,
    callback=_parse_formats,
    help="Any of dng, linear (16-bit TIFF), srgb (16-bit TIFF), jpeg.",
)
@click.option(
    "--reference",
    default="auto",
    show_default=True,
    help="Frame whose moment is kept: auto, first, an index from 0 in order of time, or a file.",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 4),
    default=1.0,
    show_default=True,
    help="Multiplies the noise sigma the network sees; 0 keeps the reference as it is.",
)
@click.option(
    "--noise",
    callback=_parse_noise,
    metavar="S,O",
    help="Noise model: variance = S*x + O, x in [0, 1], as in the DNG NoiseProfile.",
)
@_DEVICE
@_PRECISION
@click.option(
    "--tile",
    type=click.IntRange(64),
    default=768,
    show_default=True,
    help="Side of a tile in pixels; smaller needs less memory.",
)
@_WEIGHTS
@click.option("--overwrite", is_flag=True, help="Replace finished outputs instead of keeping them.")
@_JSON
def denoise(
    paths: tuple[Path, ...],
    output: Path,
    formats: tuple[str, ...],
    reference: str,
    strength: float,
    noise: NoiseModel | None,
    device: str,
    precision: str,
    tile: int,
    weights: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Denoise one burst: raw files, or a folder of them, become one clean picture.

    PATHS are the frames of one burst, in any order. Bayer raws of one camera,
    size, ISO and exposure; of more than 8 frames the best 8 are used.
    """
    from . import pipeline

    options = pipeline.Options(
        output, formats, reference, strength, noise, device, precision, tile, weights, overwrite
    )
    try:
        with console.bar("", None) as move:

            def show(stage: pipeline.Stage) -> None:
                move(description=stage.name, completed=stage.done, total=stage.total)

            result = pipeline.denoise(paths, options, on_stage=show)
    except KpnError as error:
        if as_json:
            failed = {"files": [str(path) for path in paths], "error": str(error)}
            click.echo(json.dumps({"bursts": [], "failed": [failed]}, indent=2))
        raise
    if as_json:
        click.echo(json.dumps({"bursts": [console.burst_json(result)], "failed": []}, indent=2))
    else:
        console.show_result(result)


# --- info -------------------------------------------------------------------


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@_JSON
def info(files: tuple[Path, ...], as_json: bool) -> None:
    """Show what raw files say: camera, CFA, levels, exposure, noise."""
    from . import raw

    rows, failed = [], []
    for path in files:
        try:
            rows.append(console.info_json(raw.read_info(path)))
        except KpnError as error:
            failed.append({"file": str(path), "error": str(error)})
    if as_json:
        click.echo(json.dumps({"files": rows, "failed": failed}, indent=2))
    else:
        for row in rows:
            console.show_info(row)
        for failure in failed:
            console.note(f"kpn: {failure['error']}")
    if failed:
        sys.exit(1)


# --- train and eval ---------------------------------------------------------


@main.command()
@_PHOTOS
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run; a run that is there is resumed.",
)
@click.option("--val", type=click.Path(path_type=Path), help="Photos to validate on.")
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
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="Patches a step."
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Adam's rate at its highest.",
)
@click.option("--anneal", type=click.FloatRange(0), help="Weight of the per-frame terms [beta].")
@click.option("--decay", type=click.FloatRange(0, 1), help="Its factor per step [alpha].")
@click.option("--balanced/--plain", default=True, show_default=True, help="Log loss, or paper's.")
@click.option("--init", type=click.Path(dir_okay=False, path_type=Path), help="Start from weights.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of data and weights."
)
@_DEVICE
@_PRECISION
def train(
    photos: tuple[Path, ...],
    output: Path,
    val: Path | None,
    patches: int,
    minutes: float | None,
    batch: int,
    lr: float,
    anneal: float | None,
    decay: float | None,
    balanced: bool,
    init: Path | None,
    seed: int,
    device: str,
    precision: str,
) -> None:
    """Train a network on bursts made from ordinary photos; resumes the run in OUTPUT."""
    from . import train as training

    config = training.TrainConfig(
        patches=patches,
        batch=batch,
        rate=lr,
        seed=seed,
        device=device,
        precision=precision,
        loss=training.loss_for(patches, batch, anneal, decay, balanced),
    )
    if init is not None:
        from .weights import load_weights

        config = training.with_network(config, load_weights(init)[0].config)
    scenes = _load(photos, config.data.photo_pixels)
    val_scenes = _load((val,), config.data.photo_pixels) if val else []
    with console.bar("training", patches) as move:

        def show(progress: training.Progress) -> None:
            move(completed=progress.patches, description=f"training, loss {progress.loss:.3f}")
            console.note(console.progress_line(progress))

        best = training.train(
            scenes, val_scenes, output, config, init=init, minutes=minutes, on_progress=show
        )
    console.print_path(best)


def _load(paths: tuple[Path, ...], at_least: int) -> list[Any]:
    from .photos import find_photos, load_scenes

    with console.bar("photos", len(find_photos(paths))) as move:
        return load_scenes(paths, at_least=at_least, on_photo=move, on_skip=console.note)


@main.command(name="eval")
@_PHOTOS
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for eval.json and eval.md.",
)
@click.option("--gains", default="0,1,2,4,8", show_default=True, help="Noise levels.")
@click.option(
    "--frames", type=click.IntRange(1), default=8, show_default=True, help="Frames of a burst."
)
@click.option(
    "--baselines",
    default="reference,mean,aligned-mean",
    show_default=True,
    help="What to compare with.",
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
@_WEIGHTS
@_DEVICE
@_PRECISION
@_JSON
def evaluate(
    photos: tuple[Path, ...],
    output: Path | None,
    gains: str,
    frames: int,
    baselines: str,
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
    scenes = _load(photos, 256)
    sets = {}
    with console.bar("evaluating", len(evaluation.SETS) * len(levels) * len(scenes)) as move:
        for name in evaluation.SETS:
            sets[name] = evaluation.evaluate(
                network.to(where),
                scenes,
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
        "photos": [scene.name for scene in scenes],
        "frames": frames,
        "seed": seed,
        "noise_scale": noise_scale,
        "patches": recipe.get("patches"),
        "gains": sets["shifted"],
        "static": sets["static"],
    }
    if output:
        evaluation.save(output, document, evaluation.markdown(sets))
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(evaluation.markdown(sets))


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{option} {text}: give numbers, such as 0,1,4") from None


# --- demo -------------------------------------------------------------------


@main.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="demo",
    show_default=True,
    help="Folder of the burst and the results.",
)
@click.option(
    "--gain",
    type=click.Choice(["0", "1", "2", "4", "8"]),
    default="2",
    show_default=True,
    help="Noise level.",
)
@_DEVICE
@_WEIGHTS
def demo(output: Path, gain: str, device: str, weights: Path | None) -> None:
    """Make a noisy burst from a bundled picture, denoise it, show before and after."""
    from . import demo as demonstration
    from . import pipeline
    from .develop import develop
    from .raw import read_info, read_planes

    scene = demonstration.bundled_scene()
    frames, truth = demonstration.write_burst(scene, output / "burst", gain=int(gain))
    console.note(f"burst       {len(frames)} frames in {output / 'burst'}")
    options = pipeline.Options(
        output / "denoised", reference="first", device=device, weights=weights, overwrite=True
    )
    result = pipeline.denoise(frames, options)
    console.show_result(result)
    shown = []
    for path in (frames[0], result.outputs["dng"], truth):
        found = read_info(path)
        shown.append(develop(found, read_planes(found), linear=True))
    picture = output / "before_after_truth.png"
    demonstration.write_comparison(picture, shown)
    console.note("before, after and truth, side by side:")
    console.print_path(picture)
