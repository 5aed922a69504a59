"""Data sets of synthetic bursts: `kpn synth`. Burst n is a pure function of (seed, n)."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import tifffile
import torch

from ..choices import DATASET_FORMATS, DATASET_GAINS, RANDOM_GAIN
from ..errors import KpnError
from ..image import bayer
from ..image.noise_model import NoiseModel
from ..output.dng_levels import encode_planes
from ..system.files import atomic, atomic_folder, lock_folder, make_folder, remove_temporaries
from . import protocol, shards
from .camera import Camera, write_frames
from .config import SynthConfig
from .handheld import draw_handheld
from .patches import draw_patch
from .photos import DATASET_MARK, PhotosOnDisk, Scene
from .sensor import Patch, add_faults, draw_colours, draw_noise, stated, undo_white_balance

_REST = "-of-"
_SHARD = 128  # bursts of a tar file
_PHOTOS_A_SHARD = 16  # that they are made of: reading a photo takes as long as ten bursts
_START = datetime(2026, 1, 1, 12, 0, 0)


@dataclass(frozen=True)
class DatasetConfig:
    """A data set.

    Attributes:
        count: number of bursts.
        frames: of each.
        format: "dng", folders of whole photos as a camera writes them, or "shards",
            tar files of training patches.
        gain: of `choices.DATASET_GAINS`.
        seed: fixes every byte, together with the photos.
    """

    count: int = 100
    frames: int = 8
    format: str = "dng"
    gain: str = RANDOM_GAIN
    seed: int = 0

    def __post_init__(self) -> None:
        if self.format not in DATASET_FORMATS:
            raise KpnError(f"--format {self.format}: choose {' or '.join(DATASET_FORMATS)}")
        if self.gain not in DATASET_GAINS:
            raise KpnError(f"--gain {self.gain}: choose among {', '.join(DATASET_GAINS)}")
        if self.count < 1 or self.frames < 1:
            raise KpnError("a data set needs at least one burst of at least one frame")

    @property
    def photo_pixels(self) -> int:
        """Smallest side of a photo that can be used."""
        return SynthConfig().photo_pixels

    @property
    def parts(self) -> int:
        """Number of folders or tar files."""
        return self.count if self.format == "dng" else -(-self.count // _SHARD)

    def part(self, folder: Path, number: int) -> Path:
        """Where a part of the data set lies."""
        if self.format == "dng":
            return folder / f"burst_{number:05d}"
        # A last shard that is not full has its own name: a longer set replaces it.
        size = min(self.count - number * _SHARD, _SHARD)
        rest = "" if size == _SHARD else f"{_REST}{size}"
        return folder / f"shard-{number:05d}{rest}.tar"

    @property
    def noise(self) -> NoiseModel | None:
        """The noise of all bursts; None where each has its own."""
        return None if self.gain == RANDOM_GAIN else protocol.noise_of_gain(int(self.gain))

    @property
    def data(self) -> SynthConfig:
        """What the bursts are like; with a gain of the protocol, all frames have its noise."""
        if self.gain == RANDOM_GAIN:
            return SynthConfig(frames=self.frames)
        return SynthConfig(frames=self.frames, misjudged=0, bracket=0, uneven=0)


def write_dataset(
    photos: Sequence[Path],
    folder: Path,
    config: DatasetConfig,
    *,
    workers: int = 1,
    on_part: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Write a data set; parts that are there already are kept.

    Args:
        photos: readable photos of `config.photo_pixels` and more each way.
        folder: where to. A set begun there with other settings is refused; only a
            larger count is another part of the same set.
        config: what to write.
        workers: processes that work on it. The bytes don't depend on it.
        on_part: called with each part, written or found.

    Returns:
        The parts' paths.

    Raises:
        KpnError: if the folder holds another data set, or cannot be written.
    """
    make_folder(folder)
    with lock_folder(folder):
        return _complete(photos, folder, config, workers, on_part)


def _complete(
    photos: Sequence[Path],
    folder: Path,
    config: DatasetConfig,
    workers: int,
    on_part: Callable[[Path], None],
) -> list[Path]:
    """Write what is missing."""
    _claim(folder, photos, config)
    remove_temporaries(folder)
    parts = [config.part(folder, number) for number in range(config.parts)]
    missing = []
    for number, path in enumerate(parts):
        if path.exists():
            on_part(path)
        else:
            missing.append(number)
    for path in _written(photos, folder, config, missing, workers):
        on_part(path)
    for shorter in set(folder.glob(f"shard-*{_REST}*.tar")) - set(parts):
        shorter.unlink()  # the same bursts are in a longer one now
    return parts


