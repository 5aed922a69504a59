"""Data sets of synthetic bursts, for `kpn synth`. Burst n is a pure function of (seed, n)."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
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
from .brackets import Bracket, check_evs, draw_bracket
from .camera import Camera, write_frames
from .config import SynthConfig
from .handheld import draw_handheld
from .not_photos import DATASET_MARK, TRUTH, TRUTH_DESCRIPTION
from .patches import draw_patch
from .photos import Scene, ScenesOnDisk
from .sensor import (
    Patch,
    add_faults,
    draw_colours,
    draw_noise,
    draw_noise_profile,
    undo_white_balance,
)

_BURSTS_PER_SHARD = 128
#: Marks the name of a shard with fewer bursts, before their number.
_PARTIAL = "-of-"
#: Photos that the bursts of a shard are made from: reading one takes as long as ten bursts.
PHOTOS_PER_SHARD = 16
#: Time of the first burst.
_START = datetime(2026, 1, 1, 12, 0, 0)
#: Ends the seed of a bracket's exposures: without them, a burst of the same seed shows the same.
_BRACKET_STREAM = 2
#: Chance that a bracketed scene has highlights beyond the photo's, and how much brighter, in EV.
_BRIGHT_CHANCE, _BRIGHT_EV = 0.7, (1.0, 4.0)


@dataclass(frozen=True)
class DatasetConfig:
    """Settings of a data set.

    Attributes:
        count: number of bursts.
        frames: of each burst.
        format: "dng", a folder of DNG files of whole photos for each burst, or "shards", tar
            files of training patches.
        gain: of `choices.DATASET_GAINS`.
        seed: with the photos, determines every byte.
        ev: exposures of the frames in EV, in turn (`brackets.in_turn`); () for equal exposures.

    Raises:
        KpnError: for an unknown format or gain, counts below 1, or exposures that are no bracket.
    """

    count: int = 100
    frames: int = 8
    format: str = "dng"
    gain: str = RANDOM_GAIN
    seed: int = 0
    ev: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.ev:
            check_evs(self.ev)
            if self.format != "dng":
                raise KpnError(
                    "a bracket is written as raw files; choose --format dng, or leave out --ev: "
                    "kpn train draws exposures for itself"
                )
        if self.format not in DATASET_FORMATS:
            raise KpnError(f"--format {self.format}: choose {' or '.join(DATASET_FORMATS)}")
        if self.gain not in DATASET_GAINS:
            raise KpnError(f"--gain {self.gain}: choose among {', '.join(DATASET_GAINS)}")
        if self.count < 1 or self.frames < 1:
            raise KpnError("a data set needs at least one burst of at least one frame")

    def check_installed(self) -> None:
        """Check that the packages are installed that writing the data set needs.

        Raises:
            KpnError: if one is missing.
        """
        if self.format == "shards":
            shards.tar_writer()

    @property
    def photo_pixels(self) -> int:
        """Smallest usable side of a photo, in photo pixels."""
        return SynthConfig().photo_pixels

    @property
    def part_count(self) -> int:
        """Number of parts: folders or tar files."""
        return self.count if self.format == "dng" else -(-self.count // _BURSTS_PER_SHARD)

    def part_path(self, folder: Path, number: int) -> Path:
        """Return the path of a part."""
        if self.format == "dng":
            return folder / f"burst_{number:05d}"
        # A partial last shard has a name of its own: a longer data set replaces it.
        size = min(self.count - number * _BURSTS_PER_SHARD, _BURSTS_PER_SHARD)
        partial = "" if size == _BURSTS_PER_SHARD else f"{_PARTIAL}{size}"
        return folder / f"shard-{number:05d}{partial}.tar"

    @property
    def noise(self) -> NoiseModel | None:
        """Noise model of all bursts; None for a random one each."""
        return None if self.gain == RANDOM_GAIN else protocol.noise_of_gain(int(self.gain))

    @property
    def synth_config(self) -> SynthConfig:
        """Parameters of the bursts; at a gain of the protocol, all frames have its noise."""
        if self.gain == RANDOM_GAIN:
            return SynthConfig(frames=self.frames)
        return SynthConfig(frames=self.frames, misjudged=0, bracket=0, uneven=0)


def write_dataset(
    photos: Sequence[Path],
    folder: Path,
    config: DatasetConfig,
    *,
    workers: int = 1,
    write: Callable[[list[int]], Iterator[Path]] | None = None,
    on_part: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Write a data set, or complete one; existing parts are kept.

    Args:
        photos: readable photos of `config.photo_pixels` or more each way.
        folder: of the data set; made unless it exists. It may hold a part of the same data set,
            also one with a smaller count.
        config: settings.
        workers: number of processes; it does not change the bytes.
        write: writes the parts of these numbers instead (`on_cluster.write_parts`), and yields the
            path of each; None for processes of this machine.
        on_part: called with the path of each part that exists or has been written.

    Returns:
        Paths of the parts.

    Raises:
        KpnError: if the folder holds a data set with other settings, or something that has the
            name of a part and is none, or cannot be written, or a package that the format needs
            is not installed.
    """
    config.check_installed()
    make_folder(folder)

    here = partial(_write_parts, photos, folder, config, workers=workers)
    with lock_folder(folder):
        return _complete(photos, folder, config, write or here, on_part)


