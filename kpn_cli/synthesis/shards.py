"""Training bursts in tar files (shards), in the convention of WebDataset.

A burst (a sample) is three files of one name: `burst.npy`, `truth.npy` (the target) and `json`.
The `webdataset` library writes the shards and can read them; training reads them through an
index of its own, because a resumed run has to find burst n again, not the next in a stream.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KpnError, read_error
from ..image.noise_model import NoiseModel
from ..system.files import atomic
from .config import SynthConfig
from .patches import MapFunction, TrainingBatch, collate, draw_frame_count, patch_rng
from .sensor import Patch

#: Suffixes of a sample's files.
_SUFFIXES = ("burst.npy", "truth.npy", "json")
#: Unit of a tar file; an archive ends with blocks of zeros. POSIX.1-2017, pax, ustar format.
_BLOCK = 512
#: Largest file of a sample, in bytes; `burst.npy` of 8 frames of 64x64 cells has 2^18.
_LARGEST_FILE = 1 << 28


# --- writing ----------------------------------------------------------------


def encode_sample(patch: Patch) -> dict[str, object]:
    """Return a burst as the files of a sample: suffix -> content.

    Planes are stored as uint16; `x = (number - black) / (white - black)` restores the linear
    values to within half a step, including values below 0 and above 1.
    """
    low = min(float(patch.burst.min()), float(patch.target.min()), 0.0)
    high = max(float(patch.burst.max()), float(patch.target.max()), 1.0)
    scale = 65535 / (high - low)
    black = -low * scale

    def numbers(planes: np.ndarray) -> np.ndarray:
        return np.rint(planes.astype(np.float64) * scale + black).astype(np.uint16)

    description: dict[str, object] = {
        "black": black,
        "white": black + scale,
        "shot": patch.noise.shot,
        "read": patch.noise.read,
        "white_level": patch.white,
    }
    if patch.frame_noise:
        description["frames"] = {
            "shot": [model.shot for model in patch.frame_noise],
            "read": [model.read for model in patch.frame_noise],
            "clip": patch.clip,
        }
    return {
        "burst.npy": numbers(patch.burst),
        "truth.npy": numbers(patch.target),
        "json": description,
    }


def tar_writer() -> Any:
    """Return the class that writes shards, `webdataset.TarWriter`.

    Raises:
        KpnError: if `webdataset` is not installed.
    """
    try:
        from webdataset import TarWriter
    except ImportError:
        raise KpnError(
            "--format shards: webdataset is not installed; pip install 'kpn[research]'"
        ) from None
    return TarWriter


def write_shard(path: Path, patches: Iterable[tuple[int, Patch]]) -> None:
    """Write numbered bursts as a tar file, atomically; the same bursts give the same bytes.

    Raises:
        KpnError: if `webdataset` is not installed or the file cannot be written.
    """
    writer = tar_writer()
    with (
        atomic(path) as temporary,
        temporary.open("wb") as stream,
        writer(stream, user="kpn", group="kpn", mode=0o644, mtime=0) as tar,
    ):
        for number, patch in patches:
            tar.write({"__key__": f"{number:09d}", **encode_sample(patch)})


# --- reading ----------------------------------------------------------------


@dataclass(frozen=True)
class _ByteRange:
    """Where a file of a sample is stored in a tar file."""

    path: Path
    offset: int
    size: int


def find_shards(paths: Sequence[Path]) -> list[Path]:
    """Return the tar files among `paths` and directly inside folders; an empty list if none.

    Raises:
        KpnError: if some of the paths are shards and others are not.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in paths:
        inside = [path] * (path.suffix == ".tar")
        if os.path.isdir(path):  # hidden files are incomplete
            inside = [p for p in path.glob("*.tar") if not p.name.startswith(".")]
        found += sorted(inside)
        others += [] if inside else [path]
    if found and others:
        raise KpnError(f"{others[0]}: no shards here; give shards or photos, not both")
    return found


