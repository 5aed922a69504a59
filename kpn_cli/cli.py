"""The command line: parses, calls the library, exits.

Commands import the library in their bodies, so that `kpn --help` needs no torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__, cli_research, console
from .cli_options import DEVICE, JSON, PATHS, PRECISION, WEIGHTS
from .errors import KpnError

if TYPE_CHECKING:
    from .noise import NoiseModel


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
        if Path(text).exists():
            return Path(text)
        raise click.BadParameter(
            "give two numbers, S,O, such as 1e-3,1e-5, or a file that kpn calibrate has written"
        ) from None
    except KpnError as error:
        raise click.BadParameter(str(error)) from None


def _parse_formats(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in ("dng", "linear", "srgb", "jpeg"):
            raise click.BadParameter(f"{name!r} is none of dng, linear, srgb, jpeg")
    return names


@main.command()
@PATHS
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
    metavar="S,O|FILE",
    help="Noise model: variance = S*x + O, x in [0, 1], as in the DNG NoiseProfile; or a file "
    "of kpn calibrate.",
)
@DEVICE
@PRECISION
@click.option(
    "--tile",
    type=click.IntRange(64),
    default=768,
    show_default=True,
    help="Side of a tile in pixels; smaller needs less memory.",
)
@WEIGHTS
@click.option(
    "--compression",
    type=click.Choice(["lossless", "none"]),
    metavar="lossless|none",
    default="lossless",
    show_default=True,
    help="Of the DNG: lossless JPEG, or none.",
)
@click.option("--overwrite", is_flag=True, help="Replace finished outputs instead of keeping them.")
@JSON
def denoise(
    paths: tuple[Path, ...],
    output: Path,
    formats: tuple[str, ...],
    reference: str,
    strength: float,
    noise: NoiseModel | Path | None,
    device: str,
    precision: str,
    tile: int,
    weights: Path | None,
    compression: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Denoise one burst: raw files, or a folder of them, become one clean picture.

    PATHS are the frames of one burst, in any order. Bayer raws of one camera,
    size, ISO and exposure, one to as many as you have.
    """
    from . import calibration, pipeline

    try:
        options = pipeline.Options(
            output,
            formats,
            reference,
            strength,
            calibration.load(noise) if isinstance(noise, Path) else noise,
            device,
            precision,
            tile,
            weights,
            overwrite,
            compression,
        )
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


# --- calibrate --------------------------------------------------------------


@main.command()
@click.argument("flats", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="JSON file of the camera's noise, for --noise.",
)
@JSON
def calibrate(flats: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Measure a camera's noise by ISO, for kpn denoise --noise.

    FLATS are raw files, or folders of them, of a plain, evenly lit surface: two
    frames of each exposure, and for each ISO some dark and some bright exposures.
    """
    from . import burst, calibration
    from .flats import calibrate as measure

    paths = burst.find_raws(flats)
    if output.resolve() in {path.resolve() for path in paths}:
        raise KpnError(f"{output}: would replace an input; choose another file with -o")
    with console.bar("measuring", len(paths)) as move:
        found = measure(paths, lambda done, total: move(completed=done))
    calibration.save(output, found)
    if as_json:
        click.echo(json.dumps(calibration.to_json(found), indent=2))
    else:
        console.show_calibration(found)
        console.print_path(output)


# --- info -------------------------------------------------------------------


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@JSON
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
@DEVICE
@WEIGHTS
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


for _command in (cli_research.synth, cli_research.train, cli_research.evaluate):
    main.add_command(_command)