def _complete(
    photos: Sequence[Path],
    folder: Path,
    config: DatasetConfig,
    write: Callable[[list[int]], Iterator[Path]],
    on_part: Callable[[Path], None],
) -> list[Path]:
    """Write the missing parts."""
    _record_settings(folder, photos, config)
    remove_temporaries(folder)
    parts = [config.part_path(folder, number) for number in range(config.part_count)]
    missing = []
    for number, path in enumerate(parts):
        if is_finished(path, config):
            on_part(path)
        else:
            missing.append(number)
    if missing:
        for path in write(missing):
            on_part(path)
    for shorter in set(folder.glob(f"shard-*{_PARTIAL}*.tar")) - set(parts):
        shorter.unlink()  # a longer shard has the same bursts now
    return parts


def is_finished(path: Path, config: DatasetConfig) -> bool:
    """Whether a part exists.

    Raises:
        KpnError: if something else has its name: parts are complete when they get it.
    """
    if not os.path.lexists(path):
        return False
    if config.format == "dng":
        frames = len(list(path.glob("IMG_*.dng")))
        whole = frames == config.frames and (path / "truth.tif").is_file()
    else:
        whole = path.is_file() and tarfile.is_tarfile(path)
    if not whole:
        raise _foreign(path)
    return True


def _foreign(path: Path) -> KpnError:
    return KpnError(
        f"{path}: has the name of a part of the data set, but is none, or not whole; move it away, "
        "or choose another folder"
    )


