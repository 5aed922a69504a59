"""`kpn inspect`: what the network does with a burst, as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import KpnError
from . import console, documents
from .options import DEVICE, JSON, NOISE, PRECISION, QUIET, REFERENCE, STRENGTH, TILE, WEIGHTS
from .startup import swift_imports

if TYPE_CHECKING:
    from ..image.noise_model import NoiseModel

#: Factors of sigma: beyond them the network has never been.
_MOST_SCALE, _MOST_SCALES = 16.0, 8


def _parse_places(
    context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> list[tuple[int, int]]:
    try:
        places = [tuple(int(part) for part in text.split(",")) for text in texts]
    except ValueError:
        places = [()]
    if any(len(place) != 2 for place in places):
        raise click.BadParameter("give two whole numbers, X,Y, such as 812,344")
    return places


def _parse_scales(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...]:
    try:
        parts = [] if text is None else text.split(",")
        scales = tuple(dict.fromkeys(float(part) for part in parts))
    except ValueError:
        scales = (0.0,)
    if len(scales) > _MOST_SCALES or not all(0 < scale <= _MOST_SCALE for scale in scales):
        raise click.BadParameter(
            f"give up to {_MOST_SCALES} factors above 0, to {_MOST_SCALE:g}, such as 0.5,1,2"
        )
    return scales


@click.command()
@click.argument("burst", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="inspected",
    show_default=True,
    help="Folder of the pictures and their page.",
)
@click.option(
    "--at",
    multiple=True,
    metavar="X,Y",
    callback=_parse_places,
    help="Show the kernels at this pixel of the upright picture, from its top left; as often as "
    "you like. Default: some telling places.",
)
@click.option(
    "--noise-scale",
    metavar="LIST",
    callback=_parse_scales,
    help="Show the same places with the noise sigma the network sees multiplied by each of "
    "these, on top of --strength, such as 0.25,0.5,1,2,4.",
)
@REFERENCE
@STRENGTH
@NOISE
@DEVICE
@PRECISION
@TILE
@WEIGHTS
@QUIET
@JSON
def inspect(
    *,
    burst: tuple[Path, ...],
    output: Path,
    at: list[tuple[int, int]],
    noise_scale: tuple[float, ...],
    reference: str,
    strength: float,
    noise: NoiseModel | Path | None,
    device: str,
    precision: str,
    tile: int | None,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Show what the network does with a burst: kernels, weights, alignment, noise.

    BURST are the raw files of one burst, or folders that hold them. With the same
    options, kpn denoise does what is shown. The pictures are PNG files; index.html
    has all of them, and says how to read them.
    """
    with swift_imports():
        from ..inspection import inspect as inspection
        from ..inspection import page
        from ..noise import calibration
        from ..pipeline.options import Options
        from ..raw.decoder_process import Decoder

    try:
        options = Options(
            output,
            reference=reference,
            strength=strength,
            noise=calibration.load(noise) if isinstance(noise, Path) else noise,
            device=device,
            precision=precision,
            tile=tile,
            weights=weights,
            overwrite=True,
        )
        page.check_folder(output)
        with Decoder() as decoder, console.stages() as on_stage:
            found = inspection.inspect(
                burst, options, at, noise_scale, read=decoder.planes, on_stage=on_stage
            )
            files = page.write_page(found, output)
    except KpnError as error:
        if as_json:
            failed = {"files": [str(path) for path in burst], "error": str(error)}
            click.echo(json.dumps({"failed": [failed]}, indent=2))
        raise
    if as_json:
        click.echo(json.dumps(_document(found, files), indent=2))
        return
    console.show_inspection(found)
    for path in files.values():
        console.print_path(path)


def _document(found: Any, files: dict[str, Path]) -> dict[str, Any]:
    """Return the JSON of `kpn inspect`: the numbers behind the pictures."""
    return {
        "reference": str(found.info.path),
        "frames": [str(info.path) for info in found.infos],
        "dropped": {str(path): why for path, why in found.dropped.items()},
        "noise": documents.noise_json(found.noise),
        "strength": found.strength,
        "upright_shifts": found.median_shifts,
        "agreement": [round(value, 3) for value in found.agreement],
        "exposure": [round(value, 4) for value in found.exposure],
        "mean_weights": found.maps.weights.mean((1, 2)).tolist(),
        "noise_left": found.maps.noise_left,
        "fallen_back": found.maps.fallback_share,
        "places": [_place_json(found, place) for place in found.views],
        "device": found.device,
        "outputs": {name: str(path) for name, path in files.items()},
    }


def _place_json(found: Any, place: Any) -> dict[str, Any]:
    return {
        "x": place.x,
        "y": place.y,
        "why": place.why,
        **_look_json(found.views[place]),
        "noise_scales": [
            {"scale": look.scale, **_look_json(look)} for look in found.scaled_views[place]
        ],
    }


def _look_json(look: Any) -> dict[str, Any]:
    return {
        "weights": look.weights.tolist(),
        "kernels": look.kernels.tolist(),
        "wide": None if look.dilated is None else look.dilated.tolist(),
        "kernels_share": look.kernel_share,
        "radius": look.radius,
        "noise_left": look.noise_left,
    }
