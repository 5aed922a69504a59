"""Share of each step in denoising one tile: `python benchmarks/denoising.py [cells] [frames]`.

A synthetic burst in which every seventh alignment tile has a shift of its own. The steps are timed
in turn, several rounds; the best of each counts. Compare the ratios, not the seconds.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from kpn_cli.align import warp
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge import residual_noise
from kpn_cli.merge.green_equilibration import equilibrate_greens
from kpn_cli.merge.guard import fall_back_to_reference
from kpn_cli.merge.tile import TileMerger
from kpn_cli.network.apply_kernels import filter_dilated, restore_in_bands
from kpn_cli.network.weights import load_weights
from kpn_cli.system.device import autocast, float_precision

ROUNDS = 5
#: Cells around the tile.
_MARGIN = 32
_NOISE = NoiseModel.uniform(1e-3, 1e-5)
_BLACK, _WHITE = 512.0, 16383.0


def make_frames(side: int, count: int) -> list[Frame]:
    """Return noisy frames of a gradient with waves, as a camera records them."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:side, :side]
    scene = 0.3 * column / side + 0.1 * np.sin(row / 9) * np.sin(column / 7) + 0.15
    planes = np.stack([scene * gain for gain in (0.6, 1, 1, 0.7)]).astype(np.float32)
    return [
        Frame(
            torch.from_numpy(
                (_NOISE.sample(planes, rng) * (_WHITE - _BLACK) + _BLACK)
                .clip(0, _WHITE)
                .astype(np.uint16)
            ),
            (_BLACK,) * 4,
            _WHITE,
        )
        for _ in range(count)
    ]


def make_shifts(side: int, count: int) -> list[torch.Tensor]:
    """Return shifts: none for the reference; in other frames one for most tiles."""
    generator = torch.Generator().manual_seed(0)
    tiles = -(-side // warp.TILE)
    shifts = [torch.zeros(tiles, tiles, 2, dtype=torch.int64) for _ in range(count)]
    for shift in shifts[1:]:
        own = torch.rand(tiles, tiles, generator=generator) < 1 / 7
        shift[own] = torch.randint(-3, 4, (int(own.sum()), 2), generator=generator)
    return shifts


def main(side: int, count: int) -> None:
    """Measure and print."""
    network, whole = load_weights()[0].eval(), side + 2 * _MARGIN
    frames, shifts = make_frames(whole, count), make_shifts(whole, count)
    device = frames[0].samples.device
    dtype = float_precision("auto", device).dtype
    merger = TileMerger(network, frames, shifts, _NOISE, dtype=dtype)
    tile = (slice(_MARGIN, _MARGIN + side),) * 2
    with torch.inference_mode(), autocast(device, dtype):
        burst, noise = merger.warped(*tile), merger.assumed_noise
        reference, others = burst[:, 0], burst[:, 1:]
        encoded = network.encoded(burst, *noise)
        clean, own = restore_in_bands(network, burst, encoded)
        planes = merger.merge(slice(0, whole), slice(0, whole)).clean[0]
        steps = {
            "aligned parts": lambda: merger.warped(*tile),
            "input": lambda: network.padded_input(burst, *noise, None),
            "input and U-Net": lambda: network.encoded(burst, *noise),
            "kernels and their use": lambda: restore_in_bands(network, burst, encoded),
            "  of these the dilated": lambda: filter_dilated(network, clean, encoded.features),
            "greens": lambda: equilibrate_greens(clean, reference, own, *noise),
            "guard": lambda: fall_back_to_reference(clean, reference, own, *noise, others),
            "the whole tile": lambda: merger.merge(*tile),
            "residual noise": lambda: residual_noise.measure_residual_noise(
                merger, (whole, whole), planes
            ),
        }
        seconds = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    print(f"{side}x{side} cells x {count}, {dtype}, {torch.get_num_threads()} threads")
    for name, value in best.items():
        print(f"{name:24}{value:7.3f} s {value / best['the whole tile']:7.1%} of the tile")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [832, 8][len(given) :]))
