"""Options of `kpn denoise` for small pictures: a part at several strengths, and a small JPEG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..choices import JPEG_QUALITY, MAX_STRENGTH, MIN_CROP, MIN_JPEG_SIZE
from .values import FloatRange, IntRange

if TYPE_CHECKING:
    from ..pipeline.comparison import Comparison

#: Most values of a list, so that the picture stays one that can be looked at.
_MAX_VALUES = 8
_DECIMALS = "a comma separates values, decimals have a point (0.5)"


class _Numbers(FloatRange):
    """Numbers in a range, separated by commas: a tuple without those that come twice."""

    name = "float list"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the numbers; a usage error if there are none, too many, or one is no number."""
        if isinstance(value, (tuple, list)):  # converted already, or from a file of defaults
            value = ",".join(map(str, value))
        parts = str(value).split(",")
        if len(parts) > _MAX_VALUES:
            self.fail(
                f"{len(parts)} values are too many; give up to {_MAX_VALUES}.", param, context
            )
        convert = super().convert
        try:
            return tuple(dict.fromkeys(convert(part.strip(), param, context) for part in parts))
        except click.BadParameter as error:
            if len(parts) > 1:
                self.fail(f"{error.message}; {_DECIMALS}", param, context)
            raise


def _parse_crop(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            "give four whole numbers, X,Y,W,H, such as 1200,800,600,400"
        ) from None
    if min(x, y) < 0 or min(width, height) < MIN_CROP:
        raise click.BadParameter(f"X and Y begin at 0, and W and H at {MIN_CROP}")
    return x, y, width, height


STRENGTHS = click.option(
    "--strength",
    type=_Numbers(0, MAX_STRENGTH),
    metavar="NUMBER[,NUMBER...]",
    default="1",
    show_default=True,
    help="How strongly to denoise, from 0 to 4: multiplies the noise sigma given to the network. "
    "Below 1 keeps more grain; above 1 removes more noise, at some cost in fine texture; 0 returns "
    "the reference and repairs only its defective pixels. With --crop, several values.",
)
GRAINS = click.option(
    "--grain",
    type=_Numbers(0, 1),
    metavar="NUMBER[,NUMBER...]",
    default="0",
    show_default=True,
    help="Give back this share of the reference's noise as grain, from 0 to 1: of its brightness "
    "only, without its specks of colour. With --crop, several values.",
)
CROP = click.option(
    "--crop",
    metavar="X,Y,W,H",
    callback=_parse_crop,
    help="Write only a picture of this part, W x H pixels whose top left corner is X,Y in the "
    "upright picture: the reference and each --strength and --grain side by side, in seconds. A "
    "PNG; with --format jpeg, a JPEG.",
)
JPEG_QUALITY_OPTION = click.option(
    "--jpeg-quality",
    type=IntRange(1, 100),
    default=JPEG_QUALITY,
    show_default=True,
    help="Quality of the JPEG, 1 to 100; 80 takes about a third of the bytes.",
)
JPEG_SIZE_OPTION = click.option(
    "--jpeg-size",
    type=IntRange(MIN_JPEG_SIZE),
    metavar="PIXELS",
    help="Longer side of the JPEG, to which larger pictures are reduced. Default: full size.",
)


def check_one_value(option: str, values: tuple[float, ...]) -> None:
    """Check that a list has one value, as it must without --crop.

    Raises:
        click.UsageError: if there are several.
    """
    if len(values) > 1:
        raise click.UsageError(
            f"{option} takes several values only with --crop, which shows them side by side; "
            + _DECIMALS
        )


def make_comparison(
    part: tuple[int, int, int, int],
    strengths: tuple[float, ...],
    grains: tuple[float, ...],
    formats: tuple[str, ...],
    jpeg_quality: int,
) -> Comparison:
    """Return what the options ask to compare.

    Args:
        part: `--crop`.
        strengths, grains: of `--strength` and `--grain`.
        formats: of `--format`; its default stands for a PNG.
        jpeg_quality: of a JPEG.

    Raises:
        click.UsageError: if an option does not go with --crop.
    """
    context = click.get_current_context()
    given = context.get_parameter_source("formats") is ParameterSource.COMMANDLINE
    if given and formats != ("jpeg",):
        raise click.UsageError("--crop writes a PNG, or with --format jpeg a JPEG")
    for name in ("report", "jpeg_size"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--crop and --{name.replace('_', '-')} exclude each other")
    from ..pipeline.comparison import Comparison, Part

    jpeg = formats == ("jpeg",)
    return Comparison(Part(*part), strengths, grains, jpeg, jpeg_quality)
