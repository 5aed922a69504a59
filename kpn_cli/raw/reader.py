"""Reads a raw file with LibRaw (rawpy): `Capture`, `RawInfo`, the mosaic, the planes.

Properties of LibRaw, found with DNGs made for the purpose (tests/raw/test_reader.py):

- `raw_pattern` is indexed from the origin of the whole frame, not of the visible area.
- LibRaw moves an odd ActiveArea origin to the next even row and column, which loses a
  line, and does not shift the BlackLevel pattern accordingly. So crop and black levels of
  a DNG come from its own tags, which also have fractions.
- `black_level_per_channel` lacks BlackLevel patterns larger than 2x2, and has the mean of
  BlackLevelDeltaH and V. So where the black level of a DNG differs within a plane, samples are
  raised to the highest one (`black.BlackMap`), as float32; other mosaics stay as recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import rawpy

from ..errors import KpnError, read_error, refuse
from ..image import bayer
from . import burst_tags, exif, images, white_balance
from .black import Area, BlackMap, dng_black
from .checks import (
    check_content,
    check_file,
    check_size,
    check_tags,
    refuse_demosaiced,
    refuse_not_bayer,
    segment_note,
)
from .chosen_image import check_chosen
from .info import Capture, RawInfo
from .levels import (
    LibRawExposure,
    black_levels,
    camera_crop,
    cfa_phase,
    color_matrix,
    libraw_exposure,
    pixel_aspect,
    visible_area,
)
from .marked_pixels import marked_pixels
from .results import is_by_kpn
from .saturation import saturation
from .tags import Metadata, Tag, read_metadata

#: LibRaw's flip -> Exif orientation.
_ORIENTATION = {0: 1, 3: 3, 5: 8, 6: 6}

#: What rawpy raises for a file: LibRaw's errors, and those of the system. Any other is kpn's fault
#: or the installation's, such as an `AttributeError` for what an older rawpy lacks.
_FILE_ERRORS = (rawpy.LibRawError, OSError, MemoryError)

_NO_MATRIX = "states no colour matrix; colours are developed as if the camera's were sRGB's"


def read_capture(path: str | Path) -> Capture:
    """Return when and how a photo was taken; takes a millisecond if its tags are complete.

    Otherwise the file is decoded: LibRaw evaluates MakerNotes only then. Of an output of kpn,
    nothing but that it is one.

    Raises:
        KpnError: if the file is not a Bayer raw, as far as is known without decoding.
    """
    path = Path(path)
    check_file(path)
    metadata = read_metadata(path)
    if is_by_kpn(metadata):
        return _output(path)
    check_tags(path, metadata)
    with _opened(path, metadata.file_bytes, decode=False) as raw:
        _, _, height, width = visible_area(raw, metadata)
        # Not cfa_phase: LibRaw has the pattern only after decoding.
        letters = raw.color_desc.decode("ascii", "replace")
        if raw.num_colors == 1:
            refuse_not_bayer(path, "a monochrome raw")
        if set(letters) - set("RGB"):
            refuse_not_bayer(path, f"a raw with {letters} colour filters")
        try:
            return _capture(path, raw, metadata, height, width)
        except rawpy.LibRawError as error:
            refuse(path, *_libraw_complaint(error))


def _output(path: Path) -> Capture:
    """Return the `Capture` of an output of kpn."""
    return Capture(
        path=path,
        make="",
        model="",
        serial="",
        height=0,
        width=0,
        iso=None,
        exposure_time=None,
        f_number=None,
        captured=None,
        by_kpn=True,
    )


def read_info(path: str | Path) -> RawInfo:
    """Return all facts about a raw file; of several frames in it, about the first.

    LibRaw has levels and colours only after decoding, so this takes as long as reading
    the pixels: some tenths of a second for a compressed photo.

    Raises:
        KpnError: if the file is not a Bayer raw, or damaged.
    """
    path = Path(path)
    metadata = _checked(path)
    found = _images(path, metadata)
    with _decoded(path, metadata.file_bytes, found.shots[0]) as raw:
        return _info(path, raw, metadata, found)[0]


def read_raw(path: str | Path, image: int = 0) -> tuple[RawInfo, np.ndarray]:
    """Return the results of `read_info` and `read_mosaic`, decoding the file only once.

    Args:
        path: the file.
        image: which of the frames in it (`RawInfo.images`).

    Returns:
        The facts, and the visible mosaic `(height, width)` in DN: uint16 as recorded, or float32
        where the black level differs within a plane: then as if it were `info.black` all over.

    Raises:
        KpnError: as both; also if the file has no such image.
    """
    path = Path(path)
    metadata = _checked(path)
    found = _images(path, metadata)
    if image >= len(found.shots):
        refuse(path, f"it has no image #{image}", "the file has changed; start again")
    if image:
        metadata = _of_image(metadata, image)
        check_tags(path, metadata)
    with _decoded(path, metadata.file_bytes, found.shots[image]) as raw:
        info, samples = _info(path, raw, metadata, found, image)
        mosaic = samples.copy()
    check_content(path, mosaic, info.white)
    return info, _at_one_black(mosaic, _area(info), metadata, info)


def read_mosaic(info: RawInfo) -> np.ndarray:
    """Return the visible mosaic, `(height, width)` in DN as by `read_raw`, a copy of its own.

    Raises:
        KpnError: if the file is gone, has changed, is blank or truncated.
    """
    check_file(info.path)
    metadata = _of_image(read_metadata(info.path), info.image)
    with _decoded(info.path, metadata.file_bytes, info.shot) as raw:
        mosaic = _visible(raw, _area(info)).copy()
    if mosaic.shape != (info.height, info.width):
        refuse(info.path, "the file has changed while in use", "start again")
    check_content(info.path, mosaic, info.white)
    return _at_one_black(mosaic, _area(info), metadata, info)


def read_frame(info: RawInfo) -> np.ndarray:
    """Return the whole frame with its masked borders, `(rows, columns)` in DN as by `read_raw`.

    Raises:
        KpnError: if the file is gone or damaged.
    """
    check_file(info.path)
    metadata = _of_image(read_metadata(info.path), info.image)
    with _decoded(info.path, metadata.file_bytes, info.shot) as raw:
        frame: np.ndarray = raw.raw_image.copy()
    rows, columns = frame.shape
    return _at_one_black(frame, (0, 0, rows, columns), metadata, info)


def read_planes(info: RawInfo) -> np.ndarray:
    """Return the linear planes R, G1, G2, B of a file: 0 is black, 1 is the white level.

    Negative values are kept: clipping would brighten the mean of shadows.

    Returns:
        `(4, cell_rows, cell_columns)` float32.

    Raises:
        KpnError: as `read_mosaic`.
    """
    planes = bayer.pack(read_mosaic(info), info.phase).astype(np.float32)
    black = np.asarray(info.black, np.float32)[:, None, None]
    planes -= black
    planes /= np.float32(info.white) - black
    return planes


# --- the file -------------------------------------------------------------------------


def _checked(path: Path) -> Metadata:
    """Return the tags of a file, after `check_file` and `check_tags`."""
    check_file(path)
    metadata = read_metadata(path)
    check_tags(path, metadata)
    return metadata


def _images(path: Path, metadata: Metadata) -> images.Images:
    """Return which raw images of a file may be frames of a burst."""
    if metadata.is_dng:
        return images.dng_images(metadata)
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise read_error(path, error) from None
    return _maker_images(path, changed, metadata.file_bytes)


@lru_cache(maxsize=8)
def _maker_images(path: Path, changed: int, file_bytes: int) -> images.Images:
    """Count the images of a file once until it changes: each that is tried is decoded.

    Args:
        path: the file.
        changed: time of its last change, which makes an older count invalid.
        file_bytes: its length.
    """
    return images.maker_images(read_metadata(path), lambda shot: _has_image(path, file_bytes, shot))


def _of_image(metadata: Metadata, image: int) -> Metadata:
    """Return a file's tags with those of one of its raw images."""
    if not image or not metadata.is_dng:
        return metadata
    return replace(metadata, raw=images.frame_directory(metadata, image))


