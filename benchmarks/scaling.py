"""Cost by size and by frames: `python benchmarks/scaling.py [MP,MP,...] [FRAMES,...] [ROUNDS]`.

Denoises bursts of 8 frames of each size, and bursts of each number of frames at 12 megapixels, to a
DNG, in two rounds or as many as given. Prints the best time per megapixel, in seconds and relative
to the burst of 8 x 12 megapixels. Compare the ratios.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from whole import make_burst

from kpn_cli.pipeline import denoise
from kpn_cli.pipeline.denoise import Engine
from kpn_cli.pipeline.options import Options

SIZES, COUNTS = (1, 3, 12, 48, 100), (1, 2, 4, 8, 16)
COMMON = (12, 8)


def cost(engine: Engine, megapixels: float, frames: int) -> float:
    """Return the time per megapixel of the picture, in seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_burst(folder / "burst", megapixels, frames)
        options = Options(folder / "out", formats=("dng",), overwrite=True)
        return denoise.denoise(files, options, engine).seconds / megapixels


def main(sizes: list[float], counts: list[int], rounds: int) -> None:
    """Measure and print."""
    engine = Engine(Options())
    pairs = list(dict.fromkeys([COMMON, *((s, 8) for s in sizes), *((12, c) for c in counts)]))
    found: dict[tuple[float, int], float] = {}
    for _ in range(rounds):
        for pair in pairs:
            found[pair] = min(found.get(pair, float("inf")), cost(engine, *pair))
    for (megapixels, frames), seconds in found.items():
        ratio = seconds / found[COMMON]
        print(f"{megapixels:g} megapixels x {frames}: {seconds:.2f} s per megapixel, {ratio:.2f}")


if __name__ == "__main__":
    lists = [argument.split(",") for argument in sys.argv[1:]]
    main(
        [float(part) for part in lists[0]] if lists else list(SIZES),
        [int(part) for part in lists[1]] if lists[1:] else list(COUNTS),
        int(lists[2][0]) if lists[2:] else 2,
    )
