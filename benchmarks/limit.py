"""Time of `kpn denoise` against the limit of the machine: `python benchmarks/limit.py`.

Arguments: megapixels and precision, 12 and auto unless given. The limit is the sum of the
unavoidable: decoding the frames with LibRaw, the network's operations at the highest rate that a
convolution reaches on this machine in the arithmetic used, developing the result with LibRaw, and
writing as many bytes to the disk. One run measures everything; it measures the parts of the limit
before and after the rest and takes the better value. Compare the ratios, not the seconds. Finally,
it measures start-up times.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from whole import make_burst

from kpn_cli.burst.frame import Frame
from kpn_cli.network import apply_kernels
from kpn_cli.output import develop
from kpn_cli.pipeline import denoise, loading
from kpn_cli.pipeline.denoise import Engine
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_raw
from kpn_cli.system.device import autocast

FRAMES = 8
#: Side of the tile on which the network is measured, in cells.
_CELLS = 512
#: Channels and side of the convolutions whose rate is measured.
_CHANNELS, _SIDE = (32, 64, 96, 128, 192, 256), 224
#: Convolutions of integers that are measured as one, since input and output are no integers.
_LAYERS = 8


def synchronise() -> None:
    """Wait for a GPU to finish: calls to it return before it has."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def example(engine: Engine, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random burst and its noise coefficients."""
    burst, noise = torch.rand(1, FRAMES, 4, side, side), torch.full((1, 4), 1e-3)
    return burst.to(engine.device), noise.to(engine.device)


def best(work: Callable[[], object], times: int = 3) -> float:
    """Return the shortest time of several calls, in seconds."""
    seconds = []
    for _ in range(times):
        synchronise()
        start = time.perf_counter()
        work()
        synchronise()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def convolution_rate(engine: Engine) -> float:
    """Return the highest rate of 3x3 convolutions, in operations per second."""
    if engine.precision.name == "int8":
        return max(integer_rate(channels) for channels in _CHANNELS)
    rates = []
    for channels in _CHANNELS:
        layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
        layer = layer.to(engine.device, engine.dtype, memory_format=torch.channels_last)
        x = torch.rand(1, channels, _SIDE, _SIDE).to(
            engine.device, engine.dtype, memory_format=torch.channels_last
        )
        with torch.inference_mode():
            seconds = best(lambda layer=layer, x=x: layer(x), 10)
        rates.append(2 * 9 * channels**2 * _SIDE**2 / seconds)
    return max(rates)


def integer_rate(channels: int) -> float:
    """Return the rate of 3x3 convolutions of 8-bit integers by OpenVINO, one after the other."""
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    start = x = ops.parameter([1, channels, _SIDE, _SIDE], np.float32)
    limits = [np.full((1, 1, 1, 1), value, np.float32) for value in (0, 1, 0, 255)]
    for _ in range(_LAYERS):
        x = ops.fake_quantize(x, *limits, 256)
        weight = rng.integers(-127, 128, (channels, channels, 3, 3)).astype(np.int8)
        weight = ops.multiply(ops.convert(ops.constant(weight), "f32"), np.float32(1e-5))
        x = ops.convolution(x, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([ops.result(x)], [start], "convolutions")
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "ENABLE_CPU_PINNING": False}
    compiled = openvino.Core().compile_model(model, "CPU", threads)
    picture = rng.random((1, channels, _SIDE, _SIDE), np.float32)
    seconds = best(lambda: compiled([picture]), 10)
    return _LAYERS * 2 * 9 * channels**2 * _SIDE**2 / seconds


def operations(engine: Engine) -> float:
    """Return the network's operations per cell, heads included."""
    burst, noise = example(engine, 64)
    counter = FlopCounterMode(display=False)
    network = copy.copy(engine.network)
    network.engine = None  # whose operations torch does not see
    with torch.inference_mode(), counter:
        network(burst, noise, noise)
    return counter.get_total_flops() / 64**2


def disk(count: int, folder: Path) -> float:
    """Return the time in seconds to write and sync `count` bytes."""
    content = os.urandom(1 << 20)

    def work() -> None:
        with (folder / "bytes").open("wb") as file:
            for _ in range(max(count >> 20, 1)):
                file.write(content)
            os.fsync(file.fileno())

    return best(work, 2)


def shares_of_network(engine: Engine) -> dict[str, float]:
    """Return the share of each step in the network's time on a tile."""
    burst, noise = example(engine, _CELLS)
    network = engine.network
    with torch.inference_mode(), autocast(engine.device, engine.dtype):
        encoded = network.encoded(burst, noise, noise)
        features = best(lambda: network.encoded(burst, noise, noise))
        kernels = best(lambda: apply_kernels.restore_in_bands(network, burst, encoded))
    whole = features + kernels
    return {"features": features / whole, "kernels and their use": kernels / whole}


def limits(engine: Engine, files: list[Path], written: int, folder: Path) -> dict[str, float]:
    """Return each part of the limit, in seconds."""
    info, planes = loading.read_packed(files[0])
    linear = Frame(torch.from_numpy(planes), info.black, info.white).planes()
    cells = info.height * info.width / 4
    return {
        "decode": best(lambda: [read_raw(path) for path in files], 2),
        "network": cells * operations(engine) / convolution_rate(engine),
        "develop": best(lambda: [None for _ in develop.develop_bands(info, linear)], 2),
        "disk": disk(written, folder),
    }


def start_up(folder: Path) -> dict[str, float]:
    """Return the times of short commands in seconds, each in a new process."""
    kpn = Path(sys.executable).with_name("kpn")
    tiny = make_burst(folder / "tiny", 0.05, 4)
    commands = {
        "kpn --help": [kpn, "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
        "a tiny burst": [kpn, "denoise", *tiny, "-o", folder / "out", "--overwrite"],
    }
    return {
        name: best(lambda command=command: subprocess.run(command, check=True, capture_output=True))
        for name, command in commands.items()
    }


def main(megapixels: float, precision: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_burst(folder / "burst", megapixels, FRAMES)
        options = Options(folder / "out", overwrite=True, precision=precision)
        engine = Engine(options)
        denoise.denoise(files, options, engine)
        written = sum(path.stat().st_size for path in options.output.iterdir())
        before = limits(engine, files, written, folder)
        runs = [denoise.denoise(files, options, engine) for _ in range(3)]
        fastest = min(runs, key=lambda run: run.seconds)
        after = limits(engine, files, written, folder)
        parts = {name: min(value, after[name]) for name, value in before.items()}
        shares = shares_of_network(engine)
        started = start_up(folder)
    limit = sum(parts.values())
    threads = torch.get_num_threads()
    arithmetic = f"{engine.device}, {engine.precision.name}, {threads} cores"
    print(f"{megapixels:g} megapixels x {FRAMES}, {arithmetic}")
    print(f"limit {limit:.1f} s: " + ", ".join(f"{k} {v:.2f} s" for k, v in parts.items()))
    print(f"kpn {fastest.seconds:.1f} s, {fastest.seconds / limit:.1f} times the limit:")
    for stage, seconds in fastest.timings.items():
        print(f"  {stage:18}{seconds:6.2f} s  {seconds / limit:5.2f} of the limit")
        if stage == "denoise":
            for part, share in shares.items():
                print(f"    {part:22}{share:8.0%}")
    for command, seconds in started.items():
        print(f"{command}: {seconds:.2f} s")


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 12, sys.argv[2] if sys.argv[2:] else "auto")
