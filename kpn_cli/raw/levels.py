"""Visible area, crop, CFA phase, levels and colours of a decoded raw file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import rawpy

from ..image import bayer
from . import exif
from .black import Area, BlackMap
from .checks import refuse_not_bayer
from .info import Matrix
from .tags import Metadata, Tag

#: Largest ratio of the sides of a pixel (the Nikon D1X has 2), and what still counts as square.
MAX_ASPECT, _SQUARE = 4, 0.005


def visible_area(raw: rawpy.RawPy, metadata: Metadata) -> Area:
    """Return top, left, height, width of the visible area, in sensor pixels.

    LibRaw's, except for a DNG whose ActiveArea (tag 50829) LibRaw rounds to even numbers.
    """
    s = raw.sizes
    bottom, right = s.top_margin + s.height, s.left_margin + s.width
    area = metadata.raw_integers(Tag.ACTIVE_AREA)
    if metadata.is_dng and len(area) == 4:
        rounded = (s.top_margin, s.left_margin, bottom, right)
        if all(0 <= ours - tag <= 1 for ours, tag in zip(rounded, area, strict=True)):
            return area[0], area[1], area[2] - area[0], area[3] - area[1]
    return s.top_margin, s.left_margin, s.height, s.width


def camera_crop(
    sizes: rawpy.ImageSizes, area: tuple[int, int, int, int]
) -> tuple[tuple[int, int, int, int] | None, tuple[str, ...]]:
    """Return the picture that the camera means, from the MakerNote, and what is wrong with it.

    LibRaw counts it from the corner of the whole frame, and gives zeros where it knows none.

    Args:
        sizes: of the file.
        area: top, left, height, width of the visible area in the frame.

    Returns:
        Top, left, height, width in pixels of the visible area; None if it is unknown or does not
        fit the area. A note in the latter case.
    """
    height, width = sizes.crop_height, sizes.crop_width
    if not (height and width):
        return None, ()
    top, left = sizes.crop_top_margin - area[0], sizes.crop_left_margin - area[1]
    inside = top >= 0 and left >= 0 and top + height <= area[2] and left + width <= area[3]
    if inside and 4 * height >= area[2] and 4 * width >= area[3]:
        return (top, left, height, width), ()
    return None, (
        f"its crop of {width}x{height} pixels at column {left}, row {top} does not fit its "
        f"{area[3]}x{area[2]} pixels; the whole picture is used",
    )


def pixel_aspect(sizes: rawpy.ImageSizes) -> tuple[float, tuple[str, ...]]:
    """Return the width of a pixel over its height; 1 and a note if it is not plausible."""
    aspect = sizes.pixel_aspect
    if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        # LibRaw computes it from sizes that the maker rounded.
        return (1.0 if abs(aspect - 1) < _SQUARE else float(aspect)), ()
    return 1.0, (f"its pixels are {aspect:g} times as wide as high; taken as square",)


def _colour_indices(raw: rawpy.RawPy, top: int, left: int) -> np.ndarray:
    """Return one period of LibRaw's colour indices, from a pixel of the frame on.

    Raises:
        NotImplementedError: for filters that are neither Bayer nor X-Trans; mostly rawpy's.
    """
    pattern = raw.raw_pattern
    if pattern is None:
        raise NotImplementedError
    return np.roll(pattern, (-top, -left), axis=(0, 1))


def cfa_phase(path: Path, raw: rawpy.RawPy, top: int, left: int) -> str:
    """Return the CFA phase at a pixel of the frame.

    Raises:
        KpnError: if the colour filters are not a Bayer RGB pattern.
    """
    if raw.num_colors == 1:
        refuse_not_bayer(path, "a monochrome raw")
    try:
        pattern = _colour_indices(raw, top, left)
    except NotImplementedError:
        refuse_not_bayer(path, "a raw with an unknown colour filter pattern")
    if pattern.shape == (6, 6):
        refuse_not_bayer(path, "a Fujifilm X-Trans raw")
    if pattern.shape != (2, 2):
        rows, columns = pattern.shape
        refuse_not_bayer(path, f"a raw with a {columns}x{rows} colour filter pattern")
    letters = raw.color_desc.decode("ascii", "replace")
    phase = "".join(letters[index] for index in pattern.ravel())
    if phase not in bayer.PHASES:
        filters = phase if set(letters) <= set("RGB") else letters
        refuse_not_bayer(path, f"a raw with {filters} colour filters")
    return phase


def black_levels(
    raw: rawpy.RawPy, black: BlackMap | None, phase: str, area: Area
) -> tuple[float, float, float, float]:
    """Return the black level of the planes R, G1, G2, B in an area, in DN.

    Where it varies within a plane, the highest one: the range of a plane is white minus its
    largest black level (DNG 1.7.1, chapter 5).

    Args:
        raw: the decoded file.
        black: from `dng_black`; None for LibRaw's levels.
        phase: CFA phase at the area's first pixel.
        area: the visible area.
    """
    if black is not None:
        pixels = black.extremes(area)[1].tolist()
    else:
        # Indexed by colour; LibRaw has two greens, 1 and 3.
        levels = raw.black_level_per_channel
        pixels = [float(levels[index]) for index in _colour_indices(raw, *area[:2]).ravel()]
    by_plane = dict(zip(bayer.plane_order(phase), pixels, strict=True))
    return by_plane[0], by_plane[1], by_plane[2], by_plane[3]


@dataclass(frozen=True)
class LibRawExposure:
    """The exposure as LibRaw reads it, also from MakerNotes; 0 and None when unknown.

    Attributes:
        iso: sensitivity.
        exposure_time: seconds.
        f_number: aperture.
        focal_length: millimetres.
        captured: local time.
    """

    iso: float = 0.0
    exposure_time: float = 0.0
    f_number: float = 0.0
    focal_length: float = 0.0
    captured: datetime | None = None


def libraw_exposure(raw: rawpy.RawPy) -> LibRawExposure:
    """Return the exposure as LibRaw reads it; unknown where it fails."""
    try:
        other = raw.other
    except (ValueError, OverflowError, OSError):  # a damaged time stamp
        return LibRawExposure()
    return LibRawExposure(
        other.iso_speed, other.shutter_speed, other.aperture, other.focal_length, other.timestamp
    )


def color_matrix(raw: rawpy.RawPy, metadata: Metadata) -> Matrix | None:
    """Return the matrix XYZ at D65 -> camera: LibRaw's for the model, else the DNG's own."""
    for matrix in (np.asarray(raw.rgb_xyz_matrix, float)[:3], exif.dng_color_matrix(metadata)):
        if matrix is None or not np.isfinite(matrix).all():
            continue
        # LibRaw gives zeros for models that it does not know.
        if abs(np.linalg.det(matrix)) > 1e-9:
            return tuple((float(x), float(y), float(z)) for x, y, z in matrix)
    return None
