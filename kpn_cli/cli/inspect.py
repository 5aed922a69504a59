"""`kpn inspect`: figures of the kernels, frame weights, alignment and noise of one burst."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import KpnError
from . import console, documents, inputs
from .options import (
    DEFECTS_OPTION,
    DEVICE,
    EXPOSURES_OPTION,
    JSON,
    NOISE,
    PRECISION,
    QUIET,
    REFERENCE,
    STRENGTH,
    TILE,
    WEIGHTS,
)
from .startup import no_gc_imports
from .values import FilePath

if TYPE_CHECKING:
    from ..image.noise_model import NoiseModel

#: Limits of --noise-scale: no network has been trained for larger errors of the noise estimate.
_MAX_SCALE = 16.0
_MAX_SCALES = 8


def _parse_places(
    context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> list[tuple[int, int]]:
    try:
        return [(int(x), int(y)) for x, y in (text.split(",") for text in texts)]
    except ValueError:
        raise click.BadParameter("give two whole numbers, X,Y, such as 812,344") from None


def _parse_scales(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...]:
    try:
        parts = [] if text is None else text.split(",")
        scales = tuple(dict.fromkeys(float(part) for part in parts))
    except ValueError:
        scales = (0.0,)
    if len(scales) > _MAX_SCALES or not all(0 < scale <= _MAX_SCALE for scale in scales):
        raise click.BadParameter(
            f"give up to {_MAX_SCALES} factors above 0, up to {_MAX_SCALE:g}, such as 0.5,1,2"
        )
    return scales


@click.command()
@click.argument("burst", nargs=-1, required=True, type=FilePath())
@click.option(
    "-o",
    "--output",
    type=FilePath(file_okay=False, path_type=Path),
    default="inspected",
    show_default=True,
    help="Folder for the figures and index.html.",
)
@click.option(
    "--at",
    multiple=True,
    metavar="X,Y",
    callback=_parse_places,
    help="Show the kernels at this pixel of the upright picture, counted from its top left. May be "
    "given several times. Default: a few points of interest that kpn picks.",
)
@click.option(
    "--noise-scale",
    metavar="LIST",
    callback=_parse_scales,
    help="Show how the kernels at these points change if the noise sigma is multiplied by each of "
    "these factors, on top of --strength, e.g. 0.25,0.5,1,2,4.",
)
@REFERENCE
@EXPOSURES_OPTION
@STRENGTH
@NOISE
@DEFECTS_OPTION
@DEVICE
@PRECISION
@TILE
@WEIGHTS
@QUIET
@JSON
def inspect(
    *,
    burst: tuple[str, ...],
    output: Path,
    at: list[tuple[int, int]],
    noise_scale: tuple[float, ...],
    reference: str,
    exposures: str,
    strength: float,
    noise: NoiseModel | Path | None,
    defects: str,
    device: str,
    precision: str,
    tile: int | None,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Show how the network denoises a burst, as figures.

    The figures show the kernels, the frame weights, the alignment and the noise. They are PNG
    files; index.html shows them all and explains how to read them.

    BURST is the raw files of one burst, or folders that contain them. With the same options,
    kpn denoise does exactly what the figures show.
    """
    with no_gc_imports():
        from ..inspection import inspect as inspection
        from ..inspection import page
        from ..noise import calibration
        from ..pipeline.loading import READERS
        from ..pipeline.options import Options
        from ..raw.decoder_process import Decoders

    try:
        options = Options(
            output,
            reference=reference,
            exposures=exposures,
            strength=strength,
            noise=calibration.load_calibration(noise) if isinstance(noise, Path) else noise,
            defects=defects,
            device=device,
            precision=precision,
            tile=tile,
            weights=weights,
            overwrite=True,
        )
        page.check_folder(output)
        given = inputs.raws(burst)
        given.tell()
        with Decoders(READERS) as decoder, console.stage_bar() as on_stage:
            inspected = inspection.inspect(
                given.complete(),
                options,
                at,
                noise_scale,
                read=decoder.planes,
                read_notes=decoder.camera_notes,
                on_stage=on_stage,
            )
            files = page.write_page(inspected, output)
    except KpnError as error:
        if as_json:
            failed = {"files": list(burst), "error": str(error)}
            console.print_json({"failed": [failed]})
        raise
    if as_json:
        console.print_json(documents.inspection_json(inspected, files))
        return
    console.show_inspection(inspected)
    for path in files.values():
        console.print_path(path)
