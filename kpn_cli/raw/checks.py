"""What is no raw mosaic, or not all of one: refused before it costs memory or a picture.

LibRaw decodes some broken files into zeros without complaint, and some pictures that
are no Bayer mosaic into something that looks like one. Each check says what the file
is and what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np

from ..errors import refuse, refuse_unreadable
from .tags import PHOTOMETRIC_LINEAR_RAW, Metadata, Tag

#: No codec for mosaics goes below this: lossless JPEG needs a bit a pixel, lossy ones
#: a few tenths. Fewer means that most of the picture is missing.
_MIN_BITS_PER_PIXEL = 0.1

#: Vendors' own TIFF dialects round their byte counts; a DNG has to be complete.
_MISSING_TOLERATED = 0.001

#: Rows of one value at the bottom that count as missing: this part of the height, and
#: no fewer than this. Cameras do leave a dead row or two.
_EMPTY_TAIL, _EMPTY_TAIL_ROWS = 0.02, 8

_COPY_AGAIN = "copy it from the camera or card again"

_QUICKTAKE_MAGIC = (b"qktk", b"qktn")
_KODAK_KDC = 32867
_JPEG_XL = 52546
_FLOAT = 3

#: Colours by their codes: red, green, blue; cyan, magenta, yellow, with green or without.
_RED_GREEN_BLUE = frozenset((0, 1, 2))
_COMPLEMENTARY = {frozenset((3, 4, 5)), frozenset((1, 3, 4, 5))}


def check_file(path: Path) -> None:
    """Refuse what can't be read at all: nothing there, a folder, a pipe, no bytes.

    Raises:
        KpnError: with the reason.
    """
    try:
        if path.is_dir():
            refuse(path, "is a folder, not a raw file", "pass the files in it")
        if not path.exists():
            refuse(path, "no such file", "check the name")
        # Opening a pipe would wait for ever.
        if not path.is_file():
            refuse(path, "is no ordinary file", "pass a raw photo")
        with open(path, "rb") as file:
            head = file.read(4)
    except (OSError, ValueError) as error:
        refuse_unreadable(path, error)
    if not head:
        refuse(path, "the file is empty", _COPY_AGAIN)
    if head in _QUICKTAKE_MAGIC:
        # Its codec predicts pixels from neighbours of other colours: no sensor noise is left.
        refuse(path, "an Apple QuickTake picture, not sensor data", "pass raw files of a camera")


def check_tags(path: Path, metadata: Metadata) -> None:
    """Refuse what the tags say is no integer Bayer mosaic, or is longer than the file.

    Raises:
        KpnError: with what the file is.
    """
    picture = metadata.picture_numbers
    compression = picture(Tag.COMPRESSION)
    if compression == (_JPEG_XL,):
        refuse(
            path, "JPEG XL compression (DNG 1.7), which LibRaw can't decode",
            "convert it to a lossless DNG 1.4 with Adobe DNG Converter",
        )  # fmt: skip
    if compression == (_KODAK_KDC,):
        # LibRaw rebuilds colours at a quarter of the resolution: these aren't samples.
        refuse(path, "Kodak's early lossy format, not sensor data", "pass raw files of a camera")
    if picture(Tag.PHOTOMETRIC) == (PHOTOMETRIC_LINEAR_RAW,):
        if picture(Tag.SAMPLES_PER_PIXEL) in ((), (1,)):
            refuse_colours(path, "a monochrome raw")
        refuse_demosaiced(path)
    if picture(Tag.SAMPLE_FORMAT)[:1] == (_FLOAT,):
        refuse(path, "a floating-point raw", "pass the integer raw files it was merged from")
    _check_filters(path, metadata)
    _check_segments(path, metadata)


def _check_filters(path: Path, metadata: Metadata) -> None:
    """Refuse a CFAPattern with a colour that isn't among those of the mosaic.

    LibRaw then takes whatever lies in memory for it, another one each time. The colours are
    those of CFAPlaneColor, or red, green, blue, or (codes of TIFF/EP) the complementary ones.
    """
    planes = frozenset(metadata.picture_integers(Tag.CFA_PLANE_COLOR))
    pattern = frozenset(metadata.picture_integers(Tag.CFA_PATTERN))
    if not (pattern <= (planes or _RED_GREEN_BLUE) or (not planes and pattern in _COMPLEMENTARY)):
        colours = ", ".join(map(str, sorted(pattern)))
        refuse(path, f"its colour filters ({colours}) are none of its colours", _COPY_AGAIN)


def refuse_demosaiced(path: Path) -> NoReturn:
    """Raise the error for linear DNG, sRAW, Foveon: three colours at every pixel."""
    refuse(
        path, "already has all colours at every pixel (linear DNG, sRAW or Foveon)",
        "pass the camera's original Bayer raw",
    )  # fmt: skip


def refuse_colours(path: Path, what: str) -> NoReturn:
    """Raise the error for a sensor that isn't Bayer RGB."""
    refuse(path, f"{what}, not a Bayer mosaic", "pass raw files of a camera with a Bayer sensor")


