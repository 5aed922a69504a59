"""One raw file -> what is known about it, its mosaic, its planes.

The only place that reads with rawpy (LibRaw). Facts about it, found with DNGs made
for the purpose (tests/raw/test_reader.py):

- `raw_pattern` is indexed from the origin of the whole frame, not of the visible area.
- LibRaw moves an odd ActiveArea origin to the next even row and column, losing a line,
  and doesn't move the BlackLevel pattern along. So crop and black of a DNG come from
  its own tags, which have fractions, too.
- BlackLevel patterns larger than 2x2 are missing from `black_level_per_channel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import rawpy

from ..errors import KpnError, refuse
from ..image import bayer
from . import burst_tags, exif
from .checks import (
    check_content,
    check_file,
    check_size,
    check_tags,
    refuse_colours,
    refuse_demosaiced,
)
from .info import Capture, RawInfo
from .levels import (
    Findings,
    black_levels,
    cfa_phase,
    color_matrix,
    libraw_findings,
    visible_area,
    white_balance,
    white_level,
)
from .tags import Metadata, Tag, read_metadata

#: LibRaw's flip -> EXIF orientation.
_ORIENTATION = {0: 1, 3: 3, 5: 8, 6: 6}

#: ExposureMode (Exif 2.32, 4.6.5).
_AUTO_BRACKET = 2


def read_capture(path: str | Path) -> Capture:
    """Return when and how a file was taken: in a millisecond where its tags say all of it.

    Where they don't, it is decoded: what LibRaw finds in the makers' notes comes after that.

    Raises:
        KpnError: if it's no Bayer raw, as far as can be told without decoding.
    """
    path = Path(path)
    metadata = _checked(path)
    with _opened(path, metadata.bytes, decode=False) as raw:
        _, _, height, width = visible_area(raw, metadata)
        # Not cfa_phase: LibRaw decodes before it tells the pattern.
        letters = raw.color_desc.decode("ascii", "replace")
        if raw.num_colors == 1:
            refuse_colours(path, "a monochrome raw")
        if set(letters) - set("RGB"):
            refuse_colours(path, f"a raw with {letters} colour filters")
        try:
            return _capture(path, raw, metadata, height, width)
        except rawpy.LibRawError as error:
            refuse(path, *_libraw_complaint(error))


def read_info(path: str | Path) -> RawInfo:
    """Return what a raw file says about itself.

    LibRaw tells levels and colours only after decoding, so this costs as much as
    reading the pixels does: some tenths of a second for a compressed photo.

    Raises:
        KpnError: if it's no Bayer raw, or damaged; one line with name, reason, remedy.
    """
    path = Path(path)
    metadata = _checked(path)
    with _decoded(path, metadata.bytes) as raw:
        return _info(path, raw, metadata)


def read_raw(path: str | Path) -> tuple[RawInfo, np.ndarray]:
    """Return what `read_info` and `read_mosaic` do, for the price of one.

    Raises:
        KpnError: as both.
    """
    path = Path(path)
    metadata = _checked(path)
    with _decoded(path, metadata.bytes) as raw:
        info = _info(path, raw, metadata)
        mosaic = _visible(raw, info)
    check_content(path, mosaic, info.white)
    return info, mosaic


def read_mosaic(info: RawInfo) -> np.ndarray:
    """Return the visible mosaic, `(height, width)` uint16 in DN, a copy of its own.

    Raises:
        KpnError: if the file has gone, changed, is blank or lacks its end.
    """
    check_file(info.path)
    with _decoded(info.path, info.path.stat().st_size) as raw:
        mosaic = _visible(raw, info)
    if mosaic.shape != (info.height, info.width):
        refuse(info.path, "the file has changed while in use", "start again")
    check_content(info.path, mosaic, info.white)
    return mosaic


def read_frame(info: RawInfo) -> np.ndarray:
    """Return the whole frame with its masked borders, `(rows, columns)` uint16 in DN.

    Raises:
        KpnError: if the file has gone or is damaged.
    """
    check_file(info.path)
    with _decoded(info.path, info.path.stat().st_size) as raw:
        return raw.raw_image.copy()


def read_planes(info: RawInfo) -> np.ndarray:
    """Return the planes R, G1, G2, B of a file, black subtracted, sensor white at 1.

    Negative values are kept: clipping them would brighten the shadows' mean.

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
    """Return the tags of a file; refuse what they say is no integer Bayer mosaic."""
    check_file(path)
    metadata = read_metadata(path)
    check_tags(path, metadata)
    return metadata


def _visible(raw: rawpy.RawPy, info: RawInfo) -> np.ndarray:
    top, left = info.origin
    return raw.raw_image[top : top + info.height, left : left + info.width].copy()


