"""Ordinary photos as linear scenes, from which bursts are synthesised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import overload

import cv2
import numpy as np

from ..errors import KpnError, read_error
from ..image.srgb import srgb_decode
from .not_photos import DATASET_MARK, check_named, is_leftover, is_truth, what_else

#: File name suffixes of photos.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})

#: Photo pixels per cell of the mosaic: averaging over them hides JPEG's blocks.
PIXELS_PER_CELL = 4


@dataclass(frozen=True)
class Scene:
    """A photo in linear light, to be sampled by a mosaic of lower resolution.

    Attributes:
        name: the photo's file name.
        channels: `(3, height, width)` uint16 or float32, R, G, B, linear, 65535 = white. Each
            sample is the mean of 2x2 photo pixels, itself and those right and below, so that a
            mosaic pixel is a single sample at any shift by photo pixels.
    """

    name: str
    channels: np.ndarray

    @property
    def height(self) -> int:
        """Height in photo pixels."""
        return int(self.channels.shape[1])

    @property
    def width(self) -> int:
        """Width in photo pixels."""
        return int(self.channels.shape[2])

    def crop(self, rows: slice, columns: slice) -> Scene:
        """Return a crop, in photo pixels; it shares memory."""
        return Scene(self.name, self.channels[:, rows, columns])

    def resized(self, height: int, width: int) -> Scene:
        """Return the scene in another size, in photo pixels."""
        if (height, width) == (self.height, self.width):
            return self
        resized = [
            cv2.resize(c, (width, height), interpolation=cv2.INTER_AREA) for c in self.channels
        ]
        return Scene(self.name, np.stack(resized))

    def with_primaries(self, matrix: np.ndarray) -> Scene:
        """Return the scene in other primaries.

        Args:
            matrix: `(3, 3)`, applied to R, G, B of each sample.
        """
        flat = self.channels.reshape(3, -1).astype(np.float32)
        channels = matrix.astype(np.float32) @ flat
        return Scene(self.name, channels.reshape(3, self.height, self.width))

    def planes(self, cell_to_photo: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Sample the planes R, G1, G2, B of a mosaic.

        Args:
            cell_to_photo: `(2, 3)` affine map from cell (column, row, 1) to photo pixel (x, y).
                A cell is 4x4 photo pixels, as the mosaic has half the photo's resolution:
                `[[4, 0, x], [0, 4, y]]` is a crop without rotation.
            rows, columns: size of the planes in cells.

        Returns:
            `(4, rows, columns)` of the channels' type; interpolated bilinearly, mirrored beyond
            the photo's border.
        """
        out = np.empty((4, rows, columns), self.channels.dtype)
        on_pixels = _hits_photo_pixels(cell_to_photo)
        (xx, xy, x), (yx, yy, y) = cell_to_photo.tolist()
        for plane, (channel, row, column) in enumerate(
            ((0, 0, 0), (1, 0, 0.5), (1, 0.5, 0), (2, 0.5, 0.5))
        ):
            matrix = (xx, xy, x + xx * column + xy * row), (yx, yy, y + yx * column + yy * row)
            picture = self.channels[channel]
            samples = _strided_view(picture, matrix, rows, columns) if on_pixels else None
            if samples is not None:
                out[plane] = samples
                continue
            cv2.warpAffine(
                picture,
                np.array(matrix),
                (columns, rows),
                dst=out[plane],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT_101,
            )
        return out


def _hits_photo_pixels(matrix: np.ndarray) -> bool:
    """Whether a map takes each plane's samples to whole photo pixels along rows and columns."""
    (xx, xy, x), (yx, yy, y) = matrix.tolist()
    along_axes = (xy == yx == 0) != (xx == yy == 0)
    return along_axes and not (x % 1 or y % 1 or (xx + xy) % 2 or (yx + yy) % 2)


def _strided_view(
    picture: np.ndarray,
    matrix: tuple[tuple[float, float, float], ...],
    rows: int,
    columns: int,
) -> np.ndarray | None:
    """Return samples on whole photo pixels as a view, in a fifth of the time of a warp.

    None if some lie beyond the border.
    """
    (xx, xy, x), (yx, yy, y) = matrix
    swapped = xx == 0
    down, right = (yx, xy) if swapped else (yy, xx)
    high, wide = (columns, rows) if swapped else (rows, columns)
    vertical = _strided_slice(y, down, high, picture.shape[0])
    horizontal = _strided_slice(x, right, wide, picture.shape[1])
    if vertical is None or horizontal is None:
        return None
    view = picture[vertical, horizontal]
    return view.T if swapped else view


def _strided_slice(start: float, step: float, number: int, length: int) -> slice | None:
    """Return the slice of `number` samples from `start`; None if it leaves [0, length)."""
    last = start + step * (number - 1)
    if not 0 <= min(start, last) <= max(start, last) < length:
        return None
    stop = last + step
    return slice(int(start), int(stop) if stop >= 0 else None, int(step))


@cache
def _linear_from_byte() -> np.ndarray:
    return np.round(65535 * srgb_decode(np.arange(256) / 255)).astype(np.uint16)


