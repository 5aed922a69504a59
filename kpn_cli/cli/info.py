"""`kpn info`: what raw files say about camera, CFA, levels, exposure and noise."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import KpnError
from . import console, documents
from .options import JSON

if TYPE_CHECKING:
    from ..noise.selection import NoiseReport
    from ..raw.decoder_process import Decoder
    from ..raw.info import RawInfo


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@JSON
def info(files: tuple[Path, ...], as_json: bool) -> None:
    """Show what raw files say: camera, CFA, levels, exposure, noise."""
    from ..raw.decoder_process import Decoder

    rows, failed = [], []
    with Decoder() as decoder:
        for path in files:
            try:
                rows.append(documents.info_json(*_info_and_noise(decoder, path)))
            except KpnError as error:
                failed.append({"file": str(path), "error": str(error)})
    if as_json:
        click.echo(json.dumps({"files": rows, "failed": failed}, indent=2))
    else:
        for row in rows:
            console.show_info(row)
        for failure in failed:
            console.complain(f"kpn: {failure['error']}")
    if failed:
        sys.exit(1)


def _info_and_noise(decoder: Decoder, path: Path) -> tuple[RawInfo, NoiseReport | None]:
    from ..noise.selection import NoiseReport, noise_of_file

    found = decoder.info(path)
    if found.noise_profile is not None and all(found.noise_profile.read):
        return found, NoiseReport("profile", found.noise_profile)
    try:
        return found, noise_of_file(*decoder.planes(path))
    except KpnError:  # blank, or too small
        return found, None
