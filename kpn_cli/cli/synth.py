"""`kpn synth`: make a data set of noisy bursts with ground truth from photos."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from ..choices import DATASET_FORMATS, DATASET_GAINS, RANDOM_GAIN
from . import console
from .cluster import DASK, cluster_at
from .exposure_list import ev_option
from .options import PHOTOS, QUIET, Choice, IntRange
from .values import FilePath


@click.command()
@PHOTOS
@click.option(
    "-o",
    "--output",
    required=True,
    type=FilePath(file_okay=False, path_type=Path),
    help="Folder of the data set. An unfinished data set of the same options is continued.",
)
@click.option("--count", type=IntRange(1), default=100, show_default=True, help="Number of bursts.")
@click.option("--frames", type=IntRange(1), default=8, show_default=True, help="Frames per burst.")
@click.option(
    "--format",
    "form",
    type=Choice(DATASET_FORMATS),
    default="dng",
    show_default=True,
    help="dng writes a folder of DNG files per burst, with the ground truth, to try kpn denoise "
    "on; shards writes tar files of patches for kpn train.",
)
@click.option(
    "--gain",
    type=Choice(DATASET_GAINS),
    default=RANDOM_GAIN,
    show_default=True,
    help="Noise level of all bursts, as in kpn eval; or random, to draw a camera and an ISO for "
    "each burst.",
)
@ev_option(
    "Exposures of each burst's frames in EV, such as -2,0,2, in turn from 0 EV (or the first) on: "
    "brackets by exposure time, with inexact shutters and shake. The truth has the exposure of the "
    "first frame. Default: equal exposures."
)
@click.option(
    "--seed",
    type=IntRange(0),
    default=0,
    show_default=True,
    help="Random seed; the same seed and photos give the same bytes.",
)
@click.option(
    "--workers",
    type=IntRange(1),
    default=1,
    show_default=True,
    help="Number of processes that make bursts in parallel.",
)
@DASK
@QUIET
def synth(
    *,
    photos: tuple[Path, ...],
    output: Path,
    count: int,
    frames: int,
    form: str,
    gain: str,
    ev: tuple[float, ...],
    seed: int,
    workers: int,
    dask: str | None,
) -> None:
    """Make noisy raw bursts with ground truth from ordinary photos.

    PHOTOS are JPEG, PNG, TIFF or similar files, or folders that contain them.
    """
    if dask is not None and workers > 1:
        raise click.UsageError("--workers and --dask exclude each other; give one of them")
    from ..synthesis import dataset
    from ..synthesis.photos import find_photos, readable_photos

    config = dataset.DatasetConfig(count, frames, form, gain, seed, ev)
    config.check_installed()
    with console.bar("reading photos", len(find_photos(photos))) as move:
        usable = readable_photos(
            photos, at_least=config.photo_pixels, on_photo=move, on_skip=console.note
        )
    try:
        with (
            cluster_at(dask, threads=1) as cluster,
            console.bar("writing", config.part_count) as move,
        ):
            write = None
            if cluster is not None:
                from ..synthesis.on_cluster import write_parts

                write = partial(write_parts, cluster, usable, output, config, tell=console.note)
            dataset.write_dataset(
                usable,
                output,
                config,
                workers=workers,
                write=write,
                on_part=lambda path: move(),
            )
    except KeyboardInterrupt:
        console.note("interrupted; run the same command again to continue")
        sys.exit(console.INTERRUPTED)
    console.note(f"{output} holds {console.count(config.count, 'burst')}")
    console.print_path(output)
