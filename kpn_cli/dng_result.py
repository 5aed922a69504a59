"""Clean planes -> the DNG that takes the place of the frame they came from.

From a DNG, everything is kept but what denoising changes; the frame has the size it had,
its masked borders included, so that all places in all tags stay true. From other raw formats
a DNG is made anew, with their Exif in it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from . import bayer, dng, tiff
from .dng_copy import (
    EXIF,
    GPS,
    LEVELS,
    OFFSET_TIME,
    SUB_IFDS,
    Kept,
    kept_of_any_raw,
    kept_of_dng,
    with_capture,
    with_version,
)
from .dng_pictures import mosaic_ifd, preview_ifd, thumbnail_ifd
from .noise import NoiseModel
from .raw import RawInfo, read_frame
from .tiff import Ifd, Ifds, Tag
from .tiff_tree import Tree, fractions, integers

_CFA_PLANE_COLOR, _ACTIVE_AREA, _CROP_ORIGIN, _CROP_SIZE = 50710, 50829, 50719, 50720
#: Exif's fraction of a second of DateTime, IFD 0's time of modification, and its zone.
_OF_DATE_TIME = {37520, OFFSET_TIME}
_SOFTWARE, _DATE_TIME = 305, 306
_DNG_VERSION, _DNG_BACKWARD_VERSION = 50706, 50707
_RAW_DATA_UNIQUE_ID = 50781

_CFA_PATTERN = {33421, 33422}  # CFARepeatPatternDim, CFAPattern

#: Written where a source has none: Orientation, UniqueCameraModel, OriginalRawFileName.
_WHERE_MISSING = {274, 50708, 50827}


def write_result(
    path: Path | str,
    info: RawInfo,
    tree: Tree | None,
    planes: np.ndarray,
    preview: np.ndarray,
    *,
    noise: NoiseModel | None = None,
    compression: str = "lossless",
    modified: datetime | None = None,
    mark: bytes = b"",
    replace_file: bool = True,
) -> None:
    """Write clean planes as a DNG.

    Args:
        path: the file to create or replace, atomically.
        info: the frame in whose place it comes; its file is read again for masked borders.
        tree: the tags of that file, with what `dng_copy.is_kept_whole`; None where it has none.
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        preview: `(rows, columns, 3)` uint8, sRGB, of the visible area, not rotated.
        noise: what is left in the planes.
        compression: of `dng_pictures.COMPRESSIONS`.
        modified: time of modification, with its zone; None to leave what a DNG says.
        mark: RawDataUniqueID, 16 bytes; none if empty.
        replace_file: whether a file of that name may be replaced.

    Raises:
        KpnError: if the disk refuses the file, or the source can't be read any more.
    """
    is_dng = tree is not None and bool(integers(tree.ifds[0], _DNG_VERSION))
    kept = kept_of_dng(tree) if is_dng else None
    white = kept.white if kept is not None and kept.white > max(info.black) else info.white
    step, black = _levels(info, white)
    visible, _, level = dng.encode_planes(
        _at_levels(planes, info, step, black), info.phase, info.height, info.width
    )
    left = noise and _scaled(noise, (info.white - np.asarray(info.black)) * step / (level - black))
    tags = dng.tags_of(info, black=tuple(black), white=level, noise=left)
    frame = visible if kept is None else _whole_frame(info, visible, kept.size, step, black)
    if kept is None or frame is None:  # no DNG, or places in its tags that can't be trusted
        dng.check_mosaic(path, visible, tags)
        order = "<" if tree is None else tree.order
        ifd = _new_dng(
            tree, order, visible, tags, preview=preview, compression=compression, modified=modified
        )
        dng.write_tree(path, [_marked(ifd, mark)], order, replace=replace_file)
        return
    dng.check_mosaic(path, frame, tags)
    preview = _cropped(preview, kept.mosaic, info)
    ifd = _copied_dng(kept, frame, tags, preview, compression, modified)
    dng.write_tree(path, [_marked(ifd, mark)], kept.order, replace=replace_file)


# --- levels ---------------------------------------------------------------------------


def _levels(info: RawInfo, white: float) -> tuple[float, np.ndarray]:
    """Return how many of our steps a DN of the source becomes, and our black levels, `(4,)`.

    The source's numbers are only stretched and shifted, so black levels that differ keep
    their distances. Readers divide by white minus each channel's black, or minus the highest
    (DNG chapter 5), or minus the lowest (LibRaw): thus all of them develop what they did.

    Args:
        info: the source.
        white: the source's WhiteLevel in DN, which LibRaw may have lowered for `info.white`.
    """
    source = np.asarray(info.black)
    step = (dng.OUTPUT_WHITE - dng.OUTPUT_BLACK) / (white - source.max())
    black = dng.OUTPUT_BLACK + (source - source.max()) * step
    return step, np.rint(np.maximum(black, dng.OUTPUT_BLACK / 2))


def _at_levels(planes: np.ndarray, info: RawInfo, step: float, black: np.ndarray) -> np.ndarray:
    """Return planes whose 0 and 1 are `dng.OUTPUT_BLACK` and `OUTPUT_WHITE`, as float32."""
    span = dng.OUTPUT_WHITE - dng.OUTPUT_BLACK
    gain = (info.white - np.asarray(info.black)) * step / span
    offset = (black - dng.OUTPUT_BLACK) / span
    result = planes * gain.astype(np.float32)[:, None, None]
    result += offset.astype(np.float32)[:, None, None]
    return result


def _scaled(noise: NoiseModel, gains: np.ndarray) -> NoiseModel:
    """Return the noise of planes times gains."""
    return NoiseModel(
        tuple(float(g * s) for g, s in zip(gains, noise.shot, strict=True)),
        tuple(float(g * g * o) for g, o in zip(gains, noise.read, strict=True)),
    )


def _whole_frame(
    info: RawInfo, visible: np.ndarray, size: tuple[int, int], step: float, black: np.ndarray
) -> np.ndarray | None:
    """Return the frame with its masked borders as the source has them, in our levels.

    Args:
        visible: `(height, width)` uint16, the clean mosaic.
        size: height and width of the frame as the tags say.
        step, black: of `_levels`.

    Returns:
        `size` uint16; None where LibRaw's frame isn't that of the tags.
    """
    if visible.shape == size:
        return visible
    source = read_frame(info)
    if source.shape != size:
        return None
    top, left = info.origin
    frame = np.empty(size, np.uint16)
    for pixel, plane in enumerate(bayer.plane_order(info.phase)):
        part = (slice((top + pixel // 2) % 2, None, 2), slice((left + pixel % 2) % 2, None, 2))
        ours = (source[part] - np.float32(info.black[plane])) * np.float32(step) + black[plane]
        frame[part] = np.clip(np.rint(ours), 0, dng.OUTPUT_WHITE)
    frame[top : top + info.height, left : left + info.width] = visible
    return frame


# --- directories ----------------------------------------------------------------------


def _copied_dng(
    kept: Kept,
    frame: np.ndarray,
    tags: dng.DngTags,
    preview: np.ndarray,
    compression: str,
    modified: datetime | None,
) -> Ifd:
    """Return IFD 0 of a DNG that takes over a DNG's tags."""
    meaning = dng.cfa_tags(replace(tags, noise=_by_plane(tags.noise, kept.mosaic)))
    levels = [tag for tag in meaning if tag.code in LEVELS]
    filters = [tag for tag in meaning if tag.code in _CFA_PATTERN]
    mosaic = tiff.merge(filters, kept.mosaic, mosaic_ifd(frame, compression, kept.order), levels)
    pictures = tiff.ifd_tag(SUB_IFDS, mosaic, preview_ifd(preview), *kept.others)
    version = _version(kept.main, _DNG_VERSION, dng.VERSION)
    oldest = _version(kept.main, _DNG_BACKWARD_VERSION, (*version[:2], 0, 0))
    missing = [tag for tag in dng.camera_tags(tags) if tag.code in _WHERE_MISSING]
    # Before DateTime is ours: it may be the only one that says when the photo was taken.
    exif = with_capture(_exif_of(kept.main), kept.main, tags.captured)
    return tiff.merge(
        missing,
        kept.main,
        _exif_of_copy(exif, modified),
        thumbnail_ifd(preview),
        _of_this_file(tags, modified),
        [
            tiff.byte_tag(_DNG_VERSION, bytes(max(version, dng.VERSION))),
            tiff.byte_tag(_DNG_BACKWARD_VERSION, bytes(max(oldest, dng.BACKWARD_VERSION))),
            pictures,
        ],
    )