def _has_image(path: Path, file_bytes: int, shot: int) -> bool:
    """Whether LibRaw knows a raw image of this number; if so, it is decoded."""
    try:
        with _opened(path, file_bytes, decode=False, shot=shot) as raw:
            raw.unpack()
    except rawpy.LibRawRequestForNonexistentImageError:
        return False
    except rawpy.LibRawError:  # it is there, but damaged
        return True
    except (KpnError, OSError, MemoryError):  # the whole file; its first image tells what is wrong
        return False
    return True


def _area(info: RawInfo) -> Area:
    return (*info.origin, info.height, info.width)


def _visible(raw: rawpy.RawPy, area: Area) -> np.ndarray:
    """Return the visible samples in LibRaw's memory: valid as long as the file is open."""
    top, left, height, width = area
    samples: np.ndarray = raw.raw_image[top : top + height, left : left + width]
    return samples


def _at_one_black(samples: np.ndarray, area: Area, metadata: Metadata, info: RawInfo) -> np.ndarray:
    """Return samples in an area of the frame, raised to `info.black` where black differs."""
    black, _ = _black_map(metadata, _area(info), info.white)
    if black is None or not black.varies(_area(info)):
        return samples
    levels = np.empty((2, 2))
    for pixel, plane in enumerate(bayer.plane_order(info.phase)):
        row, column = info.origin[0] + pixel // 2, info.origin[1] + pixel % 2
        levels[row % 2, column % 2] = info.black[plane]
    return black.raised(samples, area, levels)


