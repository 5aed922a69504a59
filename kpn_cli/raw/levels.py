"""Visible area, CFA phase, black and white levels and colours of an opened raw file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import rawpy

from ..image import bayer
from . import exif
from .checks import refuse_colours
from .info import Matrix
from .tags import Metadata, Tag


def visible_area(raw: rawpy.RawPy, metadata: Metadata) -> tuple[int, int, int, int]:
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


def cfa_phase(path: Path, raw: rawpy.RawPy, top: int, left: int) -> str:
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


def black_levels(
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


def white_level(raw: rawpy.RawPy, metadata: Metadata) -> float:
    """Return the lowest channel's saturation in DN.

    LibRaw's level (of a DNG: WhiteLevel, tag 50717) may be what the file's numbers can
    hold; where the maker says per channel up to where they are linear, that counts,
    unless it can't be meant. Not in a DNG: by the camera's name alone, LibRaw makes up
    such levels for numbers that have been scaled since.
    """
    white = float(raw.white_level)
    linear = () if metadata.is_dng else raw.camera_white_level_per_channel or ()
    return min([white, *(float(level) for level in linear if white / 2 <= level <= white)])


@dataclass(frozen=True)
class Findings:
    """What LibRaw found of the exposure, in the maker's notes too; 0 and None when unknown."""

    iso: float = 0.0
    exposure_time: float = 0.0
    f_number: float = 0.0
    focal_length: float = 0.0
    captured: datetime | None = None


def libraw_findings(raw: rawpy.RawPy) -> Findings:
    """Return what LibRaw found of the exposure; nothing where it fails."""
    try:
        other = raw.other
    except (ValueError, OverflowError, OSError):  # a damaged time stamp
        return Findings()
    return Findings(
        other.iso_speed, other.shutter_speed, other.aperture, other.focal_length, other.timestamp
    )


def white_balance(raw: rawpy.RawPy) -> tuple[float, float, float]:
    """Return gains R, G, B with G == 1: as shot, else daylight's, else ones."""
    for gains in (raw.camera_whitebalance, raw.daylight_whitebalance):
        red, green, blue = (exif.positive(gain) for gain in gains[:3])
        if red and green and blue:
            return red / green, 1.0, blue / green
    return 1.0, 1.0, 1.0


def color_matrix(raw: rawpy.RawPy, metadata: Metadata) -> Matrix | None:
    """LibRaw's for the model (XYZ at D65 -> camera), else the DNG's own."""
    for matrix in (np.asarray(raw.rgb_xyz_matrix, float)[:3], exif.dng_color_matrix(metadata)):
        if matrix is None or not np.isfinite(matrix).all():
            continue
        # LibRaw says zeros for models it doesn't know.
        if abs(np.linalg.det(matrix)) > 1e-9:
            return tuple(tuple(float(value) for value in row) for row in matrix)
    return None