def _info(path: Path, raw: rawpy.RawPy, metadata: Metadata) -> RawInfo:
    top, left, height, width = visible_area(raw, metadata)
    phase = cfa_phase(path, raw, top, left)
    black = black_levels(raw, metadata, phase, top, left)
    white = white_level(raw, metadata)
    if not white > max(black):
        refuse(
            path, f"white level {white:g} isn't above black level {max(black):g}",
            "the file's levels are wrong: convert it with Adobe DNG Converter",
        )  # fmt: skip
    capture = _capture(path, raw, metadata, height, width)
    return RawInfo(
        path=path,
        make=capture.make,
        model=capture.model,
        phase=phase,
        height=height,
        width=width,
        black=black,
        white=white,
        iso=capture.iso,
        exposure_time=capture.exposure_time,
        f_number=capture.f_number,
        focal_length=exif.measure(metadata, Tag.FOCAL_LENGTH, libraw_findings(raw).focal_length),
        captured=capture.captured,
        orientation=exif.orientation(metadata) or _ORIENTATION.get(raw.sizes.flip, 1),
        white_balance=white_balance(raw),
        color_matrix=color_matrix(raw, metadata),
        noise_profile=exif.noise_profile(metadata, phase),
        origin=(top, left),
    )


def _capture(path: Path, raw: rawpy.RawPy, metadata: Metadata, height: int, width: int) -> Capture:
    said = [metadata.numbers(tag) for tag in (Tag.EXPOSURE_TIME, Tag.F_NUMBER)]
    said += [exif.iso(metadata, 0), exif.captured(metadata, None)]
    found = Findings() if all(said) else libraw_findings(raw)
    return Capture(
        path=path,
        make=metadata.text(Tag.MAKE),
        model=metadata.text(Tag.MODEL) or metadata.text(Tag.UNIQUE_CAMERA_MODEL),
        serial=metadata.text(Tag.BODY_SERIAL_NUMBER) or metadata.text(Tag.CAMERA_SERIAL_NUMBER),
        height=height,
        width=width,
        iso=exif.iso(metadata, found.iso),
        exposure_time=exif.measure(metadata, Tag.EXPOSURE_TIME, found.exposure_time),
        f_number=exif.measure(metadata, Tag.F_NUMBER, found.f_number),
        captured=exif.captured(metadata, found.captured),
        burst_id=burst_tags.burst_id(metadata),
        number=burst_tags.burst_number(metadata),
        bracketed=metadata.numbers(Tag.EXPOSURE_MODE)[:1] == (_AUTO_BRACKET,),
    )


@contextmanager
def _opened(path: Path, file_bytes: int, *, decode: bool) -> Iterator[rawpy.RawPy]:
    """Open a file with LibRaw, and decode it; the arrays live inside the context only."""
    with rawpy.RawPy() as raw:
        try:
            _open(raw, path)
            sizes = raw.sizes
            check_size(path, file_bytes, sizes.raw_height, sizes.raw_width)
            _check_margins(path, sizes)
            if decode:
                raw.unpack()
                if raw.raw_type != rawpy.RawType.Flat:
                    refuse_demosaiced(path)
        except KpnError:
            raise
        except Exception as error:  # LibRaw's own, and whatever rawpy makes of odd files
            refuse(path, *_libraw_complaint(error))
        yield raw


def _decoded(path: Path, file_bytes: int) -> AbstractContextManager[rawpy.RawPy]:
    return _opened(path, file_bytes, decode=True)


def _check_margins(path: Path, sizes: rawpy.ImageSizes) -> None:
    """Refuse a visible area that leaves the frame: in pixels turned by 45 degrees, or in error."""
    bottom, right = sizes.top_margin + sizes.height, sizes.left_margin + sizes.width
    if bottom > sizes.raw_height or right > sizes.raw_width:
        refuse(
            path, f"its visible area of {sizes.width}x{sizes.height} pixels is no part of its "
            f"{sizes.raw_width}x{sizes.raw_height} (a Fujifilm Super CCD raw, or damaged)",
            "pass raw files of a camera with a Bayer sensor",
        )  # fmt: skip


def _open(raw: rawpy.RawPy, path: Path) -> None:
    try:
        raw.open_file(str(path))
    except UnicodeEncodeError:  # a name that isn't UTF-8; LibRaw needs no name
        with open(path, "rb") as file:
            raw.open_buffer(file)


def _libraw_complaint(error: Exception) -> tuple[str, str]:
    """Return reason and remedy."""
    if isinstance(error, rawpy.LibRawFileUnsupportedError):
        return "not a raw photo that LibRaw can read", "pass the camera's raw files"
    if isinstance(error, (rawpy.LibRawIOError, rawpy.LibRawDataError, OSError)):
        return "the file is damaged or ends too early", "copy it from the camera or card again"
    text = error.args[0] if error.args else type(error).__name__
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return (
        f"LibRaw can't decode it ({' '.join(text.split())})",
        "convert it to a lossless DNG, or copy it from the camera again",
    )