def _black_map(
    metadata: Metadata, area: Area, white: float
) -> tuple[BlackMap | None, tuple[str, ...]]:
    return dng_black(metadata, area, white) if metadata.is_dng else (None, ())


def _info(
    path: Path, raw: rawpy.RawPy, metadata: Metadata, found: images.Images, image: int = 0
) -> tuple[RawInfo, np.ndarray]:
    """Return the facts, and the visible samples in LibRaw's memory."""
    check_chosen(path, raw, metadata)
    area = visible_area(raw, metadata)
    top, left, height, width = area
    phase = cfa_phase(path, raw, top, left)
    black, white, black_notes = _levels(path, raw, metadata, phase, area)
    capture = _capture(path, raw, metadata, height, width)
    mosaic = _visible(raw, area)
    saturated = None if metadata.is_dng else saturation(mosaic, max(black), white)
    clipped = white if saturated is None else min(white, saturated)
    matrix = color_matrix(raw, metadata)
    balance, balance_note = white_balance.as_recorded(raw, metadata, matrix is not None)
    estimated = balance is None
    if balance is None:
        balance, balance_note = white_balance.estimated(mosaic, phase, black, clipped)
    marks = marked_pixels(metadata, mosaic, (top, left), min(black))
    marked_rows, marked_columns = marks.places.tolist()
    libraw = libraw_exposure(raw)
    sensitivity = exif.sensitivity(metadata, libraw.iso)
    crop, aspect, shape_notes = _shape(raw, metadata, area)
    notes = (
        found.note,
        segment_note(metadata),
        *black_notes,
        *shape_notes,
        *marks.notes,
        *sensitivity.problems,
        balance_note,
        "" if matrix else _NO_MATRIX,
    )
    info = RawInfo(
        path=path,
        make=capture.make,
        model=capture.model,
        phase=phase,
        height=height,
        width=width,
        black=black,
        white=white,
        iso=sensitivity.iso,
        iso_source=sensitivity.source,
        exposure_time=capture.exposure_time,
        f_number=capture.f_number,
        focal_length=exif.tag_or_libraw(metadata, Tag.FOCAL_LENGTH, libraw.focal_length),
        captured=capture.captured,
        orientation=exif.orientation(metadata) or _ORIENTATION.get(raw.sizes.flip, 1),
        white_balance=balance,
        color_matrix=matrix,
        noise_profile=exif.noise_profile(metadata, phase),
        origin=(top, left),
        saturation=saturated,
        balance_is_estimated=estimated,
        crop=crop,
        pixel_aspect=aspect,
        images=len(found.shots),
        image=image,
        shot=found.shots[image],
        marked=(tuple(marked_rows), tuple(marked_columns)),
        ignored_marks=marks.ignored,
        notes=tuple(filter(None, notes)),
    )
    return info, mosaic


def _levels(
    path: Path, raw: rawpy.RawPy, metadata: Metadata, phase: str, area: Area
) -> tuple[tuple[float, float, float, float], float, tuple[str, ...]]:
    """Return black levels and white level in DN, and notes on the black levels.

    Raises:
        KpnError: if white is not above black.
    """
    white = float(raw.white_level)
    black_map, notes = _black_map(metadata, area, white)
    black = black_levels(raw, black_map, phase, area)
    if not white > max(black):
        refuse(
            path, f"white level {white:g} is not above black level {max(black):g}",
            "the file's levels are wrong: convert it with Adobe DNG Converter",
        )  # fmt: skip
    return black, white, notes


def _shape(
    raw: rawpy.RawPy, metadata: Metadata, area: Area
) -> tuple[tuple[int, int, int, int] | None, float, tuple[str, ...]]:
    """Return crop and aspect as in `RawInfo`, and notes on them."""
    if metadata.is_dng:  # it says both in its own tags, which its result keeps
        return None, 1.0, ()
    crop, of_crop = camera_crop(raw.sizes, area)
    aspect, of_aspect = pixel_aspect(raw.sizes)
    return crop, aspect, (*of_crop, *of_aspect)


