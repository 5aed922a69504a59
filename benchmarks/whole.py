"""Time of `kpn denoise` as a whole: `python benchmarks/whole.py [megapixels] [frames]`.

Makes a burst from an enlarged bundled picture, denoises it in new processes, and prints the time
by stage, that of the whole process, and its peak memory. The time depends on the machine: compare
ratios within one run. With `--against FOLDER`, another checkout of kpn denoises the same burst in
turn, and the ratios are printed. What follows `--` are options of `kpn denoise`. `memory.py`
measures memory by size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import psutil
from skimage import data

from kpn_cli.synthesis.demo import write_demo_burst
from kpn_cli.synthesis.photos import scene_from_srgb

#: The checkout that this script is in.
HERE = Path(__file__).resolve().parents[1]
#: What is measured of a run besides its stages.
WHOLE, PROCESS, CPU, MEMORY = "all stages", "process", "CPU time", "peak MiB"


def make_burst(folder: Path, megapixels: float, frames: int) -> list[Path]:
    """Write a burst of a size in megapixels; return its files."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5) * 2 + 64
    size = (int(1.5 * height), height)
    photo = cv2.resize(data.coffee(), size, interpolation=cv2.INTER_CUBIC)
    # The enlarged picture is smooth; added texture lets the aligner work as on photos.
    grain = np.random.default_rng(0).normal(0, 6, photo.shape[:2]).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 1.5)[..., None] * 4
    photo = np.clip(photo + grain, 0, 255).astype(np.uint8)
    return write_demo_burst(scene_from_srgb("coffee", photo), folder, frames=frames)[0]


def run_kpn(
    checkout: Path, arguments: list[object]
) -> tuple[dict[str, object], float, float, float]:
    """Run the `kpn` of a checkout with `--json`.

    Returns:
        Its document, the seconds of the whole process, those of all cores that it used, and the
        peak memory of it and its children together in MiB.
    """
    command = [sys.executable, "-m", "kpn_cli", *map(str, arguments), "--json"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    start, cpu = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryFile() as out:
        run = psutil.Popen(
            command, stdout=out, stderr=subprocess.PIPE, env=environment, cwd=checkout
        )
        most = 0
        while run.poll() is None:
            try:
                tree = [run, *run.children(recursive=True)]
                most = max(most, sum(process.memory_info().rss for process in tree))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.01 if time.perf_counter() - start < 10 else 0.04)
        seconds = time.perf_counter() - start
        if run.returncode:
            sys.exit(run.stderr.read().decode())
        out.seek(0)
        return json.load(out), seconds, cpu_seconds() - cpu, most / 2**20


def cpu_seconds() -> float:
    """Return the time of all cores that ended child processes have used, theirs included."""
    times = os.times()
    return times.children_user + times.children_system


def measure(
    checkout: Path, files: list[Path], folder: Path, options: list[str]
) -> dict[str, float]:
    """Denoise a burst once; return seconds by stage, of all and of the process, and its memory."""
    command = ["denoise", *files, "-o", folder, "--overwrite", *options]
    document, seconds, cpu, memory = run_kpn(checkout, command)
    (burst,) = document["bursts"]
    return burst["timings"] | {WHOLE: burst["seconds"], PROCESS: seconds, CPU: cpu, MEMORY: memory}


def print_table(runs: dict[str, list[dict[str, float]]]) -> None:
    """Print the best and the median of runs by their names, and ratios to the last name's."""
    first, *others = runs
    print(f"{'':16}" + "".join(f"{name:>18}" for name in runs) + ("   ratio" if others else ""))
    for stage in runs[first][0]:
        columns, best = "", []
        for rounds in runs.values():
            values = [each.get(stage, 0.0) for each in rounds]
            best.append((min(values), median(values)))
            digits = 0 if stage == MEMORY else 2
            columns += f"{min(values):10.{digits}f}{median(values):8.{digits}f}"
        ratio = ""
        if others and best[-1][0]:
            ratio = f"{best[0][0] / best[-1][0]:8.2f}{best[0][1] / best[-1][1]:6.2f}"
        print(f"{stage:16}{columns}{ratio}")


def main() -> None:
    """Run the benchmark and print its table: best and median."""
    parser = argparse.ArgumentParser(description="Time of kpn denoise as a whole.")
    parser.add_argument("megapixels", type=float, nargs="?", default=12)
    parser.add_argument("frames", type=int, nargs="?", default=8)
    parser.add_argument("--against", type=Path, help="another checkout, run in turn")
    parser.add_argument("--rounds", type=int, default=3)
    arguments, options = parser.parse_known_args()
    options = [option for option in options if option != "--"]
    checkouts = {"here": HERE}
    if arguments.against is not None:
        checkouts["against"] = arguments.against.resolve()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as name:
        files = make_burst(Path(name), arguments.megapixels, arguments.frames)
        for number in range(arguments.rounds):
            # Each goes first in turn: what runs second may find caches warm, or a slower clock.
            order = list(checkouts) if number % 2 == 0 else list(checkouts)[::-1]
            for key in order:
                runs[key].append(measure(checkouts[key], files, Path(name) / "out", options))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{arguments.megapixels:g} megapixels x {arguments.frames}, {arguments.rounds} rounds, "
          f"load {load:.1f}: best and median, seconds")  # fmt: skip
    print_table(runs)


if __name__ == "__main__":
    main()
