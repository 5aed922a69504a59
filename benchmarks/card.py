"""Seconds a burst of a whole card: `python benchmarks/card.py [megapixels] [frames] [bursts]`.

Denoises one burst alone, then several in one run, and prints the seconds a burst. With one core
too, where the system can bind a process to it. With `--against FOLDER`, another checkout of kpn
does the same in turn. What else is given are options of `kpn denoise`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import psutil
from whole import CPU, HERE, MEMORY, PROCESS, make_burst, print_table, run_kpn


def copies(files: list[Path], folder: Path, number: int) -> list[Path]:
    """Return folders with a burst each: equal pictures, but files of their own."""
    folders = []
    for index in range(number):
        folders.append(folder / f"burst{index:02}")
        folders[-1].mkdir()
        for file in files:
            # Bytes after the end of a TIFF change nothing; without them, the outputs of one burst
            # would have the fingerprint of the other.
            copy = folders[-1] / f"{file.stem}_{index:02}.dng"
            shutil.copyfile(file, copy)
            with copy.open("ab") as stream:
                stream.write(b"%4d" % index)
    return folders


def measure(
    checkout: Path, folders: list[Path], output: Path, options: list[str]
) -> dict[str, float]:
    """Denoise bursts in one run; return the seconds a burst, and the peak memory."""
    command = ["denoise", *folders, "-o", output, "--overwrite", "--no-group", *options]
    document, seconds, cpu, memory = run_kpn(checkout, command)
    number = len(document["bursts"])
    if number != len(folders):
        raise SystemExit(f"{number} of {len(folders)} bursts were denoised: {document['failed']}")
    return {PROCESS: seconds / number, CPU: cpu / number, MEMORY: memory}


def bind(cores: set[int]) -> None:
    """Bind this process to cores, where the system can; an empty set changes nothing."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def main() -> None:
    """Run the benchmark and print its tables: best and median."""
    parser = argparse.ArgumentParser(description="Seconds a burst of a whole card.")
    parser.add_argument("megapixels", type=float, nargs="?", default=12)
    parser.add_argument("frames", type=int, nargs="?", default=8)
    parser.add_argument("bursts", type=int, nargs="?", default=20)
    parser.add_argument("--against", type=Path, help="another checkout, run in turn")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--one-core", action="store_true", help="measure with one core too")
    arguments, options = parser.parse_known_args()
    checkouts = {"here": HERE}
    if arguments.against is not None:
        checkouts["against"] = arguments.against.resolve()
    kinds = {"alone": 1, f"{arguments.bursts} in a row": arguments.bursts}
    every = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    cores = {"": every} | ({" on one core": {min(every)}} if arguments.one_core and every else {})
    with tempfile.TemporaryDirectory() as name:
        files = make_burst(Path(name) / "burst", arguments.megapixels, arguments.frames)
        folders = copies(files, Path(name), arguments.bursts)
        for where, bound in cores.items():
            bind(bound)  # the processes that it starts inherit it
            for kind, number in kinds.items():
                runs: dict[str, list[dict[str, float]]] = {key: [] for key in checkouts}
                for _ in range(arguments.rounds):
                    for key, checkout in checkouts.items():
                        output = Path(name) / "out"
                        runs[key].append(measure(checkout, folders[:number], output, options))
                what = f"{arguments.megapixels:g} megapixels x {arguments.frames}, {kind}{where}"
                load = psutil.getloadavg()[0]
                print(f"{what}, load {load:.1f}: seconds a burst, best and median")
                print_table(runs)
        bind(every)


if __name__ == "__main__":
    main()
