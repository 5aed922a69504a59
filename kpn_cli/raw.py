"""One raw file -> what is known about it, its mosaic, its planes.

The only place that reads with rawpy (LibRaw). Facts about it, found with DNGs made
for the purpose (tests/test_raw.py):

- `raw_pattern` is indexed from the origin of the whole frame, not of the visible area.
- LibRaw moves an odd ActiveArea origin to the next even row and column, losing a line,
  and doesn't move the BlackLevel pattern along. So crop and black of a DNG come from
  its own tags, which have fractions, too.
- BlackLevel patterns larger than 2x2 are missing from `black_level_per_channel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import rawpy

from . import bayer, exif, sequence
from .errors import KpnError, refuse
from .metadata import Metadata, Tag, read_metadata
from .noise import NoiseModel
from .raw_checks import (
    check_content,
    check_file,
    check_size,
    check_tags,
    refuse_colours,
    refuse_demosaiced,
)

Matrix = tuple[tuple[float, float, float], ...]

#: LibRaw's flip -> EXIF orientation.
_ORIENTATION = {0: 1, 3: 3, 5: 8, 6: 6}

#: ExposureMode (Exif 2.32, 4.6.5).
_AUTO_BRACKET = 2


@dataclass(frozen=True, kw_only=True)
class RawInfo:
    """Everything about a raw file but its pixels.

    Attributes:
        path: the file.
        make, model: of the camera; "" when unknown.
        phase: CFA phase at the origin of the visible area, one of `bayer.PHASES`.
        height, width: of the visible mosaic, in sensor pixels.
        black: black level of the planes R, G1, G2, B, in DN; with fractions in a DNG.
        white: saturation in DN, the lowest channel's where the channels differ.
        iso: sensitivity; None when absent or 0.
        exposure_time: seconds; None when absent or 0.
        f_number: None when absent or 0.
        focal_length: millimetres; None when absent or 0.
        captured: local time of the exposure, with the file's fraction of a second; no zone.
        orientation: EXIF 1-8.
        white_balance: as-shot gains R, G, B with G == 1; else daylight's, else ones.
        color_matrix: XYZ (D65 where the file has it) -> camera, 3x3; None when unknown.
        noise_profile: from the DNG's NoiseProfile (tag 51041); None when absent or void.
        origin: row and column of the visible area in the whole frame, sensor pixels.
    """

    path: Path
    make: str
    model: str
    phase: str
    height: int
    width: int
    black: tuple[float, float, float, float]
    white: float
    iso: float | None
    exposure_time: float | None
    f_number: float | None
    focal_length: float | None
    captured: datetime | None
    orientation: int
    white_balance: tuple[float, float, float]
    color_matrix: Matrix | None
    noise_profile: NoiseModel | None
    origin: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What is known of a raw file without decoding it: enough to say what it belongs to.

    Attributes:
        path, make, model, height, width, iso, exposure_time, f_number, captured: as
            `RawInfo`'s; the size can be a line more where LibRaw rounds.
        serial: of the camera's body; "" when unknown.
        burst_id: the same in all frames of a burst, if the camera says so; else "".
        number: of the frame in its burst, from 1; None where the camera doesn't count.
        bracketed: whether the camera changed the exposure from frame to frame on purpose.
    """

    path: Path
    make: str
    model: str
    serial: str
    height: int
    width: int
    iso: float | None
    exposure_time: float | None
    f_number: float | None
    captured: datetime | None
    burst_id: str = ""
    number: int | None = None
    bracketed: bool = False


def read_capture(path: str | Path) -> Capture:
    """Return when and how a file was taken: in a millisecond where its tags say all of it.

    Where they don't, it is decoded: what LibRaw finds in the makers' notes comes after that.

    Raises:
        KpnError: if it's no Bayer raw, as far as can be told without decoding.
    """
    path = Path(path)
    metadata = _checked(path)
    with _opened(path, metadata.bytes, decode=False) as raw:
        _, _, height, width = _visible_area(raw, metadata)
        # Not _phase: LibRaw decodes before it tells the pattern.
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
    top, left, height, width = _visible_area(raw, metadata)
    phase = _phase(path, raw, top, left)
    black = _black_levels(raw, metadata, phase, top, left)
    white = _white_level(raw, metadata)
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
        focal_length=exif.measure(metadata, Tag.FOCAL_LENGTH, _libraw_findings(raw).focal_length),
        captured=capture.captured,
        orientation=exif.orientation(metadata) or _ORIENTATION.get(raw.sizes.flip, 1),
        white_balance=_white_balance(raw),
        color_matrix=_color_matrix(raw, metadata),
        noise_profile=exif.noise_profile(metadata, phase),
        origin=(top, left),
    )


def _capture(path: Path, raw: rawpy.RawPy, metadata: Metadata, height: int, width: int) -> Capture:
    said = [metadata.numbers(tag) for tag in (Tag.EXPOSURE_TIME, Tag.F_NUMBER)]
    said += [exif.iso(metadata, 0), exif.captured(metadata, None)]
    found = _Findings() if all(said) else _libraw_findings(raw)
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
        burst_id=sequence.burst_id(metadata),
        number=sequence.burst_number(metadata),
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


