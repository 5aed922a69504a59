"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the network runs.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the network; auto is bf16 where the hardware has it.",
)
WEIGHTS = click.option(
    "--weights",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Weight file; default: the network that ships with kpn.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
PHOTOS = click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