def _capture(path: Path, raw: rawpy.RawPy, metadata: Metadata, height: int, width: int) -> Capture:
    recorded = (
        metadata.numbers(Tag.EXPOSURE_TIME),
        metadata.numbers(Tag.F_NUMBER),
        exif.iso(metadata, 0),
        exif.captured(metadata, None),
    )
    libraw = LibRawExposure() if all(recorded) else libraw_exposure(raw)
    return Capture(
        path=path,
        make=metadata.text(Tag.MAKE),
        model=metadata.text(Tag.MODEL) or metadata.text(Tag.UNIQUE_CAMERA_MODEL),
        serial=metadata.text(Tag.BODY_SERIAL_NUMBER) or metadata.text(Tag.CAMERA_SERIAL_NUMBER),
        height=height,
        width=width,
        iso=exif.iso(metadata, libraw.iso),
        exposure_time=exif.tag_or_libraw(metadata, Tag.EXPOSURE_TIME, libraw.exposure_time),
        f_number=exif.tag_or_libraw(metadata, Tag.F_NUMBER, libraw.f_number),
        captured=exif.captured(metadata, libraw.captured),
        burst_id=burst_tags.burst_id(metadata),
        number=burst_tags.burst_number(metadata),
        bracketed=burst_tags.is_bracketed(metadata),
    )


@contextmanager
def _opened(path: Path, file_bytes: int, *, decode: bool, shot: int = 0) -> Iterator[rawpy.RawPy]:
    """Open a file with LibRaw and decode it if asked; arrays are valid inside the context only.

    Args:
        path: the file.
        file_bytes: its length.
        decode: whether to decode it.
        shot: LibRaw's number of the raw image.
    """
    with rawpy.RawPy() as raw:
        try:
            raw.set_unpack_params(shot)  # before opening: LibRaw chooses most images then
            _open(raw, path)
            sizes = raw.sizes
            check_size(path, file_bytes, sizes.raw_height, sizes.raw_width)
            _check_margins(path, sizes)
            if decode:
                raw.unpack()
                if raw.raw_type != rawpy.RawType.Flat:
                    refuse_demosaiced(path)
        except _FILE_ERRORS as error:
            if not shot:  # its images were counted when it could not be read, perhaps for a moment
                _maker_images.cache_clear()
            refuse(path, *_libraw_complaint(error))
        yield raw


def _decoded(path: Path, file_bytes: int, shot: int = 0) -> AbstractContextManager[rawpy.RawPy]:
    return _opened(path, file_bytes, decode=True, shot=shot)


def _check_margins(path: Path, sizes: rawpy.ImageSizes) -> None:
    """Refuse a visible area outside the frame: of pixels rotated by 45 degrees, or damaged."""
    bottom, right = sizes.top_margin + sizes.height, sizes.left_margin + sizes.width
    if bottom > sizes.raw_height or right > sizes.raw_width:
        refuse(
            path, f"its visible area of {sizes.width}x{sizes.height} pixels does not fit its "
            f"{sizes.raw_width}x{sizes.raw_height} (a Fujifilm Super CCD raw, or damaged)",
            "pass raw files of a camera with a Bayer sensor",
        )  # fmt: skip


def _open(raw: rawpy.RawPy, path: Path) -> None:
    try:
        raw.open_file(str(path))
    except UnicodeEncodeError:  # a name that is not UTF-8; LibRaw can read from a buffer
        with open(path, "rb") as file:
            raw.open_buffer(file)


def _libraw_complaint(error: Exception) -> tuple[str, str]:
    """Return the reason and the remedy for an error of LibRaw."""
    if isinstance(error, rawpy.LibRawFileUnsupportedError):
        return "not a raw photo that LibRaw can read", "pass the camera's raw files"
    if isinstance(error, MemoryError):
        return "needs more memory than is free", "close other programs, or leave it out"
    if isinstance(error, (rawpy.LibRawIOError, rawpy.LibRawDataError, OSError)):
        return "the file is damaged or ends too early", "copy it from the camera or card again"
    text = error.args[0] if error.args else type(error).__name__
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return (
        f"LibRaw can't decode it ({' '.join(text.split())})",
        "convert it to a lossless DNG, or copy it from the camera again",
    )