def _record_settings(folder: Path, photos: Sequence[Path], config: DatasetConfig) -> None:
    """Write the settings into the folder; refuse a folder with other settings."""
    settings = asdict(config)
    # As JSON gives it back; left out without a bracket, as in data sets of earlier versions.
    ev = [float(value) for value in settings.pop("ev")]
    settings |= {"ev": ev} if ev else {}
    settings["photos"] = [[path.name, path.stat().st_size] for path in photos]
    path = folder / DATASET_MARK
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        largest = int(before["count"])
    except FileNotFoundError:
        before, largest = settings, 0
        # The settings are written before the first part, so these are of something else.
        for part in (config.part_path(folder, number) for number in range(config.part_count)):
            if os.path.lexists(part):
                raise _foreign(part) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise KpnError(f"{path}: damaged; remove it, or choose another folder") from None
    keys = dict.fromkeys((*settings, "ev"))
    other = [key for key in keys if key != "count" and before.get(key) != settings.get(key)]
    if other:
        raise KpnError(
            f"{folder}: holds a data set with other {', '.join(other)}; "
            "give the same to complete it, or choose another folder"
        )
    if largest > config.count:
        raise KpnError(
            f"{folder}: holds {largest} bursts, more than --count {config.count}; "
            "choose another folder"
        )
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _write_parts(
    photos: Sequence[Path], folder: Path, config: DatasetConfig, numbers: list[int], workers: int
) -> Iterator[Path]:
    """Write parts, in this process or in workers; yield the path of each when it is complete."""
    if workers < 2 or len(numbers) < 2:
        scenes = ScenesOnDisk(photos, PHOTOS_PER_SHARD)
        for number in numbers:
            yield write_part(scenes, folder, config, number)
        return
    # Spawned, not forked: the threads of torch and OpenCV do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (list(photos),)) as pool:
        try:
            futures = [
                pool.submit(_write_part_in_worker, folder, config, number) for number in numbers
            ]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise KpnError(
                "a worker was killed, perhaps for lack of memory; run the same command again, "
                "with fewer --workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_scenes: ScenesOnDisk  # in a worker process only


def _start_worker(photos: list[Path]) -> None:
    global _scenes
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _scenes = ScenesOnDisk(photos, PHOTOS_PER_SHARD)


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_part_in_worker(folder: Path, config: DatasetConfig, number: int) -> Path:
    return write_part(_scenes, folder, config, number)


def write_part(scenes: Sequence[Scene], folder: Path, config: DatasetConfig, number: int) -> Path:
    """Write a part of a data set, whole or not at all; return its path.

    Args:
        scenes: of the photos.
        folder: of the data set.
        config: settings.
        number: of the part, from 0.

    Raises:
        KpnError: if it cannot be written.
    """
    path = config.part_path(folder, number)
    if config.format == "dng":
        with atomic_folder(path) as temporary:
            _write_burst(scenes, temporary, config, number)
    else:
        order = np.random.default_rng((config.seed, number, 1)).permutation(len(scenes))
        chosen = [scenes[int(n)] for n in order[:PHOTOS_PER_SHARD]]
        first = number * _BURSTS_PER_SHARD
        numbers = range(first, min(first + _BURSTS_PER_SHARD, config.count))
        shards.write_shard(path, ((n, _draw(chosen, config, n)) for n in numbers))
    return path


def _draw(scenes: Sequence[Scene], config: DatasetConfig, number: int) -> Patch:
    rng = np.random.default_rng((config.seed, number))
    return draw_patch(scenes, rng, config.frames, config.synth_config, config.noise)


def _write_burst(scenes: Sequence[Scene], folder: Path, config: DatasetConfig, number: int) -> None:
    """Write frames, ground truth and its description into an empty folder."""
    rng = np.random.default_rng((config.seed, number))
    bracket, brightness = _draw_bracket(config, number)
    colours = draw_colours(rng, config.synth_config)
    shake = bracket.shake if bracket else None
    planes = draw_handheld(
        scenes,
        number % len(scenes),
        rng,
        config.frames,
        colours,
        shake=shake,
        highlights=brightness,
    )
    red, blue = rng.uniform(1.2, 2.4, 2)
    white_level = 10 ** rng.uniform(-1, 0)
    if brightness == 1:
        clean = undo_white_balance(planes, red, blue) * np.float32(white_level)
    else:  # highlights clip when they are recorded; until then they have the colour of the light
        balance = np.array([1 / red, 1, 1, 1 / blue], np.float32)
        clean = planes * balance[:, None, None] * np.float32(white_level)
    noise = config.noise or draw_noise(rng, config.synth_config)
    burst = noise.sample(bracket.expose(clean) if bracket else clean, rng)
    add_faults(rng, burst, noise, config.synth_config, aligned=False)
    camera = Camera(
        phase=bayer.PHASES[rng.integers(len(bayer.PHASES))],
        bits=int(rng.integers(10, 15)),
        neutral=(1 / red, 1.0, 1 / blue),
    )
    start = _START + timedelta(minutes=number)
    profile = draw_noise_profile(rng, noise, config.synth_config)
    evs = bracket.evs if bracket else ()
    paths = write_frames(folder, burst, profile, camera, start, "synth", evs=evs)
    black, white = _write_truth(folder / TRUTH, clean[0], camera.phase)
    description: dict[str, object] = {
        "photo": scenes[number % len(scenes)].name,
        "cfa": camera.phase,
        "black": black,
        "white": white,
        "white_level": white_level,
        "shot": noise.shot[0],
        "read": noise.read[0] + camera.rounding_variance,
    }
    if bracket:
        description["highlights"] = brightness
        description["frames"] = [
            {"file": path.name, "ev": ev, "brightness": gain}
            for path, ev, gain in zip(paths, bracket.evs, bracket.gains.tolist(), strict=True)
        ]
    text = json.dumps(description, indent=1) + "\n"
    (folder / TRUTH_DESCRIPTION).write_text(text, encoding="utf-8")


def _write_truth(path: Path, clean: np.ndarray, phase: str) -> tuple[int, float]:
    """Write a noiseless frame `(4, rows, columns)` as a 16-bit mosaic.

    Signals beyond white are kept: where there are any, the white level is lowered by halves until
    there is room for them.

    Returns:
        Black level and white level of the mosaic.
    """
    room = 2 ** max(0, math.ceil(math.log2(max(float(clean.max()), 1.0))))
    height, width = 2 * clean.shape[1], 2 * clean.shape[2]
    mosaic, black, white = encode_planes(clean / room, phase, height, width)
    tifffile.imwrite(path, mosaic, metadata=None, software=False)
    return black, white if room == 1 else black + (white - black) / room


def _draw_bracket(config: DatasetConfig, number: int) -> tuple[Bracket | None, float]:
    """Return the bracket of a burst, None without one, and the brightness of its highlights."""
    if not config.ev:
        return None, 1.0
    rng = np.random.default_rng((config.seed, number, _BRACKET_STREAM))
    bracket = draw_bracket(rng, config.ev, config.frames)
    bright = rng.random() < _BRIGHT_CHANCE
    return bracket, float(2 ** rng.uniform(*_BRIGHT_EV)) if bright else 1.0
