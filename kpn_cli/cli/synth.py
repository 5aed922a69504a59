"""`kpn synth`: photos -> a data set of noisy bursts with their ground truth."""

from __future__ import annotations

from pathlib import Path

import click

from ..choices import DATASET_FORMATS, DATASET_GAINS, RANDOM_GAIN
from . import console
from .options import PHOTOS, QUIET


@click.command()
@PHOTOS
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the data set; one that was begun there is gone on with.",
)
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="Bursts.")
@click.option(
    "--frames", type=click.IntRange(1), default=8, show_default=True, help="Frames of a burst."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(DATASET_FORMATS),
    default="dng",
    show_default=True,
    help="Folders of DNG files with their truth, or tar files of training patches.",
)
@click.option(
    "--gain",
    type=click.Choice(DATASET_GAINS),
    default=RANDOM_GAIN,
    show_default=True,
    help="Noise level of the evaluation protocol, or any camera's at any ISO.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Fixes every byte."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@QUIET
def synth(
    *,
    photos: tuple[Path, ...],
    output: Path,
    count: int,
    frames: int,
    form: str,
    gain: str,
    seed: int,
    workers: int,
) -> None:
    """Make a data set of noisy bursts, with their truth, from ordinary photos."""
    from ..synthesis import dataset
    from ..synthesis.photos import find_photos, readable_photos

    config = dataset.DatasetConfig(count, frames, form, gain, seed)
    with console.bar("photos", len(find_photos(photos))) as move:
        usable = readable_photos(
            photos, at_least=config.photo_pixels, on_photo=move, on_skip=console.note
        )
    with console.bar("writing", config.part_count) as move:
        dataset.write_dataset(usable, output, config, workers=workers, on_part=lambda path: move())
    is_in = "burst is" if config.count == 1 else "bursts are"
    console.note(f"{config.count} {is_in} in {output}")
    console.print_path(output)
