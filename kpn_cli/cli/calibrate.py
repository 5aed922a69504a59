"""`kpn calibrate`: measure a camera's noise at each ISO from photos of an evenly lit surface."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..errors import KpnError
from . import console
from .options import JSON, QUIET


@click.command()
@click.argument("flats", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="JSON file to write; pass it to kpn denoise --noise.",
)
@QUIET
@JSON
def calibrate(flats: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Measure a camera's noise and find its defective pixels, for kpn denoise --noise.

    FLATS are raw photos of a plain, evenly lit surface, or folders that contain them. Take two
    frames of each exposure, and at each ISO several exposures from dark to bright. Long exposures
    with the lens cap on show hot pixels.
    """
    from ..burst import files
    from ..noise import calibration
    from ..noise.photon_transfer import calibrate as measure

    paths = files.find_raws(flats)
    if output.resolve() in {path.resolve() for path in paths}:
        raise KpnError(f"{output}: would overwrite an input; choose another file with -o")
    with console.bar("measuring", len(paths)) as move:
        measured = measure(paths, lambda done, total: move(completed=done))
    calibration.save_calibration(output, measured)
    if as_json:
        click.echo(json.dumps(calibration.to_json(measured), indent=2))
    else:
        console.show_calibration(measured)
        console.print_path(output)
