"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..choices import DEVICES, MAX_STRENGTH, MIN_TILE, PRECISIONS
from ..errors import KpnError
from . import console


def _parse_noise(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    from ..image.noise_model import NoiseModel

    try:
        shot, read = (float(part) for part in text.split(","))
        return NoiseModel.uniform(shot, read)
    except ValueError:
        if Path(text).exists():
            return Path(text)
        raise click.BadParameter(
            f"there is no file {text!r}; give two numbers, S,O, such as 1e-3,1e-5, or a file that "
            "kpn calibrate has written"
        ) from None
    except KpnError as error:
        raise click.BadParameter(str(error)) from None


DEVICE = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where the network runs.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Arithmetic of the network; auto is bf16 on CPUs with AMX and GPUs that have it.",
)
WEIGHTS = click.option(
    "--weights",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Weight file; default: the network that ships with kpn.",
)
REFERENCE = click.option(
    "--reference",
    default="auto",
    show_default=True,
    help="Frame whose moment is kept: auto, first, an index from 0 in order of time, or a file.",
)
STRENGTH = click.option(
    "--strength",
    type=click.FloatRange(0, MAX_STRENGTH),
    default=1.0,
    show_default=True,
    help="Multiplies the noise sigma the network sees; 0 keeps the reference as it is.",
)
NOISE = click.option(
    "--noise",
    callback=_parse_noise,
    metavar="S,O|FILE",
    help="Noise model: variance = S*x + O, x in [0, 1], as in the DNG NoiseProfile; or a file "
    "of kpn calibrate.",
)
ONE_NOISE = click.option(
    "--noise",
    callback=_parse_noise,
    metavar="S,O|FILE",
    help="Train for this noise alone, variance = S*x + O, or for a camera's, from a file of kpn "
    "calibrate; default: all cameras'.",
)
TILE = click.option(
    "--tile",
    type=click.IntRange(MIN_TILE),
    help="Side of a tile in pixels; default: 1536, or less where memory is short.",
)


def _hush(context: click.Context, option: click.Parameter, quiet: bool) -> None:
    console.set_quiet(quiet)


QUIET = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_hush,
    help="Say nothing but what has failed; results still go to stdout.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
PHOTOS = click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
