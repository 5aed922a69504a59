"""What was repaired in a burst."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass


@dataclass(frozen=True)
class Repaired:
    """What was repaired in a burst, in numbers of samples or lines of one frame.

    Attributes:
        marked: samples that the files mark.
        listed: samples of the camera's list.
        found: other samples.
        columns, rows: defective columns and rows, or parts of them.
    """

    marked: int = 0
    listed: int = 0
    found: int = 0
    columns: int = 0
    rows: int = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(asdict(self).values())

    def most(self, other: Repaired) -> Repaired:
        """Return the larger of each number: frames of other exposure show the same defects."""
        return Repaired(*map(max, astuple(self), astuple(other)))

    def in_words(self) -> str:
        """Return the numbers as text for the user: "1 pixel (found) and 2 columns"."""
        kinds = {"marked by the file": self.marked, "listed": self.listed, "found": self.found}
        sources = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if number)
        pixels = sum(kinds.values())
        parts = [f"{_count(pixels, 'pixel')} ({sources})"] if pixels else []
        lines = ((self.columns, "column"), (self.rows, "row"))
        parts += [_count(number, name) for number, name in lines if number]
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
