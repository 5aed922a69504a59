"""Training bursts in tar files, in the convention of WebDataset.

A burst is three files of one name: `burst.npy`, `truth.npy` and `json`. Written with
the `webdataset` library, which reads them too; training reads them with an index of
its own, because a resumed run has to find burst n again, not the next in a stream.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..system.files import atomic
from .config import SynthConfig
from .patches import Batch, Map, collate, draw_count, patch_rng
from .sensor import Patch

_PARTS = ("burst.npy", "truth.npy", "json")
_LARGEST = 1 << 28  # bytes of a part; a burst of 64x64 cells has 2^18


# --- writing ----------------------------------------------------------------


def encode(patch: Patch) -> dict[str, object]:
    """Return a burst as the parts of a sample.

    `x = (number - black) / (white - black)` gives the linear planes back, within half
    a step; all of them fit, negative ones and those above 1 too.
    """
    low = min(float(patch.burst.min()), float(patch.truth.min()), 0.0)
    high = max(float(patch.burst.max()), float(patch.truth.max()), 1.0)
    scale = 65535 / (high - low)
    black = -low * scale

    def numbers(planes: np.ndarray) -> np.ndarray:
        return np.rint(planes.astype(np.float64) * scale + black).astype(np.uint16)

    about = {
        "black": black,
        "white": black + scale,
        "shot": patch.noise.shot,
        "read": patch.noise.read,
        "white_level": patch.white,
    }
    if patch.frame_noise:
        about["frames"] = {
            "shot": [model.shot for model in patch.frame_noise],
            "read": [model.read for model in patch.frame_noise],
            "clip": patch.clip,
        }
    return {"burst.npy": numbers(patch.burst), "truth.npy": numbers(patch.truth), "json": about}


def write_shard(path: Path, patches: Iterable[tuple[int, Patch]]) -> None:
    """Write numbered bursts as a tar file, whole or not at all; same bursts, same bytes.

    Raises:
        KpnError: if the library is missing or the file cannot be written.
    """
    try:
        from webdataset import TarWriter
    except ImportError:
        raise KpnError(
            "--format shards: webdataset is not installed; pip install 'kpn[research]'"
        ) from None
    with (
        atomic(path) as temporary,
        temporary.open("wb") as stream,
        TarWriter(stream, user="kpn", group="kpn", mode=0o644, mtime=0) as tar,
    ):
        for number, patch in patches:
            tar.write({"__key__": f"{number:09d}", **encode(patch)})


# --- reading ----------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where a part of a sample lies."""

    path: Path
    offset: int
    size: int


def find_shards(paths: Sequence[Path]) -> list[Path]:
    """Return the tar files among `paths` and directly inside folders; none if there are none.

    Raises:
        KpnError: if some of the paths are shards and others are not.
    """
    found: list[Path] = []
    others: list[Path] = []
    for path in paths:
        # Hidden files are half-written ones.
        inside = [p for p in path.glob("*.tar") if not p.name.startswith(".")]
        inside = inside if path.is_dir() else [path] * (path.suffix == ".tar")
        found += sorted(inside)
        others += [] if inside else [path]
    if found and others:
        raise KpnError(f"{others[0]}: no shards; give shards or photos, not both")
    return found


class Shards:
    """Bursts from tar files; a `patches.Source`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Index the files.

        Raises:
            KpnError: if one cannot be read, or holds no bursts.
        """
        self._samples: list[dict[str, _Place]] = []
        for path in paths:
            self._samples += _index(path)
        if not self._samples:
            raise KpnError(f"{', '.join(map(str, paths))}: no bursts; make some with kpn synth")

        parts = [(place.path.name, place.offset, place.size) for s in self._samples
                 for place in s.values()]  # fmt: skip
        self.digest = sha256(json.dumps(parts).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Patch:
        """Read a burst.

        Raises:
            KpnError: if it is damaged.
        """
        parts = self._samples[index]
        where = parts["json"].path
        try:
            about = json.loads(_read(parts["json"]))
            levels = about["black"], about["white"] - about["black"]
            burst, truth = (_planes(_read(parts[name]), *levels) for name in _PARTS[:2])
            noise = NoiseModel(tuple(about["shot"]), tuple(about["read"]))
            white = float(about["white_level"])
            if burst.ndim != 4 or burst.shape[1:] != truth.shape or len(truth) != 4:
                raise ValueError(f"shapes {burst.shape} and {truth.shape}")
            if not 0 < white <= 1:
                raise ValueError(f"white level {white}")
            frame_noise, clip = _frames(about.get("frames"), len(burst))
        except (OSError, ArithmeticError, ValueError, KeyError, TypeError, MemoryError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise KpnError(f"{where}: damaged burst ({reason}); make the file again") from None
        return Patch(burst, truth, noise, white, frame_noise, clip)

    def draw(
        self, seed: Sequence[int], members: Iterable[int], config: SynthConfig, each: Map = map
    ) -> Batch:
        """Return some members of the batch that `seed` stands for: bursts at random.

        Of `config`, the number of frames and their chances count; the rest was decided
        when the bursts were made.

        Raises:
            KpnError: if a burst is damaged or has too few frames.
        """
        count = draw_count(seed, config)

        def draw(member: int) -> Patch:
            patch = self[int(patch_rng(seed, member).integers(len(self)))]
            if patch.truth.shape[1:] != (config.cells, config.cells):
                raise KpnError(
                    f"the shards hold patches of {patch.truth.shape[1:]} cells, this run needs "
                    f"{config.cells}; make them again with this version of kpn synth"
                )
            if len(patch.burst) < count:
                raise KpnError(
                    f"the shards hold bursts of {len(patch.burst)} frames, this run needs {count}; "
                    f"make them with kpn synth --frames {config.frames}"
                )
            return patch.first(count)

        return collate(list(each(draw, members)))


def _index(path: Path) -> list[dict[str, _Place]]:
    samples: dict[str, dict[str, _Place]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, part = member.name.partition(".")
                if member.isfile() and part in _PARTS and member.size <= _LARGEST:
                    place = _Place(path, member.offset_data, member.size)
                    samples.setdefault(key, {})[part] = place
    except (OSError, tarfile.TarError, EOFError) as error:
        raise KpnError(f"{path}: cannot be read as a shard ({error}); make it again") from None
    return [parts for parts in samples.values() if len(parts) == len(_PARTS)]


def _frames(
    about: dict[str, list] | None, count: int
) -> tuple[tuple[NoiseModel, ...], tuple[float, ...]]:
    """Return noise and clipping point of each frame; none where all are exposed alike."""
    if about is None:
        return (), ()
    models = tuple(
        NoiseModel(tuple(shot), tuple(read))
        for shot, read in zip(about["shot"], about["read"], strict=True)
    )
    clip = tuple(float(value) for value in about["clip"])
    if not len(models) == len(clip) == count or not all(value > 0 for value in clip):
        raise ValueError(f"{len(models)} noise models and clipping points {clip} of {count} frames")
    return models, clip


def _read(place: _Place) -> bytes:
    with open(place.path, "rb") as file:
        file.seek(place.offset)
        return file.read(place.size)


def _planes(content: bytes, black: float, scale: float) -> np.ndarray:
    numbers = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return (numbers.astype(np.float32) - np.float32(black)) * np.float32(1 / scale)
