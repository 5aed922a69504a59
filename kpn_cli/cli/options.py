"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..choices import (
    DEFECTS,
    DEVICES,
    EXPOSURES,
    FLOAT_PRECISIONS,
    MAX_STRENGTH,
    MIN_TILE,
    PRECISIONS,
)
from . import console, inputs
from .values import Choice as Choice  # also for the commands that take the options from here
from .values import FilePath
from .values import FloatRange as FloatRange
from .values import IntRange as IntRange

if TYPE_CHECKING:
    from ..image.noise_model import NoiseModel


def _parse_noise(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if text and len(numbers) != 2 and os.path.exists(text):  # Path("") is the current folder
        return Path(text)
    if not numbers:
        raise click.BadParameter(
            f"no such file: {text!r}; give two numbers, S,O, such as 1e-3,1e-5, or a file "
            "written by kpn calibrate"
        )
    return _noise_model(text, numbers)


def _noise_model(text: str, numbers: list[float]) -> NoiseModel:
    """Return the noise model of the numbers S and O; a usage error if they are none."""
    from ..image.noise_model import MAX_COEFFICIENT, NoiseModel

    if len(numbers) != 2:
        comma = "; write decimal points, no commas" if len(numbers) == 4 else ""
        raise click.BadParameter(f"{text!r} is not two numbers{comma}; give S,O, such as 1e-3,1e-5")
    for name, number in zip("SO", numbers, strict=True):
        if not 0 <= number <= MAX_COEFFICIENT:
            raise click.BadParameter(
                f"{name} = {number:g} is out of range; give 0 to {MAX_COEFFICIENT:g}, as in "
                "1e-3,1e-5"
            )
    if numbers == [0, 0]:
        raise click.BadParameter("S and O are both 0; give at least one above 0, as in 1e-3,1e-5")
    return NoiseModel.uniform(*numbers)


def _check_reference(context: click.Context, option: click.Parameter, text: str) -> str:
    if not text.strip():
        raise click.BadParameter("no frame is named; give auto, darkest, first, an index or a file")
    return text


DEVICE = click.option(
    "--device",
    type=Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where the network runs; auto picks a GPU if there is one.",
)
PRECISION = click.option(
    "--precision",
    type=Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Arithmetic of the network; auto picks the fastest: bf16 on CPUs with AMX and GPUs that "
    "support it; int8 on other CPUs that support it, if OpenVINO is installed; else fp32.",
)
TRAINING_PRECISION = click.option(
    "--precision",
    type=Choice(FLOAT_PRECISIONS),
    default="auto",
    show_default=True,
    help="Arithmetic of the network; auto picks bf16 where it is faster (CPUs with AMX, GPUs that "
    "support it), else fp32.",
)
WEIGHTS = click.option(
    "--weights",
    type=FilePath(dir_okay=False, path_type=Path),
    help="Network weights to use. Default: those that come with kpn.",
)
REFERENCE = click.option(
    "--reference",
    default="auto",
    show_default=True,
    callback=_check_reference,
    help="Frame whose moment and exposure the result shows: auto (the sharpest of the middle "
    "half; in a bracket, of its best exposed frames), darkest (keeps the highlights of a bracket), "
    "first, an index in capture order (from 0), or a file name.",
)
EXPOSURES_OPTION = click.option(
    "--exposures",
    type=Choice(EXPOSURES),
    default=EXPOSURES[0],
    show_default=True,
    help="Which frames to merge: same merges frames of one exposure, and small changes of "
    "automatic exposure, but leaves brackets out; mixed merges brackets too, with up to 4 EV "
    "between the reference and another frame.",
)
STRENGTH = click.option(
    "--strength",
    type=FloatRange(0, MAX_STRENGTH),
    default=1.0,
    show_default=True,
    help="How strongly to denoise: multiplies the noise sigma given to the network. Below 1 keeps "
    "more grain; above 1 removes more noise, at some cost in fine texture; 0 returns the "
    "reference and repairs only its defective pixels.",
)
NOISE = click.option(
    "--noise",
    callback=_parse_noise,
    metavar="S,O|FILE",
    help="Noise model to use instead of the file's own or an estimate: S,O for variance = S*x + O "
    "with x in [0, 1], as in the DNG NoiseProfile; or a file written by kpn calibrate.",
)
DEFECTS_OPTION = click.option(
    "--defects",
    type=Choice(DEFECTS),
    default=DEFECTS[0],
    show_default=True,
    help="Which defective pixels to repair: auto looks for hot, dead and stuck pixels, columns and "
    "rows, and takes the camera's list (--noise FILE) too; off repairs only pixels that the files "
    "mark.",
)
TRAINING_NOISE = click.option(
    "--noise",
    callback=_parse_noise,
    metavar="S,O|FILE",
    help="Train for one noise level only, S,O for variance = S*x + O; or for one camera, from a "
    "file written by kpn calibrate. Default: train for any camera at any ISO.",
)
TILE = click.option(
    "--tile",
    type=IntRange(MIN_TILE),
    help="Side of the tiles that are denoised one by one, in pixels; smaller tiles need less "
    "memory. Default: 1536, or less if memory is short.",
)
THREADS = click.option(
    "--threads",
    type=IntRange(1),
    metavar="N",
    help="Threads for each piece of work; fewer leave cores to other programs. Default: all cores "
    "that kpn may use.",
)


def _set_quiet(context: click.Context, option: click.Parameter, quiet: bool) -> None:
    console.set_quiet(quiet)


QUIET = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_set_quiet,
    help="Print errors only; the results still go to stdout.",
)


def _set_verbose(context: click.Context, option: click.Parameter, verbose: bool) -> bool:
    console.set_verbose(verbose)
    return verbose


VERBOSE = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbose,
    help="Print how each burst is denoised: settings, shift, brightness and agreement of each "
    "frame, noise, precision, and time of each stage.",
)
LOG = click.option(
    "--log",
    type=FilePath(dir_okay=False, path_type=Path),
    help="Append all that --verbose prints to a file, with the time, also with --quiet.",
)
JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print the results as one JSON document on stdout."
)
#: Text, not paths: `inputs.raws` tells ./@x from @x.
PATHS = click.argument("paths", nargs=-1, required=True, type=FilePath())
PHOTOS = click.argument("photos", nargs=-1, required=True, type=FilePath(), callback=inputs.photos)
