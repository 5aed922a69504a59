"""Time of a batch on one and on two workers of a Dask cluster, each bound to a core; client memory.

    python benchmarks/cluster.py [BURSTS] [FRAMES] [MEGAPIXELS]

The workers are started before the clock; so are PyTorch and the network in them, by a batch of one
burst. Where other work takes the cores, compare the seconds of the cores. The time is that from the
first burst handed in to the last one done.
"""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from kpn_cli.batch.plan import GroupingOptions
from kpn_cli.batch.run import run_batch
from kpn_cli.output import dng_tags, dng_writer
from kpn_cli.pipeline.options import Options
from kpn_cli.system.cluster import connect

DASK = [sys.executable, "-m"]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Clock:
    """A view of a run that notes when the first and the last burst end."""

    def __init__(self) -> None:
        self.begun = self.ended = math.nan

    def scanning(self, done, total):
        """Show nothing."""

    def begin(self, plan, share):
        """Show nothing."""

    def on_workers(self, count):
        """Show nothing."""

    def tell(self, line):
        """Note the time when the workers are checked."""
        if line.startswith("denoising on"):
            self.begun = time.monotonic()
        else:
            print(line, file=sys.stderr)

    def stage(self, job, stage):
        """Show nothing."""

    def done(self, outcome):
        """Note the time."""
        self.ended = time.monotonic()
        if outcome.failure:
            print(outcome.failure.message(), file=sys.stderr)


def write_bursts(folder: Path, count: int, frames: int, megapixels: float) -> None:
    """Write bursts of noise on a gradient, a minute apart."""
    from datetime import datetime, timedelta

    side = 2 * round(math.sqrt(megapixels * 1e6) / 2)
    rows, columns = np.mgrid[:side, :side] / side
    scene = 512 + 6000 * rows * (1 + np.sin(40 * columns)) / 2
    rng = np.random.default_rng(0)
    folder.mkdir()
    for burst in range(count):
        for frame in range(frames):
            mosaic = scene + rng.normal(0, 40, scene.shape)
            tags = dng_tags.DngTags(
                "RGGB",
                (512,) * 4,
                16383,
                make="Canikon",
                model="X1",
                iso=800.0,
                exposure_time=0.01,
                captured=datetime(2026, 1, 1) + timedelta(seconds=60 * burst + 0.1 * frame),
            )
            path = folder / f"IMG_{burst:04d}{frame}.dng"
            dng_writer.write_cfa_dng(path, np.clip(mosaic, 0, 16383).astype(np.uint16), tags)


def core_seconds(process: subprocess.Popen) -> float:
    """Return what a worker and its children have used of their core."""
    parent = psutil.Process(process.pid)
    return sum(sum(one.cpu_times()[:2]) for one in (parent, *parent.children(recursive=True)))


def measure(folder: Path, workers: int, options: Options, warm: Path) -> tuple[float, list[float]]:
    """Return the seconds of a batch on so many workers, and of the core of each."""
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "18990"]
    processes = [subprocess.Popen([*DASK, *scheduler, "--no-dashboard"], **QUIET)]
    address = "tcp://127.0.0.1:18990"
    while socket.socket().connect_ex(("127.0.0.1", 18990)):
        time.sleep(0.5)
    cores = psutil.Process().cpu_affinity()
    for core in cores[:workers]:
        worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        processes.append(subprocess.Popen(["taskset", "-c", str(core), *DASK, *worker], **QUIET))
    try:
        with connect(address, 1) as cluster:
            while len(cluster.workers()) < workers:
                time.sleep(0.1)
            clock = Clock()
            run_batch([warm], options, GroupingOptions(), clock, cluster=cluster)
        before = [core_seconds(process) for process in processes[1:]]
        with connect(address, 1) as cluster:
            run_batch([folder], options, GroupingOptions(), clock, cluster=cluster)
        after = [core_seconds(process) for process in processes[1:]]
    finally:
        for process in processes[::-1]:
            process.terminate()
            process.wait()
        shutil.rmtree(options.output, ignore_errors=True)
    used = [end - begin for begin, end in zip(before, after, strict=True)]
    return clock.ended - clock.begun, used


def main() -> None:
    """Measure and print."""
    numbers = [float(text) for text in sys.argv[1:] if text != "--"]
    count, frames, megapixels = (*numbers, *(24, 4, 1.0)[len(numbers) :])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bursts(folder / "card", int(count), int(frames), megapixels)
        write_bursts(folder / "warm", 2, 1, megapixels)
        options = Options(folder / "out", formats=("dng",))
        times, used = {}, {}
        for workers in (1, 2):
            times[workers], used[workers] = measure(
                folder / "card", workers, options, folder / "warm"
            )
            cores = ", ".join(f"{seconds:.1f}" for seconds in used[workers])
            load = psutil.getloadavg()[0]
            print(f"{workers} workers: {times[workers]:.1f} s; of cores {cores} s; load {load:.1f}")
        print(f"ratio {times[2] / times[1]:.2f}")
        # What it would be if nothing else used the cores.
        print(f"ratio of the busiest core {max(used[2]) / max(used[1]):.2f}")
    used = psutil.Process().memory_info().rss / 2**20
    print(f"memory of the client at the end: {used:.0f} MiB")


if __name__ == "__main__":
    main()
