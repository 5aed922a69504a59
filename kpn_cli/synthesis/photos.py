"""Ordinary photos as linear scenes, the raw material of training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..errors import KpnError, read_error
from ..image.srgb import srgb_decode

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})


#: A cell of the mosaic is so many photo pixels wide: area averaging hides JPEG's blocks.
PIXELS_PER_CELL = 4
#: Marks a folder that `kpn synth` made; what lies in it is no photo.
DATASET_MARK = "dataset.json"


@dataclass(frozen=True)
class Scene:
    """A photo in linear light, ready to be photographed again by a smaller sensor.

    Attributes:
        name: the photo's file name.
        channels: `(3, height, width)` uint16 or float32, R, G, B, linear, 65535 =
            white. Each sample is the mean of the 2x2 photo pixels from it to the lower right,
            so that a mosaic pixel of any sub-pixel shift is a single sample.
    """

    name: str
    channels: np.ndarray

    @property
    def height(self) -> int:
        """In photo pixels."""
        return self.channels.shape[1]

    @property
    def width(self) -> int:
        """In photo pixels."""
        return self.channels.shape[2]

    def part(self, rows: slice, columns: slice) -> Scene:
        """Cut a part out, in photo pixels; shares memory."""
        return Scene(self.name, self.channels[:, rows, columns])

    def fitted(self, height: int, width: int) -> Scene:
        """The same in another size, enlarged or reduced."""
        if (height, width) == (self.height, self.width):
            return self
        resized = [
            cv2.resize(c, (width, height), interpolation=cv2.INTER_AREA) for c in self.channels
        ]
        return Scene(self.name, np.stack(resized))

    def mixed(self, matrix: np.ndarray) -> Scene:
        """The same in other primaries: `matrix`, `(3, 3)`, is applied to each sample's R, G, B."""
        flat = self.channels.reshape(3, -1).astype(np.float32)
        channels = matrix.astype(np.float32) @ flat
        return Scene(self.name, channels.reshape(3, self.height, self.width))

    def planes(self, cell_to_photo: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Sample the planes R, G1, G2, B of a mosaic laid over the photo.

        Args:
            cell_to_photo: `(2, 3)` affine map from cell (column, row, 1) to photo
                pixel (x, y). A cell is 4x4 photo pixels, for a mosaic of half the
                photo's resolution: `[[4, 0, x], [0, 4, y]]` is an unturned crop.
            rows, columns: size of the planes in cells.

        Returns:
            `(4, rows, columns)` of the channels' type; bilinear between photo pixels, mirrored
            beyond the photo's border.
        """
        out = np.empty((4, rows, columns), self.channels.dtype)
        whole = _is_whole(cell_to_photo)
        (xx, xy, x), (yx, yy, y) = cell_to_photo.tolist()
        for plane, (channel, row, column) in enumerate(
            ((0, 0, 0), (1, 0, 0.5), (1, 0.5, 0), (2, 0.5, 0.5))
        ):
            here = (xx, xy, x + xx * column + xy * row), (yx, yy, y + yx * column + yy * row)
            picture = self.channels[channel]
            every = _whole_steps(picture, here, rows, columns) if whole else None
            if every is not None:
                out[plane] = every
                continue
            cv2.warpAffine(
                picture,
                np.array(here),
                (columns, rows),
                dst=out[plane],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT_101,
            )
        return out


def _is_whole(matrix: np.ndarray) -> bool:
    """Whether a map leads every plane's samples to photo pixels, unturned."""
    (xx, xy, x), (yx, yy, y) = matrix.tolist()
    straight = (xy == yx == 0) != (xx == yy == 0)
    return straight and not (x % 1 or y % 1 or (xx + xy) % 2 or (yx + yy) % 2)


def _whole_steps(
    picture: np.ndarray,
    matrix: tuple[tuple[float, float, float], ...],
    rows: int,
    columns: int,
) -> np.ndarray | None:
    """The samples of a whole map as a view, a fifth of the time; None beyond the border."""
    (xx, xy, x), (yx, yy, y) = matrix
    swapped = xx == 0
    down, right = (yx, xy) if swapped else (yy, xx)
    high, wide = (columns, rows) if swapped else (rows, columns)
    vertical = _steps(y, down, high, picture.shape[0])
    horizontal = _steps(x, right, wide, picture.shape[1])
    if vertical is None or horizontal is None:
        return None
    view = picture[vertical, horizontal]
    return view.T if swapped else view


def _steps(start: float, step: float, number: int, length: int) -> slice | None:
    """The slice of `number` samples from `start`, unless it leaves [0, length)."""
    last = start + step * (number - 1)
    if not 0 <= min(start, last) <= max(start, last) < length:
        return None
    stop = last + step
    return slice(int(start), int(stop) if stop >= 0 else None, int(step))


@cache
def _linear_of_byte() -> np.ndarray:
    return np.round(65535 * srgb_decode(np.arange(256) / 255)).astype(np.uint16)


def scene_from_srgb(name: str, photo: np.ndarray) -> Scene:
    """Make a scene from an sRGB photo, `(height, width, 3)` uint8 in the order R, G, B."""
    linear = cv2.boxFilter(
        _linear_of_byte()[photo], -1, (2, 2), anchor=(0, 0), borderType=cv2.BORDER_REFLECT_101
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
        raise KpnError(f"{path}: not a photo that can be decoded; remove it or convert it to JPEG")
    return scene_from_srgb(path.name, photo)


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """Return the photos among files and below folders, sorted within each folder.

    Raises:
        KpnError: if a path does not exist or no photo is found.
    """
    found: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                found.extend(_photos_below(path))
            else:
                path.stat()
                found.append(path)
        except OSError as error:
            raise read_error(path, error) from None
    if not found:
        raise KpnError(f"no photos in {', '.join(map(str, paths))}; give JPEG, PNG or TIFF files")
    return found


def _photos_below(folder: Path) -> list[Path]:
    if any((place / DATASET_MARK).exists() for place in (folder, *folder.absolute().parents)):
        raise KpnError(
            f"{folder}: a data set of kpn synth, whose bursts are no photos; "
            "training takes photos, or sets made with --format shards"
        )
    made = {mark.parent for mark in folder.rglob(DATASET_MARK)}
    below = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in below if made.isdisjoint(p.parents))


def _usable(
    paths: Sequence[Path],
    at_least: int,
    on_photo: Callable[[], None],
    on_skip: Callable[[str], None],
) -> Iterator[tuple[Path, Scene]]:
    """Read the photos one by one; name and skip those that cannot be used."""
    none = True
    for path in find_photos(paths):
        try:
            scene = load_scene(path)
        except KpnError as error:
            on_skip(str(error))
        else:
            if min(scene.height, scene.width) < at_least:
                size = f"{scene.width}x{scene.height}"
                on_skip(f"{path}: {size} is too small; at least {at_least}x{at_least} is needed")
            else:
                none = False
                yield path, scene
        on_photo()
    if none:
        raise KpnError(f"no usable photo in {', '.join(map(str, paths))}")


def load_scenes(
    paths: Sequence[Path],
    *,
    at_least: int = 0,
    on_photo: Callable[[], None] = lambda: None,
    on_skip: Callable[[str], None] = lambda message: None,
) -> list[Scene]:
    """Read all photos among files and below folders.

    Photos that cannot be decoded, or are smaller than `at_least` photo pixels
    either way, are skipped and named through `on_skip`.

    Raises:
        KpnError: if nothing is left.
    """
    return [scene for _, scene in _usable(paths, at_least, on_photo, on_skip)]


def readable_photos(
    paths: Sequence[Path],
    *,
    at_least: int = 0,
    on_photo: Callable[[], None] = lambda: None,
    on_skip: Callable[[str], None] = lambda message: None,
) -> list[Path]:
    """Return the photos that `load_scenes` would read, without keeping them in memory.

    Raises:
        KpnError: if there is none.
    """
    return [path for path, _ in _usable(paths, at_least, on_photo, on_skip)]


class PhotosOnDisk(Sequence[Scene]):
    """Scenes that are read when they are asked for; the last few stay in memory.

    For many photos of which each process takes few at a time.
    """

    def __init__(self, paths: Sequence[Path], keep: int = 8) -> None:
        self._paths = list(paths)
        self._load = lru_cache(keep)(load_scene)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Scene:
        return self._load(self._paths[index])
