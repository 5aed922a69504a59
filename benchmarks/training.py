"""Time of the parts of a training step: `python benchmarks/training.py PHOTOS [STEPS]`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from kpn_cli.network.apply_kernels import restore
from kpn_cli.synthesis import patches
from kpn_cli.synthesis.photos import Scene, load_scenes
from kpn_cli.system.device import autocast
from kpn_cli.system.memory import keep_freed_memory
from kpn_cli.training.config import TrainConfig
from kpn_cli.training.losses import annealed_loss
from kpn_cli.training.run import TrainingRun

seconds: Counter[str] = Counter()


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the block's time to `seconds`."""
    start = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - start


def main(photos: str, steps: int = 40) -> None:
    """Print patches per second and the share of each part, for batches of 8 frames."""
    keep_freed_memory()
    config = TrainConfig(device="cpu")
    scenes = load_scenes([Path(photos)], at_least=config.data.photo_pixels)
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        run = TrainingRun(Path(folder), config)
        step = number = 0
        while number < steps:
            step += 1
            if patches.draw_frame_count((0, step), config.data) < config.data.frames:
                continue
            if number == 5:  # warmed up
                seconds.clear()
            one_step(run, scenes, step, pool)
            number += 1
    total = sum(seconds.values())
    print(f"{(steps - 5) * config.batch / total:.1f} patches/s, {torch.get_num_threads()} threads")
    for name, value in seconds.most_common():
        print(f"{name:10} {value / total:6.1%}")


def one_step(run: TrainingRun, scenes: list[Scene], step: int, pool: ThreadPoolExecutor) -> None:
    """Take a step as `TrainingRun.train_step` does, and time its parts."""
    config = run.config
    with timed("data"):
        batch = patches.draw_batch(scenes, (0, step), range(config.batch), config.data, pool.map)
    with timed("forward"), autocast(run.device, run.dtype):
        done = restore(run.network, batch.burst, batch.shot, batch.read)
    with timed("loss"):
        loss = annealed_loss(
            done.clean, done.per_frame, batch.target, batch.white, config.loss, step
        )
    with timed("backward"):
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
    with timed("optimiser"):
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
        run.optimiser.step()
        run.update_average()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
