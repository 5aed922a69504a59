"""Measure what int8 costs in accuracy: PSNR of the whole merge against floating point.

    python benchmarks/precision.py VAL_PHOTOS [--photos N] [--weights FILE]

For each gain of the protocol, hand-held, on a tripod and from single frames: mean PSNR in floating
point, the mean difference of each precision, and the worst photo's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from kpn_cli.align import alignment
from kpn_cli.evaluation import benchmark, metrics
from kpn_cli.merge import merge
from kpn_cli.network.precision import in_precision
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis import protocol
from kpn_cli.synthesis.photos import load_scenes

#: Name, whether it is on a tripod, and the frames of a burst.
SETS = (("hand-held", False, 8), ("tripod", True, 8), ("single", True, 1))


def main() -> None:
    """Print a line per set and gain."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos_folder", type=Path)
    parser.add_argument("--photos", type=int, default=1000, help="the first so many only")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--gains", default="0,1,4,8")
    parser.add_argument("--precisions", default="int8", help="compared with fp32, with commas")
    arguments = parser.parse_args()
    network, _ = load_weights(arguments.weights)
    names = ["fp32", *arguments.precisions.split(",")]
    networks = {}
    for name in names:
        networks[name], precision = in_precision(network, name)
        if precision.name != name:
            raise SystemExit(precision.note)
        networks[name].dtype = precision.dtype
    scenes = load_scenes([arguments.photos_folder], at_least=256)
    step = max(len(scenes) // arguments.photos, 1)
    chosen = list(enumerate(scenes))[::step][: arguments.photos]
    print(f"{len(chosen)} photos, {torch.get_num_threads()} threads")
    print("| set | gain | fp32, dB |" + "".join(f" {n}: mean | worst |" for n in names[1:]))
    for title, static, frames in SETS:
        for gain in map(int, arguments.gains.split(",")):
            figures = {name: [] for name in names}
            for number, scene in chosen:
                test = benchmark.draw_burst(scene, number, gain, frames, 0, static)
                inputs = benchmark.repaired_frames(test.burst, test.noise, torch.device("cpu"))
                aligned = alignment.align_burst(inputs, test.noise)
                aligned = aligned.keep_best(network.config.frames)
                for name, ready in networks.items():
                    done = merge.denoise_frames(
                        ready,
                        aligned.frames,
                        aligned.shifts,
                        protocol.noise_of_gain(gain),
                        dtype=ready.dtype,
                        measure_residual=False,
                    )
                    figures[name].append(metrics.psnr(done.planes, test.truth, test.white))
            plain = np.array(figures["fp32"])
            line = f"| {title} | {gain} | {plain.mean():.3f} |"
            for name in names[1:]:
                lost = np.array(figures[name]) - plain
                line += f" {lost.mean():+.3f} | {lost.min():+.3f} |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
