"""`kpn demo`: a synthetic burst is denoised and shown beside its ground truth."""

from __future__ import annotations

from pathlib import Path

import click

from ..choices import GAINS
from . import console
from .options import DEVICE, QUIET, WEIGHTS
from .startup import swift_imports


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="demo",
    show_default=True,
    help="Folder of the burst and the results.",
)
@click.option(
    "--gain",
    type=click.Choice(GAINS),
    default="2",
    show_default=True,
    help="Noise level.",
)
@DEVICE
@WEIGHTS
@QUIET
def demo(output: Path, gain: str, device: str, weights: Path | None) -> None:
    """Make a noisy burst from a bundled picture, denoise it, show before and after."""
    with swift_imports():
        from ..output.develop import develop
        from ..pipeline import denoise
        from ..pipeline.options import Options
        from ..raw.reader import read_info, read_planes
        from ..synthesis import demo as demonstration

    scene = demonstration.bundled_scene()
    frames, truth = demonstration.write_demo_burst(scene, output / "burst", gain=int(gain))
    console.note(f"burst       {len(frames)} frames in {output / 'burst'}")
    options = Options(
        output / "denoised", reference="first", device=device, weights=weights, overwrite=True
    )
    result = denoise.denoise(frames, options)
    console.show_result(result)
    shown = []
    for path in (frames[0], result.outputs["dng"], truth):
        found = read_info(path)
        shown.append(develop(found, read_planes(found), linear=True))
    picture = output / "before_after_truth.png"
    demonstration.write_comparison(picture, shown)
    console.note("before, after and truth, side by side:")
    console.print_path(picture)
