"""Types of options' values: Click's, with errors in plain words, in any case of letters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias, TypeVar

import click

_Range: TypeAlias = click.FloatRange | click.IntRange
N = TypeVar("N", int, float)


class FloatRange(click.FloatRange):
    """A finite number in a range; Click's own lets "nan" and "inf" pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Return the number; a usage error if it is none or out of range."""
        number = math.nan
        with suppress(ValueError):
            number = float(value)
        if math.isnan(number) or (math.isinf(number) and self.max is None):
            _refuse(self, "a number", value)
        return _checked(self, "a number", number)


class IntRange(click.IntRange):
    """A whole number in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Return the number; a usage error if it is none or out of range."""
        try:
            number = int(value)
        except ValueError:
            _refuse(self, "a whole number", value)
        return _checked(self, "a whole number", number)


def _refuse(span: _Range, noun: str, given: object) -> NoReturn:
    """Raise the usage error about a text that is no such number."""
    hint = ""
    with suppress(ValueError):
        float(str(given).replace(",", "."))
        hint = "; write a decimal point, no comma" if "," in str(given) else ""
    raise click.BadParameter(f"{str(given)!r} is not {noun}{hint}; give {_wanted(span, noun)}")


def _checked(span: _Range, noun: str, number: N) -> N:
    """Return a number that is in a range; a usage error if it is not."""
    low, high = span.min, span.max
    below = low is not None and (number <= low if span.min_open else number < low)
    above = high is not None and (number >= high if span.max_open else number > high)
    if below or above:
        raise click.BadParameter(f"{number:g} is out of range; give {_wanted(span, noun)}")
    return number


def _wanted(span: _Range, noun: str) -> str:
    """Return what to give, in words: "a number from 0 to 4", "a whole number, 1 or more"."""
    low, high = span.min, span.max
    if low is None:
        return noun
    if high is None:
        return f"{noun} above {low:g}" if span.min_open else f"{noun}, {low:g} or more"
    start = "above" if span.min_open else "from"
    return f"{noun} {start} {low:g} {'and below' if span.max_open else 'to'} {high:g}"


class Choice(click.Choice):  # type: ignore[type-arg]  # not generic before Click 8.2
    """One of several words, in upper or lower case."""

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(choices, case_sensitive=False)

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> str:
        """Return the word as it is listed; a usage error if it is none of them."""
        for choice in self.choices:
            if str(value).lower() == str(choice).lower():
                return str(choice)
        *others, last = map(str, self.choices)
        raise click.BadParameter(f"{value!r} is unknown; choose {', '.join(others)} or {last}")


class FilePath(click.Path):
    """The name of a file or folder; Click's own takes "" for the current folder.

    An empty name is a variable of a script that is not set, as in `kpn denoise "$CARD"`.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Any:
        """Return the path, of the type that is asked for; a usage error if the name is empty."""
        if value == "":
            raise click.BadParameter("the name is empty; the current folder is .")
        return super().convert(value, param, context)
