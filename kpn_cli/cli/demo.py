"""`kpn demo`: denoise a synthetic burst and compare the result with its ground truth."""

from __future__ import annotations

from pathlib import Path

import click

from ..choices import GAINS
from . import console
from .options import DEVICE, QUIET, WEIGHTS, Choice
from .startup import no_gc_imports
from .values import FilePath


@click.command()
@click.option(
    "-o",
    "--output",
    type=FilePath(file_okay=False, path_type=Path),
    default="demo",
    show_default=True,
    help="Folder for the burst and the results.",
)
@click.option(
    "--gain",
    type=Choice(GAINS),
    default="2",
    show_default=True,
    help="Noise level of the burst; a higher gain is noisier.",
)
@DEVICE
@WEIGHTS
@QUIET
def demo(output: Path, gain: str, device: str, weights: Path | None) -> None:
    """Try kpn on a synthetic burst.

    Makes a noisy burst from a bundled picture, denoises it and writes a side-by-side comparison:
    noisy frame, result, ground truth.
    """
    with no_gc_imports():
        from ..output.develop import develop
        from ..pipeline import denoise
        from ..pipeline.options import Options
        from ..raw.reader import read_info, read_planes
        from ..synthesis import demo as demonstration

    scene = demonstration.bundled_scene()
    frames, truth = demonstration.write_demo_burst(scene, output / "burst", gain=int(gain))
    console.note(f"burst       {console.count(len(frames), 'frame')} in {output / 'burst'}")
    options = Options(
        output / "denoised", reference="first", device=device, weights=weights, overwrite=True
    )
    result = denoise.denoise(frames, options)
    console.show_result(result)
    infos = [read_info(path) for path in (frames[0], result.outputs["dng"], truth)]
    pictures = [develop(info, read_planes(info), linear=True) for info in infos]
    comparison = output / "before_after_truth.png"
    demonstration.write_comparison(comparison, pictures)
    console.note("comparison: noisy frame, result, ground truth")
    console.print_path(comparison)
