"""Time that kpn takes to start: `python benchmarks/startup.py [ROUNDS]`.

Runs new processes in turn and prints the best and the median of each, and two ratios: that of
`kpn --help` to Python that does nothing, and that of a tiny burst (4 frames of 0.05 megapixels) to
the import of PyTorch. Compare ratios: seconds depend on the machine and on what else it does.
`--against FOLDER` measures another checkout of kpn in the same rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from whole import HERE, make_burst

#: Shapes of the tiny burst.
_MEGAPIXELS, _FRAMES = 0.05, 4


def seconds(arguments: list[str], checkout: Path) -> float:
    """Return the time of a Python process that imports kpn from a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main(rounds: int, checkouts: list[Path]) -> None:
    """Measure in turn, and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [str(file) for file in make_burst(folder / "burst", _MEGAPIXELS, _FRAMES)]
        tiny = ["-m", "kpn_cli", "denoise", *files, "-o", str(folder / "out"), "--overwrite"]
        commands = {
            "python -c pass": ["-c", "pass"],
            "kpn --help": ["-m", "kpn_cli", "--help"],
            "import torch": ["-c", "import torch"],
            "tiny burst": tiny,
        }
        times: dict[tuple[Path, str], list[float]] = {}
        for turn in range(rounds + 1):
            for checkout in checkouts:
                for command, arguments in commands.items():
                    taken = seconds(arguments, checkout)
                    if turn:  # the first round fills the caches
                        times.setdefault((checkout, command), []).append(taken)
    for checkout in checkouts:
        print(checkout)
        of = {command: times[checkout, command] for command in commands}
        for command, taken in of.items():
            print(f"  {command:16} best {min(taken):6.3f} s  median {median(taken):6.3f} s")
        for command, base in (("kpn --help", "python -c pass"), ("tiny burst", "import torch")):
            best, middle = (kind(of[command]) / kind(of[base]) for kind in (min, median))
            print(f"  {command} / {base}: best {best:.2f}, median {middle:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=7)
    parser.add_argument("--against", type=Path, help="another checkout of kpn")
    given = parser.parse_args()
    main(given.rounds, [HERE, *filter(None, [given.against])])
