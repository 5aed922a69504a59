"""`kpn denoise`: each burst among the files becomes one clean picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..choices import COMPRESSIONS, DEFAULT_FORMATS, DEFAULT_GAP, FORMATS
from ..errors import KpnError
from . import batch_view, console, documents
from .options import (
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
from .startup import swift_imports

if TYPE_CHECKING:
    from ..image.noise_model import NoiseModel


def _parse_formats(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(FORMATS)}")
    return names


@click.command()
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
        from ..batch import run
        from ..batch.plan import Grouping
        from ..noise import calibration
        from ..pipeline.options import Options

    try:
        options = Options(
            output,
            formats=formats,
            reference=reference,
            strength=strength,
            noise=calibration.load_calibration(noise) if isinstance(noise, Path) else noise,
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
                plan = run.plan(paths, options, how, on_file)
            failures = plan.failures
            if as_json:
                click.echo(json.dumps(documents.plan_json(plan), indent=2))
            else:
                console.show_plan(plan)
        else:
            with batch_view.Batch(quiet=as_json) as view:
                summary = run.run(paths, options, how, view)
            if summary is None:  # another process says it
                return
            failures = summary.failures
            if as_json:
                click.echo(json.dumps(documents.summary_json(summary), indent=2))
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