def scene_from_srgb(name: str, photo: np.ndarray) -> Scene:
    """Make a scene from an sRGB photo, `(height, width, 3)` uint8, R, G, B."""
    linear = cv2.boxFilter(
        _linear_from_byte()[photo], -1, (2, 2), anchor=(0, 0), borderType=cv2.BORDER_REFLECT_101
    )
    return Scene(name, np.ascontiguousarray(linear.transpose(2, 0, 1)))


def load_scene(path: Path) -> Scene:
    """Read a photo (8-bit sRGB, any common format) as a scene.

    Raises:
        KpnError: if the file cannot be read as a photo.
    """
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise read_error(path, error) from None
    try:
        photo = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    except cv2.error:
        photo = None
    if photo is None:
        raise KpnError(f"{path}: not a readable photo; remove it or convert it to JPEG")
    return scene_from_srgb(path.name, photo)


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """Return the photos among files and below folders, sorted within each folder.

    Raises:
        KpnError: if a path does not exist, a file is of another kind, or no photo is found.
    """
    found: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                found.extend(_photos_below(path))
            else:
                path.stat()
                check_named(path)
                found.append(path)
        except OSError as error:
            raise read_error(path, error) from None
    if not found:
        instead = what_else(paths)
        raise KpnError(
            f"no photos in {', '.join(map(str, paths))}"
            f"{instead and f' ({instead})'}; give JPEG, PNG or TIFF files"
        )
    return found


def _photos_below(folder: Path) -> list[Path]:
    if any((path / DATASET_MARK).exists() for path in (folder, *folder.absolute().parents)):
        raise KpnError(
            f"{folder}: a data set of kpn synth, whose bursts are no photos; "
            "give photos, or train on data sets made with --format shards"
        )
    datasets = {mark.parent for mark in folder.rglob(DATASET_MARK)}
    below = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(
        path
        for path in below
        if datasets.isdisjoint(path.parents) and not is_leftover(path) and not is_truth(path)
    )


def _usable(
    paths: Sequence[Path],
    at_least: int,
    on_photo: Callable[[], None],
    on_skip: Callable[[str], None],
    map_function: Callable[..., Iterable[Scene | KpnError]] = map,
) -> Iterator[tuple[Path, Scene]]:
    """Read photos one by one; report and skip those that cannot be used."""
    any_usable = False
    photos = find_photos(paths)
    for path, scene in zip(photos, map_function(_scene_or_error, photos), strict=True):
        if isinstance(scene, KpnError):
            on_skip(str(scene))
        else:
            if min(scene.height, scene.width) < at_least:
                size = f"{scene.width}x{scene.height}"
                on_skip(f"{path}: {size} is too small; at least {at_least}x{at_least} is needed")
            else:
                any_usable = True
                yield path, scene
        on_photo()
    if not any_usable:
        raise KpnError(f"no usable photo in {', '.join(map(str, paths))}")


def _scene_or_error(path: Path) -> Scene | KpnError:
    try:
        return load_scene(path)
    except KpnError as error:
        return error


def load_scenes(
    paths: Sequence[Path],
    *,
    at_least: int = 0,
    on_photo: Callable[[], None] = lambda: None,
    on_skip: Callable[[str], None] = lambda message: None,
) -> list[Scene]:
    """Read all photos among files and below folders; skip unusable ones.

    Args:
        paths: files and folders.
        at_least: smallest height and width, in photo pixels.
        on_photo: called after each photo.
        on_skip: called with a message for each photo that cannot be decoded or is too small.

    Raises:
        KpnError: if no photo is usable.
    """
    usable = load_named_scenes(paths, at_least=at_least, on_photo=on_photo, on_skip=on_skip)
    return [scene for _, scene in usable]


def load_named_scenes(
    paths: Sequence[Path],
    *,
    at_least: int = 0,
    on_photo: Callable[[], None] = lambda: None,
    on_skip: Callable[[str], None] = lambda message: None,
) -> list[tuple[Path, Scene]]:
    """Return what `load_scenes` does, each scene with the path of its photo."""
    with ThreadPoolExecutor() as pool:
        return list(_usable(paths, at_least, on_photo, on_skip, pool.map))


def readable_photos(
    paths: Sequence[Path],
    *,
    at_least: int = 0,
    on_photo: Callable[[], None] = lambda: None,
    on_skip: Callable[[str], None] = lambda message: None,
) -> list[Path]:
    """Return the paths of the photos that `load_scenes` reads; arguments and errors as there.

    It keeps only one photo in memory at a time.
    """
    return [path for path, _ in _usable(paths, at_least, on_photo, on_skip)]


class LazyScenes(Sequence[Scene], ABC):
    """Scenes that are read on access."""

    @abstractmethod
    def scene(self, index: int) -> Scene:
        """Return the scene at an index from 0."""

    @overload
    def __getitem__(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...

    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        numbers = range(len(self))[index]
        return self.scene(numbers) if isinstance(numbers, int) else [self.scene(n) for n in numbers]


class ScenesOnDisk(LazyScenes):
    """Scenes that are read on access; the last few stay in memory.

    For more photos than fit in memory.
    """

    def __init__(self, paths: Sequence[Path], keep: int = 8) -> None:
        self._paths = list(paths)
        self._load = lru_cache(keep)(load_scene)

    def __len__(self) -> int:
        return len(self._paths)

    def scene(self, index: int) -> Scene:
        """Return the scene at an index from 0."""
        return self._load(self._paths[index])
