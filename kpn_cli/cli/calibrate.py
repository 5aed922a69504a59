"""`kpn calibrate`: measure a camera's noise at each ISO from photos of an evenly lit surface."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import KpnError
from . import console, inputs
from .options import JSON, QUIET
from .values import FilePath


@click.command()
@click.argument("flats", nargs=-1, required=True, type=FilePath())
@click.option(
    "-o",
    "--output",
    type=FilePath(dir_okay=False, path_type=Path),
    required=True,
    help="JSON file to write; pass it to kpn denoise --noise.",
)
@QUIET
@JSON
def calibrate(flats: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Measure a camera's noise and find its defective pixels, for kpn denoise --noise.

    FLATS are raw photos of a plain, evenly lit surface, or folders that contain them at any
    depth. Take two frames of each exposure, and at each ISO several exposures from dark to
    bright. Long exposures with the lens cap on show hot pixels.
    """
    from ..burst import files
    from ..noise import calibration
    from ..noise.photon_transfer import calibrate as measure

    given = inputs.raws(flats)
    given.tell()
    paths = files.all_raws_below(given.complete())
    _check_output(output, paths)
    with console.bar("measuring", len(paths)) as move:
        measured = measure(paths, lambda done, total: move(completed=done))
    calibration.save_calibration(output, measured)
    if as_json:
        console.print_json(calibration.to_json(measured))
    else:
        console.show_calibration(measured)
        console.print_path(output)


def _check_output(output: Path, flats: list[Path]) -> None:
    """Refuse an output that would replace a photo, a sidecar or another program's file."""
    from ..burst.files import RAW_SUFFIXES
    from ..noise.calibration import is_replaceable
    from ..pipeline.sidecars import is_sidecar_of, sidecar_stems

    resolved = output.resolve()
    inputs = frozenset(path.resolve() for path in flats)
    sidecars = sidecar_stems(inputs)
    if resolved in inputs:
        problem = "would overwrite an input"
    elif output.suffix.lower() in RAW_SUFFIXES:
        problem = "has the suffix of a raw photo, and a calibration is JSON"
    elif any(is_sidecar_of(path, sidecars) for path in (resolved, output.absolute())):
        problem = "would be the sidecar of an input"
    elif not is_replaceable(output):
        problem = "exists and is no calibration of kpn, so it is not replaced"
    else:
        return
    raise KpnError(f"{output}: {problem}; choose another file with -o")