class ShardSource:
    """Training bursts from tar files; a `patches.BatchSource`.

    Attributes:
        digest: hash of the index.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Index tar files.

        Raises:
            KpnError: if one cannot be read or is cut off, or all of them together hold no burst.
        """
        self._samples: list[dict[str, _ByteRange]] = []
        for path in paths:
            self._samples += _index(path)
        if not self._samples:
            raise KpnError(f"{', '.join(map(str, paths))}: no bursts; make some with kpn synth")

        index = [
            (stored.path.name, stored.offset, stored.size)
            for sample in self._samples
            for stored in sample.values()
        ]
        self.digest = sha256(json.dumps(index).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Patch:
        """Read a burst.

        Raises:
            KpnError: if it is damaged.
        """
        sample = self._samples[index]
        try:
            description = json.loads(_read(sample["json"]))
            black, scale = description["black"], description["white"] - description["black"]
            burst, target = (_planes(_read(sample[name]), black, scale) for name in _SUFFIXES[:2])
            noise = _noise_model(description["shot"], description["read"])
            white = float(description["white_level"])
            if burst.ndim != 4 or burst.shape[1:] != target.shape or len(target) != 4:
                raise ValueError(f"shapes {burst.shape} and {target.shape}")
            if not 0 < white <= 1:
                raise ValueError(f"white level {white}")
            frame_noise, clip = _frame_noise(description.get("frames"), len(burst))
        except (
            KpnError,
            OSError,
            ArithmeticError,
            ValueError,
            KeyError,
            TypeError,
            MemoryError,
        ) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise KpnError(
                f"{sample['json'].path}: damaged burst ({reason}); make the file again"
            ) from None
        return Patch(burst, target, noise, white, frame_noise, clip)

    def copies(self) -> list[tuple[Path, Path]]:
        """Return the shards that begin with the same burst as an earlier one, each with that one.

        Raises:
            KpnError: if a burst cannot be read.
        """
        firsts: dict[Path, _ByteRange] = {}
        for sample in self._samples:
            firsts.setdefault(sample["burst.npy"].path, sample["burst.npy"])
        seen: dict[bytes, Path] = {}
        copies = []
        for path, stored in firsts.items():
            try:
                first = sha256(_read(stored)).digest()
            except OSError as error:
                raise read_error(path, error) from None
            if first in seen:
                copies.append((path, seen[first]))
            seen.setdefault(first, path)
        return copies

    def draw(
        self,
        seed: Sequence[int],
        members: Iterable[int],
        config: SynthConfig,
        map_function: MapFunction = map,
    ) -> TrainingBatch:
        """Return bursts of the batch that `seed` determines, chosen at random from the shards.

        `config` determines the number of frames and the size of the patches; all else was
        decided when the shards were made.

        Raises:
            KpnError: if a burst is damaged or has too few frames.
        """
        count = draw_frame_count(seed, config)

        def draw(member: int) -> Patch:
            patch = self[int(patch_rng(seed, member).integers(len(self)))]
            if patch.target.shape[1:] != (config.cells, config.cells):
                raise KpnError(
                    f"the shards hold patches of {patch.target.shape[1:]} cells, this run needs "
                    f"{config.cells}; make them again with this version of kpn synth"
                )
            if len(patch.burst) < count:
                raise KpnError(
                    f"the shards hold bursts of {len(patch.burst)} frames, this run needs {count}; "
                    f"make them with kpn synth --frames {config.frames}"
                )
            return patch.first(count)

        return collate(list(map_function(draw, members)))


def _index(path: Path) -> list[dict[str, _ByteRange]]:
    """Return the samples of a tar file: suffix -> where the file is stored.

    Raises:
        KpnError: if it cannot be read, is cut off, or a sample lacks a file.
    """
    samples: dict[str, dict[str, _ByteRange]] = {}
    end = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                size = member.size if member.isfile() else 0
                end = member.offset_data + -(-size // _BLOCK) * _BLOCK
                key, _, suffix = member.name.partition(".")
                if member.isfile() and suffix in _SUFFIXES and member.size <= _LARGEST_FILE:
                    stored = _ByteRange(path, member.offset_data, member.size)
                    samples.setdefault(key, {})[suffix] = stored
        with open(path, "rb") as file:
            file.seek(end)
            cut_off = file.read(_BLOCK) != bytes(_BLOCK)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise KpnError(f"{path}: cannot be read as a shard ({error}); make it again") from None
    # tarfile takes the end of the file for that of the archive if it falls between two members.
    if cut_off:
        raise KpnError(f"{path}: the shard is cut off; copy or make it again")
    for key, sample in samples.items():
        lacking = [suffix for suffix in _SUFFIXES if suffix not in sample]
        if lacking:
            raise KpnError(f"{path}: burst {key} has no {' and '.join(lacking)}; make it again")
    return list(samples.values())


def _noise_model(shot: Any, read: Any) -> NoiseModel:
    # NoiseModel checks number and range of the coefficients.
    return NoiseModel(tuple(shot), tuple(read))


def _frame_noise(
    description: dict[str, Any] | None, count: int
) -> tuple[tuple[NoiseModel, ...], tuple[float, ...]]:
    """Return noise model and clipping point of each frame; empty where all are exposed alike."""
    if description is None:
        return (), ()
    models = tuple(
        _noise_model(shot, read)
        for shot, read in zip(description["shot"], description["read"], strict=True)
    )
    clip = tuple(float(value) for value in description["clip"])
    if not len(models) == len(clip) == count or not all(value > 0 for value in clip):
        raise ValueError(f"{len(models)} noise models and clipping points {clip} of {count} frames")
    return models, clip


def _read(stored: _ByteRange) -> bytes:
    with open(stored.path, "rb") as file:
        file.seek(stored.offset)
        return file.read(stored.size)


def _planes(content: bytes, black: float, scale: float) -> np.ndarray:
    numbers: np.ndarray = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    planes: np.ndarray = (numbers.astype(np.float32) - np.float32(black)) * np.float32(1 / scale)
    return planes