def _version(ifd: Ifd, code: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return four numbers of a byte each; the default where the tag has others."""
    numbers = integers(ifd, code)
    return numbers if len(numbers) == 4 and max(numbers) < 256 else default


def _new_dng(
    tree: Tree | None,
    order: str,
    mosaic: np.ndarray,
    tags: dng.DngTags,
    *,
    preview: np.ndarray,
    compression: str,
    modified: datetime | None,
) -> Ifd:
    """Return IFD 0 of a DNG made of another raw format."""
    main, exif, gps = kept_of_any_raw(tree)
    exif = tiff.merge(dng.exif_tags(tags), with_capture(exif, main, tags.captured))
    picture = (*mosaic_ifd(mosaic, compression, order), *dng.cfa_tags(tags))
    return tiff.merge(
        main,
        dng.camera_tags(tags),
        thumbnail_ifd(preview),
        _of_this_file(tags, modified),
        [
            *_exif_of_copy(_without_zone(exif), modified),  # the source's DateTime is not kept
            tiff.ifd_tag(SUB_IFDS, picture, preview_ifd(preview)),
            *([tiff.ifd_tag(GPS, gps)] if gps else []),
        ],
    )


def _marked(ifd: Ifd, mark: bytes) -> Ifd:
    return tiff.merge(ifd, [tiff.byte_tag(_RAW_DATA_UNIQUE_ID, mark)]) if mark else ifd


def _of_this_file(tags: dng.DngTags, modified: datetime | None) -> list[Tag]:
    result = [tiff.ascii_tag(_SOFTWARE, tags.software)]
    if modified:
        result.append(tiff.ascii_tag(_DATE_TIME, f"{modified:%Y:%m:%d %H:%M:%S}"))
    return result


def _exif_of(main: Ifd) -> Ifd:
    """Return the Exif directory that IFD 0 points to, () without."""
    found = (tag.data.ifds for tag in main if tag.code == EXIF and isinstance(tag.data, Ifds))
    return next(found, ((),))[0]


def _exif_of_copy(exif: Ifd, modified: datetime | None) -> list[Tag]:
    """Point to an Exif directory that is up to date about the time of modification."""
    if modified is not None:
        zone = f"{modified:%z}"
        news = [tiff.ascii_tag(OFFSET_TIME, f"{zone[:3]}:{zone[3:5]}")] if zone else []
        exif = (*_without_zone(exif), *news)
    return [tiff.ifd_tag(EXIF, with_version(exif))] if exif else []


def _without_zone(exif: Ifd) -> list[Tag]:
    return [tag for tag in exif if tag.code not in _OF_DATE_TIME]


def _by_plane(noise: NoiseModel | None, mosaic: Ifd) -> NoiseModel | None:
    """Return the noise with red and blue in the places that CFAPlaneColor gives them."""
    colours = integers(mosaic, _CFA_PLANE_COLOR)
    if noise is None or sorted(colours) != [0, 1, 2]:
        return noise
    planes = [((0,), (1, 2), (3,))[colour] for colour in colours]
    order = [planes[0][0], planes[1][0], planes[1][-1], planes[2][0]]
    return NoiseModel(
        tuple(noise.shot[plane] for plane in order), tuple(noise.read[plane] for plane in order)
    )


def _cropped(preview: np.ndarray, mosaic: Ifd, info: RawInfo) -> np.ndarray:
    """Return the part of the visible area's picture that the default crop shows."""
    origin, size = fractions(mosaic, _CROP_ORIGIN), fractions(mosaic, _CROP_SIZE)
    if len(size) != 2 or len(origin) != 2:
        return preview
    area = integers(mosaic, _ACTIVE_AREA)
    area = area if len(area) == 4 else (0, 0, 0, 0)
    # Columns first: the crop is so given, and counts from the active area's origin.
    starts = [area[1] - info.origin[1] + origin[0], area[0] - info.origin[0] + origin[1]]
    rows, columns, _ = preview.shape
    (left, right), (top, bottom) = (
        (round(start * ours / all_), round((start + length) * ours / all_))
        for start, length, ours, all_ in zip(
            starts, size, (columns, rows), (info.width, info.height), strict=True
        )
    )
    part = preview[max(top, 0) : bottom, max(left, 0) : right]
    return part if part.size else preview