def _check_segments(path: Path, metadata: Metadata) -> None:
    """Refuse a picture whose strips or tiles end behind the file, or whose tiles are too few."""
    picture = metadata.picture_integers
    starts = picture(Tag.TILE_OFFSETS) or picture(Tag.STRIP_OFFSETS)
    lengths = picture(Tag.TILE_BYTE_COUNTS) or picture(Tag.STRIP_BYTE_COUNTS)
    # zip: vendors' dialects leave one of them out, or give them different lengths.
    parts = list(zip(starts, lengths, strict=False))
    promised = sum(length for _, length in parts)
    missing = sum(min(max(at + n - metadata.bytes, 0), n) for at, n in parts)
    if missing > (0 if metadata.is_dng else _MISSING_TOLERATED * promised):
        percent = 100 * missing / promised
        refuse(path, f"the file ends too early, {percent:.1f}% of its picture missing", _COPY_AGAIN)
    tiles = len(picture(Tag.TILE_OFFSETS))
    if metadata.is_dng and 0 < tiles < _tiles_needed(metadata):
        needed = _tiles_needed(metadata)
        refuse(path, f"it has only {tiles} of the {needed} tiles of its picture", _COPY_AGAIN)


def _tiles_needed(metadata: Metadata) -> int:
    needed = 1
    for whole, part in ((Tag.WIDTH, Tag.TILE_WIDTH), (Tag.HEIGHT, Tag.TILE_HEIGHT)):
        size, tile = metadata.picture_integers(whole), metadata.picture_integers(part)
        if size and tile and tile[0] > 0:
            needed *= -(-size[0] // tile[0])
    return needed


def check_size(path: Path, file_bytes: int, rows: int, columns: int) -> None:
    """Refuse a frame that the file's bytes can't hold, before memory is taken for it.

    Args:
        rows, columns: of the whole frame, in sensor pixels.

    Raises:
        KpnError: with both sizes.
    """
    if 8 * file_bytes < _MIN_BITS_PER_PIXEL * rows * columns:
        refuse(
            path, f"{file_bytes} bytes can't hold its {columns}x{rows} pixels: it is truncated",
            _COPY_AGAIN,
        )  # fmt: skip


def check_content(path: Path, mosaic: np.ndarray, white: float) -> None:
    """Refuse a mosaic that holds no picture, or whose end is missing.

    Noise makes rows of one value impossible where there is a signal, so rows in which
    every second pixel is the same are empty (every second: a decoder that has run
    dry repeats its last prediction for each colour). Rows at saturation are a
    picture; a dark frame is one too, as long as it has noise.

    Args:
        mosaic: `(height, width)` in DN.
        white: saturation, DN.

    Raises:
        KpnError: with what is missing.
    """
    largest = mosaic.max()
    if mosaic.min() == largest:
        refuse(path, f"every pixel is {largest}: there is no picture in it", _COPY_AGAIN)
    constant = (mosaic[:, 2:] == mosaic[:, :-2]).all(axis=1)
    saturated = mosaic[:, :2].min(axis=1) >= min(white, largest)
    empty = constant & ~saturated
    height = len(empty)
    tail = height if empty.all() else int(np.argmin(empty[::-1]))
    if tail >= max(_EMPTY_TAIL * height, _EMPTY_TAIL_ROWS):
        refuse(path, f"its last {tail} of {height} rows are empty: it is truncated", _COPY_AGAIN)
    if 2 * np.count_nonzero(empty) > height:
        refuse(path, f"{np.count_nonzero(empty)} of {height} rows are empty", _COPY_AGAIN)
