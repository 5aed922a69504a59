"""The files that a command works on: from its arguments, with patterns and lists of names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import KpnError, read_error
from ..system.distributed import launched
from . import console

if TYPE_CHECKING:
    from ..pipeline.result import Failure


@dataclass(frozen=True)
class Inputs:
    """Files and folders to work on.

    Attributes:
        paths: files and folders, without the files that are no raw photos by their names.
        errors: patterns that match nothing and names in lists that do not exist, with the error.
        no_raws: files that were named but are no raw photos by their names.
    """

    paths: tuple[Path, ...]
    errors: dict[Path, KpnError] = field(default_factory=dict)
    no_raws: tuple[Path, ...] = ()

    @property
    def failures(self) -> list[Failure]:
        """The errors, as a batch reports them."""
        from ..pipeline.result import Failure

        return [Failure((path,), str(error)) for path, error in self.errors.items()]

    def complete(self) -> list[Path]:
        """Return the paths.

        Raises:
            KpnError: if there are errors.
        """
        for error in self.errors.values():
            raise error
        return list(self.paths)

    def tell(self) -> None:
        """Say in one line which files are left out because they are no raw photos."""
        if self.no_raws:
            from ..burst.other_files import counted

            if len(self.no_raws) == 1:
                console.note(f"skipped {self.no_raws[0]}: no raw photo by its name")
                return
            number = console.count(len(self.no_raws), "file")
            console.note(f"skipped {number} that are no raw photos: {counted(self.no_raws)}")


def raws(arguments: Sequence[str]) -> Inputs:
    """Return the raw files and folders that arguments stand for.

    Raises:
        KpnError: if a list cannot be read, or no file could be a raw photo by its name.
    """
    from ..burst.other_files import counted, is_no_raw

    paths, errors = _expanded(arguments)
    no_raws = tuple(
        path for path in dict.fromkeys(paths) if is_no_raw(path) and os.path.isfile(path)
    )
    skipped = set(no_raws)
    chosen = tuple(path for path in paths if path not in skipped)
    if not chosen and not errors:
        there = f"{counted(no_raws)} named" if no_raws else "the list is empty"
        raise KpnError(f"no raw files ({there}; kpn needs the camera's raw files)")
    return Inputs(chosen, errors, no_raws)


def photos(
    context: click.Context, argument: click.Parameter, texts: Sequence[str]
) -> tuple[Path, ...]:
    """Return the photos and folders that arguments stand for; a callback of Click's.

    Raises:
        KpnError: if a list cannot be read, or something in it does not exist.
    """
    return tuple(Inputs(*_expanded(texts)).complete())


def training_data(
    context: click.Context, argument: click.Parameter, texts: Sequence[str]
) -> tuple[Path, ...]:
    """Return what `photos` does; of shards on a server, the files that they are fetched to.

    Raises:
        KpnError: as there, or if a shard cannot be fetched.
    """
    if not any("://" in text for text in texts):  # without the imports that follow
        return photos(context, argument, texts)
    from ..synthesis import remote_shards

    urls = remote_shards.expand_urls([text for text in texts if remote_shards.is_remote(text)])
    local = [text for text in texts if not remote_shards.is_remote(text)]
    with console.bar("fetching shards", len(urls)) as move:
        fetched = remote_shards.fetch(urls, move)
    return (*(photos(context, argument, local) if local else ()), *fetched)


def _expanded(arguments: Sequence[str]) -> tuple[tuple[Path, ...], dict[Path, KpnError]]:
    from ..burst.arguments import expand

    if arguments.count("-") > 1:
        raise click.UsageError("- reads standard input to its end; give it once")
    if "-" in arguments and launched("WORLD_SIZE", 1) > 1:
        raise click.UsageError("several processes cannot share standard input; give @list.txt")
    paths, errors = expand(arguments, _read_stdin)
    return tuple(paths), errors


def _read_stdin(most: int) -> bytes:
    if sys.stdin is None:  # of a program without a console
        raise KpnError("-: there is no standard input; give @list.txt")
    try:
        if sys.stdin.isatty():
            console.note("reading file names, one a line, until Ctrl-D (Windows: Ctrl-Z, Enter)")
        return sys.stdin.buffer.read(most)
    except (OSError, ValueError) as error:
        raise read_error(Path("-"), error, "give @list.txt") from None
