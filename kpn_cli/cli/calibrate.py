"""`kpn calibrate`: frames of an evenly lit surface -> a file of the camera's noise."""

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
    help="JSON file of the camera's noise, for --noise.",
)
@QUIET
@JSON
def calibrate(flats: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Measure a camera's noise by ISO, for kpn denoise --noise.

    FLATS are raw files, or folders of them, of a plain, evenly lit surface: two
    frames of each exposure, and for each ISO some dark and some bright exposures.
    """
    from ..burst import files
    from ..noise import calibration
    from ..noise.photon_transfer import calibrate as measure

    paths = files.find_raws(flats)
    if output.resolve() in {path.resolve() for path in paths}:
        raise KpnError(f"{output}: would replace an input; choose another file with -o")
    with console.bar("measuring", len(paths)) as move:
        found = measure(paths, lambda done, total: move(completed=done))
    calibration.save_calibration(output, found)
    if as_json:
        click.echo(json.dumps(calibration.to_json(found), indent=2))
    else:
        console.show_calibration(found)
        console.print_path(output)
