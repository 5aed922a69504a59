"""Memory of `kpn denoise` by size, on Linux.

    python benchmarks/memory.py [megapixels ...] [--precision fp32|bf16|int8]

Denoises a burst of 8 frames of each size in all formats and prints the peak memory of the process
and its decoder together, the share of the frames (16 bits per sample), and the rest, which should
grow by less than 20 % from 12 to 48 megapixels. Then prints the memory that the network takes per
cell of a tile; `merge/merge.py` has its upper bound.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from whole import make_burst

FRAMES = 8

TILE = """
import sys, psutil, threading, time, torch
from kpn_cli.align import alignment
from kpn_cli.merge import merge
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.network.precision import in_precision
from kpn_cli.network.weights import load_weights
tile, count, strength = (int(text) for text in sys.argv[1:4])
network, arithmetic = in_precision(load_weights()[0], sys.argv[4])
if arithmetic.note:
    sys.exit(arithmetic.note)
frames = [Frame(torch.rand(4, tile, tile)) for _ in range(count)]
process, most, stopped = psutil.Process(), 0, threading.Event()
before = process.memory_info().rss
def watch():
    global most
    while not stopped.wait(0.002):
        most = max(most, process.memory_info().rss)
thread = threading.Thread(target=watch)
thread.start()
shifts = [torch.zeros(-(-tile // 16), -(-tile // 16), 2, dtype=torch.int64)] * count
noise = NoiseModel.uniform(1e-3, 1e-5)
merge.denoise_frames(network, frames, shifts, noise, strength=strength, tile=tile,
                     dtype=arithmetic.dtype)
stopped.set(); thread.join()
print((most - before) / (tile // 2 + 2 * 32) ** 2)
"""


def peak(command: list[object]) -> int:
    """Run a command; return the peak memory of it and its children together, in bytes."""
    run = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    most = 0
    while run.poll() is None:
        try:
            tree = [run, *run.children(recursive=True)]
            most = max(most, sum(process.memory_info().rss for process in tree))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    if run.returncode:
        sys.exit(run.stderr.read().decode())
    return most


def main() -> None:
    """Run the benchmark and print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("megapixels", nargs="*", type=float, default=[12, 48])
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "int8"))
    arguments = parser.parse_args()
    precision = arguments.precision
    kpn = Path(sys.executable).with_name("kpn")
    for megapixels in arguments.megapixels:
        with tempfile.TemporaryDirectory() as folder:
            files = make_burst(Path(folder), megapixels, FRAMES)
            frames = sum(path.stat().st_size for path in files)  # uncompressed
            formats = "dng,linear,srgb,jpeg"
            options = ["-o", folder, "--format", formats, "--precision", precision]
            most = peak([kpn, "denoise", *files, *options])
        print(
            f"{megapixels:g} megapixels x {FRAMES}, {precision}: peak {most / 2**20:.0f} MiB, "
            f"frames {frames / 2**20:.0f}, rest {(most - frames) / 2**20:.0f}",
            flush=True,
        )
    for tile, count, strength in ((768, 1, 1), (768, 1, 2), (768, 8, 1), (768, 8, 2), (384, 8, 1)):
        command = [sys.executable, "-c", TILE, *map(str, (tile, count, strength)), precision]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        cell = float(run.stdout)
        print(
            f"tile {tile}, {count} frames, strength {strength}: {cell:.0f} bytes per cell",
            flush=True,
        )


if __name__ == "__main__":
    main()