# --- geometry and levels --------------------------------------------------------------


def _visible_area(raw: rawpy.RawPy, metadata: Metadata) -> tuple[int, int, int, int]:
    """Return top, left, height, width of the visible area, in sensor pixels.

    LibRaw's, but for a DNG whose ActiveArea (tag 50829) LibRaw only rounded.
    """
    s = raw.sizes
    bottom, right = s.top_margin + s.height, s.left_margin + s.width
    area = metadata.picture_integers(Tag.ACTIVE_AREA)
    if metadata.is_dng and len(area) == 4:
        rounded = (s.top_margin, s.left_margin, bottom, right)
        if all(0 <= ours - tag <= 1 for ours, tag in zip(rounded, area, strict=True)):
            return area[0], area[1], area[2] - area[0], area[3] - area[1]
    return s.top_margin, s.left_margin, s.height, s.width


def _pattern(raw: rawpy.RawPy, top: int, left: int) -> np.ndarray:
    """Return LibRaw's colour indices from a pixel of the frame on, in their smallest period."""
    return np.roll(raw.raw_pattern, (-top, -left), axis=(0, 1))


def _phase(path: Path, raw: rawpy.RawPy, top: int, left: int) -> str:
    """Return the CFA phase at a pixel of the frame; refuse what isn't Bayer RGB."""
    if raw.num_colors == 1:
        refuse_colours(path, "a monochrome raw")
    try:
        pattern = _pattern(raw, top, left)
    except NotImplementedError:  # rawpy's, for filters that are neither Bayer nor X-Trans
        refuse_colours(path, "a raw with an unknown colour filter pattern")
    if pattern.shape == (6, 6):
        refuse_colours(path, "a Fujifilm X-Trans raw")
    if pattern.shape != (2, 2):
        rows, columns = pattern.shape
        refuse_colours(path, f"a raw with a {columns}x{rows} colour filter pattern")
    letters = raw.color_desc.decode("ascii", "replace")
    phase = "".join(letters[index] for index in pattern.ravel())
    if phase not in bayer.PHASES:
        filters = phase if set(letters) <= set("RGB") else letters
        refuse_colours(path, f"a raw with {filters} colour filters")
    return phase


def _black_levels(
    raw: rawpy.RawPy, metadata: Metadata, phase: str, top: int, left: int
) -> tuple[float, float, float, float]:
    """Return the black level of each plane, in DN."""
    pixels = exif.dng_black(metadata, top, left) if metadata.is_dng else None
    if pixels is None:
        # Indexed by colour, in which LibRaw tells the greens apart as 1 and 3.
        levels = raw.black_level_per_channel
        pixels = [float(levels[index]) for index in _pattern(raw, top, left).ravel()]
    by_plane = dict(zip(bayer.plane_order(phase), pixels, strict=True))
    return tuple(by_plane[plane] for plane in range(4))


def _white_level(raw: rawpy.RawPy, metadata: Metadata) -> float:
    """Return the lowest channel's saturation in DN.

    LibRaw's level (of a DNG: WhiteLevel, tag 50717) may be what the file's numbers can
    hold; where the maker says per channel up to where they are linear, that counts,
    unless it can't be meant. Not in a DNG: by the camera's name alone, LibRaw makes up
    such levels for numbers that have been scaled since.
    """
    white = float(raw.white_level)
    linear = () if metadata.is_dng else raw.camera_white_level_per_channel or ()
    return min([white, *(float(level) for level in linear if white / 2 <= level <= white)])


# --- exposure and colour --------------------------------------------------------------


@dataclass(frozen=True)
class _Findings:
    """What LibRaw found of the exposure, in the maker's notes too; 0 and None when unknown."""

    iso: float = 0.0
    exposure_time: float = 0.0
    f_number: float = 0.0
    focal_length: float = 0.0
    captured: datetime | None = None


def _libraw_findings(raw: rawpy.RawPy) -> _Findings:
    try:
        other = raw.other
    except (ValueError, OverflowError, OSError):  # a damaged time stamp
        return _Findings()
    return _Findings(
        other.iso_speed, other.shutter_speed, other.aperture, other.focal_length, other.timestamp
    )


def _white_balance(raw: rawpy.RawPy) -> tuple[float, float, float]:
    for gains in (raw.camera_whitebalance, raw.daylight_whitebalance):
        red, green, blue = (exif.positive(gain) for gain in gains[:3])
        if red and green and blue:
            return red / green, 1.0, blue / green
    return 1.0, 1.0, 1.0


def _color_matrix(raw: rawpy.RawPy, metadata: Metadata) -> Matrix | None:
    """LibRaw's for the model (XYZ at D65 -> camera), else the DNG's own."""
    for matrix in (np.asarray(raw.rgb_xyz_matrix, float)[:3], exif.dng_color_matrix(metadata)):
        if matrix is None or not np.isfinite(matrix).all():
            continue
        # LibRaw says zeros for models it doesn't know.
        if abs(np.linalg.det(matrix)) > 1e-9:
            return tuple(tuple(float(value) for value in row) for row in matrix)
    return None
