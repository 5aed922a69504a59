"""The option --ev: exposures of a bracket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..errors import KpnError


def _parse(context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    from ..synthesis.brackets import check_evs

    try:
        evs = tuple(float(part) for part in text.split(","))
        check_evs(evs)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no list of exposures; give numbers of EV, such as -2,0,2"
        ) from None
    except KpnError as error:
        raise click.BadParameter(str(error)) from None
    return evs


def ev_option(text: str) -> Callable[[Any], Any]:
    """Return the option --ev: a tuple of exposures in EV, checked; () unless it is given.

    Args:
        text: its help.
    """
    return click.option("--ev", callback=_parse, metavar="EV,EV,...", help=text)