def _claim(folder: Path, photos: Sequence[Path], config: DatasetConfig) -> None:
    """Write down what the folder holds; refuse it if it holds something else."""
    settings = asdict(config)
    settings["photos"] = [[path.name, path.stat().st_size] for path in photos]
    path = folder / DATASET_MARK
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        largest = int(before["count"])
    except FileNotFoundError:
        before, largest = settings, 0
    except (OSError, ValueError, KeyError, TypeError):
        raise KpnError(f"{path}: damaged; remove it, or choose another folder") from None
    other = [key for key in settings if key != "count" and before.get(key) != settings[key]]
    if other:
        raise KpnError(
            f"{folder}: holds a data set with other {', '.join(other)}; "
            "give the same to go on with it, or another folder"
        )
    if largest > config.count:
        raise KpnError(
            f"{folder}: holds {largest} bursts, more than --count {config.count}; "
            "choose another folder"
        )
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _written(
    photos: Sequence[Path], folder: Path, config: DatasetConfig, numbers: list[int], workers: int
) -> Iterator[Path]:
    """Write parts, in this process or in others; yield each when it is there."""
    if workers < 2 or len(numbers) < 2:
        scenes = PhotosOnDisk(photos, _PHOTOS_A_SHARD)
        for number in numbers:
            yield _write_part(scenes, folder, config, number)
        return
    # Spawned, not forked: torch and OpenCV have threads that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (list(photos),)) as pool:
        try:
            futures = [pool.submit(_work, folder, config, number) for number in numbers]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise KpnError("a worker was killed, perhaps for want of memory; the same command "
                           "goes on, with fewer --workers") from None  # fmt: skip
        finally:
            pool.shutdown(cancel_futures=True)


_scenes: PhotosOnDisk  # of a worker process


def _start_worker(photos: list[Path]) -> None:
    global _scenes
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _scenes = PhotosOnDisk(photos, _PHOTOS_A_SHARD)


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(folder: Path, config: DatasetConfig, number: int) -> Path:
    return _write_part(_scenes, folder, config, number)


def _write_part(scenes: Sequence[Scene], folder: Path, config: DatasetConfig, number: int) -> Path:
    path = config.part(folder, number)
    if config.format == "dng":
        with atomic_folder(path) as temporary:
            _write_burst(scenes, temporary, config, number)
    else:
        chosen = np.random.default_rng((config.seed, number, 1)).permutation(len(scenes))
        some = [scenes[int(n)] for n in chosen[:_PHOTOS_A_SHARD]]
        first = number * _SHARD
        numbers = range(first, min(first + _SHARD, config.count))
        shards.write_shard(path, ((n, _draw(some, config, n)) for n in numbers))
    return path


def _draw(scenes: Sequence[Scene], config: DatasetConfig, number: int) -> Patch:
    rng = np.random.default_rng((config.seed, number))
    return draw_patch(scenes, rng, config.frames, config.data, config.noise)


def _write_burst(scenes: Sequence[Scene], folder: Path, config: DatasetConfig, number: int) -> None:
    """Write frames, truth and what is known about them into an empty folder."""
    rng = np.random.default_rng((config.seed, number))
    colours = draw_colours(rng, config.data)
    planes = draw_handheld(scenes, number % len(scenes), rng, config.frames, colours)
    red, blue = rng.uniform(1.2, 2.4, 2)
    white_level = 10 ** rng.uniform(-1, 0)
    clean = undo_white_balance(planes, red, blue) * np.float32(white_level)
    noise = config.noise or draw_noise(rng, config.data)
    burst = noise.sample(clean, rng)
    add_faults(rng, burst, noise, config.data, aligned=False)
    camera = Camera(
        phase=bayer.PHASES[rng.integers(len(bayer.PHASES))],
        bits=int(rng.integers(10, 15)),
        neutral=(1 / red, 1.0, 1 / blue),
    )
    start = _START + timedelta(minutes=number)
    write_frames(folder, burst, stated(rng, noise, config.data), camera, start, "synth")
    height, width = 2 * clean.shape[2], 2 * clean.shape[3]
    mosaic, black, white = encode_planes(clean[0], camera.phase, height, width)
    about = {
        "photo": scenes[number % len(scenes)].name,
        "cfa": camera.phase,
        "black": black,
        "white": white,
        "white_level": white_level,
        "shot": noise.shot[0],
        "read": noise.read[0] + camera.rounding,
    }
    tifffile.imwrite(folder / "truth.tif", mosaic, metadata=None, software=False)
    text = json.dumps(about, indent=1) + "\n"
    (folder / "truth.json").write_text(text, encoding="utf-8")
