"""The command line: parses, calls the library, exits.

Commands import the library in their bodies, so that `kpn --help` needs no torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__, cli_inspect, cli_research, console
from .choices import COMPRESSIONS, DEFAULT_FORMATS, DEFAULT_GAP, FORMATS, GAINS
from .cli_options import (
    DEVICE,
    JSON,
    NOISE,
    PATHS,
    PRECISION,
    QUIET,
    REFERENCE,
    STRENGTH,
    TILE,
    WEIGHTS,
)
from .errors import KpnError
from .startup import swift_imports

if TYPE_CHECKING:
    from .decoder import Decoder
    from .noise import NoiseModel
    from .noise_choice import NoiseReport
    from .raw import RawInfo


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


def _parse_formats(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(FORMATS)}")
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
    default=",".join(DEFAULT_FORMATS),
    show_default=True,
    callback=_parse_formats,
    help="Any of dng, linear (16-bit TIFF), srgb (16-bit TIFF), jpeg.",
)
@REFERENCE
@STRENGTH
@NOISE
@DEVICE
@PRECISION
@TILE
@WEIGHTS
@click.option(
    "--gap",
    type=click.FloatRange(0),
    default=DEFAULT_GAP,
    show_default=True,
    help="Seconds from one exposure's end to the next one's start, at most, within a burst.",
)
@click.option(
    "--burst-size",
    type=click.IntRange(1),
    help="Make bursts of so many files each, in order of time, however far apart.",
)
@click.option(
    "--no-group",
    is_flag=True,
    help="All files named here are one burst, and those of each folder.",
)
@click.option("--dry-run", is_flag=True, help="Show the bursts and where they go, and stop.")
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    metavar="|".join(COMPRESSIONS),
    default=COMPRESSIONS[0],
    show_default=True,
    help="Of the DNG: lossless JPEG, or none.",
)
@click.option("--overwrite", is_flag=True, help="Replace finished outputs instead of keeping them.")
@click.option(
    "--report",
    is_flag=True,
    help="Also write report.html: before and after at 100 %, what was used and measured.",
)
@QUIET
@JSON
def denoise(
    *,
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
    gap: float,
    burst_size: int | None,
    no_group: bool,
    dry_run: bool,
    compression: str,
    overwrite: bool,
    report: bool,
    as_json: bool,
) -> None:
    """Denoise bursts: each becomes one clean picture.

    PATHS are raw files, and folders that hold them at any depth. Files that
    follow on each other in time are a burst if camera, size, ISO, exposure and
    aperture are the same; a burst has one frame, or as many as you have.
    Finished outputs are kept, so that an interrupted job can be started again.
    Under PyTorch's launcher, several processes share the bursts: torchrun
    --nproc-per-node 2 -m kpn_cli denoise ...
    """
    if no_group and burst_size is not None:
        raise click.UsageError("--burst-size and --no-group exclude each other")
    console.let_first_speak()
    with swift_imports():
        from . import calibration, jobs
        from .options import Options
        from .plan import Grouping

    try:
        options = Options(
            output,
            formats=formats,
            reference=reference,
            strength=strength,
            noise=calibration.load(noise) if isinstance(noise, Path) else noise,
            device=device,
            precision=precision,
            tile=tile,
            weights=weights,
            overwrite=overwrite,
            compression=compression,
            report=report,
        )
        how = Grouping(gap, burst_size, no_group)
        if dry_run:
            with console.looking() as on_file:
                plan = jobs.plan(paths, options, how, on_file)
            failures = plan.failures
            if as_json:
                click.echo(json.dumps(console.plan_json(plan), indent=2))
            else:
                console.show_plan(plan)
        else:
            with console.Batch(quiet=as_json) as view:
                summary = jobs.run(paths, options, how, view)
            if summary is None:  # another process says it
                return
            failures = summary.failures
            if as_json:
                click.echo(json.dumps(console.summary_json(summary), indent=2))
            elif summary.report is not None:
                console.print_path(summary.report)
            console.show_summary(summary)
    except KpnError as error:
        if as_json:
            failed = {"files": [str(path) for path in paths], "error": str(error)}
            click.echo(json.dumps({"bursts": [], "failed": [failed]}, indent=2))
        raise
    except KeyboardInterrupt:
        console.note("interrupted; the same command goes on")
        sys.exit(130)
    if failures:
        sys.exit(1)


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
@QUIET
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
    from .decoder import Decoder

    rows, failed = [], []
    with Decoder() as decoder:
        for path in files:
            try:
                rows.append(console.info_json(*_info_and_noise(decoder, path)))
            except KpnError as error:
                failed.append({"file": str(path), "error": str(error)})
    if as_json:
        click.echo(json.dumps({"files": rows, "failed": failed}, indent=2))
    else:
        for row in rows:
            console.show_info(row)
        for failure in failed:
            console.complain(f"kpn: {failure['error']}")
    if failed:
        sys.exit(1)


def _info_and_noise(decoder: Decoder, path: Path) -> tuple[RawInfo, NoiseReport | None]:
    from .noise_choice import NoiseReport, noise_of_file

    found = decoder.info(path)
    if found.noise_profile is not None and all(found.noise_profile.read):
        return found, NoiseReport("profile", found.noise_profile)
    try:
        return found, noise_of_file(*decoder.planes(path))
    except KpnError:  # blank, or too small
        return found, None


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
    type=click.Choice(GAINS),
    default="2",
    show_default=True,
    help="Noise level.",
)
@DEVICE
@WEIGHTS
@QUIET
def demo(output: Path, gain: str, device: str, weights: Path | None) -> None:
    """Make a noisy burst from a bundled picture, denoise it, show before and after."""
    with swift_imports():
        from . import demo as demonstration
        from . import pipeline
        from .develop import develop
        from .options import Options
        from .raw import read_info, read_planes

    scene = demonstration.bundled_scene()
    frames, truth = demonstration.write_burst(scene, output / "burst", gain=int(gain))
    console.note(f"burst       {len(frames)} frames in {output / 'burst'}")
    options = Options(
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


for _command in (
    cli_inspect.inspect,
    cli_research.synth,
    cli_research.train,
    cli_research.evaluate,
):
    main.add_command(_command)
