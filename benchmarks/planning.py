"""Time and memory of plans: `python benchmarks/planning.py [--against FOLDER]`.

Writes small raws with their own capture times and numbers, in bursts of four and folders of 200:
2,000 files, and ten times as many. Plans both with `kpn denoise --dry-run --json` in new processes:
without a cache of what was read, filling it, and from it. Prints the best seconds of the rounds,
the CPU time for each file, decoders included, and the peak memory of kpn without its decoders; and
the ratios of the large plan to the small one. A start-up, measured with an empty plan, is taken
off the times. Compare the ratios: seconds depend on the machine and on what else it does, CPU time
does so less. `--against FOLDER` measures another checkout of kpn in the same rounds; one without
`--no-cache` has one kind of plan.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from whole import HERE, cpu_seconds

from kpn_cli.output import dng_tags, dng_writer

#: Files in a folder and in a burst, and folders of the small and the large plan.
_FILES, _FRAMES, _FOLDERS = 200, 4, {"small": 10, "large": 100}
_START = datetime(2026, 5, 6)
_TEMPLATE_TIME = _START + timedelta(hours=12, microseconds=123400)
#: Seconds for which kpn takes files for unsettled, and keeps nothing of them.
_SETTLE = 4
#: How often the start-up and the small plan are measured, for the least.
_TIMES = 3


def template(folder: Path) -> bytes:
    """Return the bytes of a small raw taken at `_TEMPLATE_TIME`."""
    tags = dng_tags.DngTags(
        "RGGB", (64.0,) * 4, 1023, make="Canikon", model="X1", iso=800.0, exposure_time=0.01,
        captured=_TEMPLATE_TIME,
    )  # fmt: skip
    path = folder / "template.dng"
    dng_writer.write_cfa_dng(path, np.full((32, 32), 500, np.uint16), tags)
    return path.read_bytes()


def write_card(card: Path, folders: int, raw: bytes) -> None:
    """Write the files of a card: a burst every 30 seconds, frames 0.1 seconds apart."""
    for number in range(folders * _FILES):
        burst, frame = divmod(number, _FRAMES)
        at = _START + timedelta(seconds=30 * burst + 0.1 * frame + 0.05)
        data = raw
        for form in ("%Y:%m:%d %H:%M:%S", "%f\0"):
            data = data.replace(_TEMPLATE_TIME.strftime(form).encode(), at.strftime(form).encode())
        folder = card / f"{100 + number // _FILES}CANIK"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"IMG_{number:05d}.dng").write_bytes(data)


class Cost(NamedTuple):
    """Of a plan: seconds, those of all cores, and peak MiB of kpn without its children."""

    seconds: float
    cpu: float
    memory: float

    def best(self, other: Cost) -> Cost:
        """Return the lowest costs of two plans."""
        return Cost(*map(min, self, other))


def plan(checkout: Path, card: Path, cache: Path, options: Sequence[str] = ()) -> Cost:
    """Plan a card and check the number of bursts."""
    command = [sys.executable, "-m", "kpn_cli", "denoise", card, "-o", card / "no", "--dry-run"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache)}
    start, cpu = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryFile() as out:
        run = psutil.Popen(
            [*command, "--json", *options],
            stdout=out,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=checkout,
        )
        most = 0
        while run.poll() is None:
            try:
                memory = run.memory_info()
                # On Windows, the peak; elsewhere what is in memory now.
                most = max(most, getattr(memory, "peak_wset", memory.rss))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.01)
        cost = Cost(time.perf_counter() - start, cpu_seconds() - cpu, most / 2**20)
        out.seek(0)
        bursts = len(json.load(out)["bursts"])
    if bursts != _FOLDERS.get(card.name, 0) * _FILES // _FRAMES:
        raise SystemExit(f"{bursts} bursts were found in {card.name}")
    return cost


def measure(checkout: Path, top: Path, number: int) -> dict[tuple[str, str], Cost]:
    """Return the costs without start-up by kind of plan and card."""
    kinds = {"read": []}
    if (checkout / "kpn_cli" / "raw" / "capture_cache.py").is_file():
        kinds = {"no cache": ["--no-cache"], "first": [], "second": []}
    # A cache with the speed, which is measured once, and without captures.
    warm = top / f"warm{number}-{checkout.name}"
    plan(checkout, top / "large", warm, kinds.get("no cache", []))
    start_up = [plan(checkout, top / "empty", top / "cache") for _ in range(_TIMES)]
    seconds, cpu, _ = map(min, zip(*start_up, strict=True))
    found = {}
    for kind, options in kinds.items():
        for card, times in {"small": _TIMES, "large": 1}.items():
            for turn in range(times):
                # What is read first has a cache of its own.
                cache = top / f"{warm.name}-{card}-{turn if kind != 'second' else 0}"
                if not cache.exists():
                    shutil.copytree(warm, cache)
                cost = plan(checkout, top / card, cache, options)
                cost = Cost(cost.seconds - seconds, cost.cpu - cpu, cost.memory)
                found[kind, card] = cost.best(found.get((kind, card), cost))
    return found


def main(rounds: int, checkouts: list[Path]) -> None:
    """Measure in turn, and print the best of the rounds."""
    best: dict[tuple[Path, str, str], Cost] = {}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        raw = template(top)
        for card, folders in _FOLDERS.items():
            write_card(top / card, folders, raw)
        (top / "empty").mkdir()
        time.sleep(_SETTLE)
        for number in range(rounds):
            for checkout in checkouts:
                for (kind, card), cost in measure(checkout, top, number).items():
                    key = checkout, kind, card
                    best[key] = cost.best(best.get(key, cost))
    print(f"{rounds} rounds, load {psutil.getloadavg()[0]:.1f}: small, large and ratio")
    few, many = (folders * _FILES for folders in _FOLDERS.values())
    for checkout, kind in dict.fromkeys(key[:2] for key in best):
        small, large = (best[checkout, kind, card] for card in _FOLDERS)
        one, other = 1e3 * small.cpu / few, 1e3 * large.cpu / many
        print(
            f"{checkout.name} {kind:9} {small.seconds:6.1f} {large.seconds:6.1f} s; "
            f"CPU {one:.2f} {other:.2f} ms a file, {other / one:.2f}; "
            f"{small.memory:.0f} {large.memory:.0f} MiB, {large.memory / small.memory:.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout of kpn")
    given = parser.parse_args()
    main(given.rounds, [HERE, *filter(None, [given.against and given.against.resolve()])])
