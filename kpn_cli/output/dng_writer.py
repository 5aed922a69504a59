"""Write DNGs: clean planes in place of the frame they came from, or a plain mosaic.

From a DNG, everything is kept but what denoising changes; the frame has the size it had,
its masked borders included, so that all places in all tags stay true. From other raw formats
a DNG is made anew, with their Exif in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..raw.info import RawInfo
from ..system.files import atomic
from ..tiff import fields, writer
from ..tiff.fields import Field, Ifd, Ifds
from ..tiff.reader import Tree, fractions, integers
from . import dng_levels, dng_tags
from .dng_images import mosaic_ifd, preview_ifd, thumbnail_ifd
from .dng_levels import at_levels, output_levels, scaled_noise, whole_frame
from .dng_source import (
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
from .dng_tags import DngTags, camera_tags, cfa_tags, exif_tags

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
        tree: the tags of that file, with what `dng_source.is_kept_whole`; None where it has none.
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        preview: `(rows, columns, 3)` uint8, sRGB, of the visible area, not rotated.
        noise: what is left in the planes.
        compression: of `dng_images.COMPRESSIONS`.
        modified: time of modification, with its zone; None to leave what a DNG says.
        mark: RawDataUniqueID, 16 bytes; none if empty.
        replace_file: whether a file of that name may be replaced.

    Raises:
        KpnError: if the disk refuses the file, or the source can't be read any more.
    """
    is_dng = tree is not None and bool(integers(tree.ifds[0], _DNG_VERSION))
    kept = kept_of_dng(tree) if is_dng else None
    white = kept.white if kept is not None and kept.white > max(info.black) else info.white
    step, black = output_levels(info, white)
    visible, _, level = dng_levels.encode_planes(
        at_levels(planes, info, step, black), info.phase, info.height, info.width
    )
    left = noise and scaled_noise(
        noise, (info.white - np.asarray(info.black)) * step / (level - black)
    )
    tags = dng_tags.tags_of(info, black=tuple(black), white=level, noise=left)
    frame = visible if kept is None else whole_frame(info, visible, kept.size, step, black)
    if kept is None or frame is None:  # no DNG, or places in its tags that can't be trusted
        check_mosaic(path, visible, tags)
        order = "<" if tree is None else tree.order
        ifd = _new_dng(
            tree, order, visible, tags, preview=preview, compression=compression, modified=modified
        )
        write_tree(path, [_marked(ifd, mark)], order, replace=replace_file)
        return
    check_mosaic(path, frame, tags)
    preview = _cropped(preview, kept.mosaic, info)
    ifd = _copied_dng(kept, frame, tags, preview, compression, modified)
    write_tree(path, [_marked(ifd, mark)], kept.order, replace=replace_file)


# --- directories ----------------------------------------------------------------------


def _copied_dng(
    kept: Kept,
    frame: np.ndarray,
    tags: dng_tags.DngTags,
    preview: np.ndarray,
    compression: str,
    modified: datetime | None,
) -> Ifd:
    """Return IFD 0 of a DNG that takes over a DNG's tags."""
    meaning = dng_tags.cfa_tags(replace(tags, noise=_by_plane(tags.noise, kept.mosaic)))
    levels = [tag for tag in meaning if tag.code in LEVELS]
    filters = [tag for tag in meaning if tag.code in _CFA_PATTERN]
    mosaic = fields.merge(filters, kept.mosaic, mosaic_ifd(frame, compression, kept.order), levels)
    pictures = fields.ifd_field(SUB_IFDS, mosaic, preview_ifd(preview), *kept.others)
    version = _version(kept.main, _DNG_VERSION, dng_tags.VERSION)
    oldest = _version(kept.main, _DNG_BACKWARD_VERSION, (*version[:2], 0, 0))
    missing = [tag for tag in dng_tags.camera_tags(tags) if tag.code in _WHERE_MISSING]
    # Before DateTime is ours: it may be the only one that says when the photo was taken.
    exif = with_capture(_exif_of(kept.main), kept.main, tags.captured)
    return fields.merge(
        missing,
        kept.main,
        _exif_of_copy(exif, modified),
        thumbnail_ifd(preview),
        _of_this_file(tags, modified),
        [
            fields.byte_field(_DNG_VERSION, bytes(max(version, dng_tags.VERSION))),
            fields.byte_field(_DNG_BACKWARD_VERSION, bytes(max(oldest, dng_tags.BACKWARD_VERSION))),
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
    tags: dng_tags.DngTags,
    *,
    preview: np.ndarray,
    compression: str,
    modified: datetime | None,
) -> Ifd:
    """Return IFD 0 of a DNG made of another raw format."""
    main, exif, gps = kept_of_any_raw(tree)
    exif = fields.merge(dng_tags.exif_tags(tags), with_capture(exif, main, tags.captured))
    picture = (*mosaic_ifd(mosaic, compression, order), *dng_tags.cfa_tags(tags))
    return fields.merge(
        main,
        dng_tags.camera_tags(tags),
        thumbnail_ifd(preview),
        _of_this_file(tags, modified),
        [
            *_exif_of_copy(_without_zone(exif), modified),  # the source's DateTime is not kept
            fields.ifd_field(SUB_IFDS, picture, preview_ifd(preview)),
            *([fields.ifd_field(GPS, gps)] if gps else []),
        ],
    )


def _marked(ifd: Ifd, mark: bytes) -> Ifd:
    return fields.merge(ifd, [fields.byte_field(_RAW_DATA_UNIQUE_ID, mark)]) if mark else ifd


def _of_this_file(tags: dng_tags.DngTags, modified: datetime | None) -> list[Field]:
    result = [fields.ascii_field(_SOFTWARE, tags.software)]
    if modified:
        result.append(fields.ascii_field(_DATE_TIME, f"{modified:%Y:%m:%d %H:%M:%S}"))
    return result


def _exif_of(main: Ifd) -> Ifd:
    """Return the Exif directory that IFD 0 points to, () without."""
    found = (tag.data.ifds for tag in main if tag.code == EXIF and isinstance(tag.data, Ifds))
    return next(found, ((),))[0]


def _exif_of_copy(exif: Ifd, modified: datetime | None) -> list[Field]:
    """Point to an Exif directory that is up to date about the time of modification."""
    if modified is not None:
        zone = f"{modified:%z}"
        news = [fields.ascii_field(OFFSET_TIME, f"{zone[:3]}:{zone[3:5]}")] if zone else []
        exif = (*_without_zone(exif), *news)
    return [fields.ifd_field(EXIF, with_version(exif))] if exif else []


def _without_zone(exif: Ifd) -> list[Field]:
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


def write_cfa_dng(path: Path | str, mosaic: np.ndarray, tags: DngTags) -> None:
    """Write a Bayer mosaic as an uncompressed DNG. The same input gives the same bytes.

    The mosaic is in IFD 0 itself: there is no preview that could disagree with it.

    Args:
        path: the file to create or replace, atomically.
        mosaic: `(height, width)` uint16, in DN, at least 2x2; odd sizes are fine.
        tags: what it means.

    Raises:
        KpnError: if the mosaic or the levels cannot be a DNG, or the disk refuses the file.
    """
    check_mosaic(path, mosaic, tags)
    exif = fields.ifd_field(34665, exif_tags(tags))
    picture = mosaic_ifd(mosaic, "none")
    write_tree(path, [fields.merge(picture, cfa_tags(tags), camera_tags(tags), (exif,))])


def write_tree(
    path: Path | str, ifds: Sequence[fields.Ifd], order: str = "<", *, replace: bool = True
) -> None:
    """Write a TIFF tree to a file, atomically; see `files.atomic` for `replace`.

    Raises:
        KpnError: if the disk refuses the file, or it would exceed 4 GB.
    """
    with atomic(path, replace=replace) as temporary, temporary.open("wb") as stream:
        writer.write_tiff(stream, ifds, order)


def check_mosaic(path: Path | str, mosaic: np.ndarray, tags: DngTags) -> None:
    """Refuse what can't be written.

    Raises:
        KpnError: for a mosaic of another kind, or levels outside of 16 bits.
    """
    if mosaic.dtype != np.uint16 or mosaic.ndim != 2 or min(mosaic.shape) < 2:
        raise KpnError(
            f"{path}: a mosaic is (height, width) uint16 of at least 2x2, "
            f"not {mosaic.shape} {mosaic.dtype}"
        )
    if not 0 <= min(tags.black) <= max(tags.black) < tags.white <= 65535:
        raise KpnError(
            f"{path}: black levels {tags.black} and white level {tags.white} do not fit: "
            "0 <= black < white <= 65535"
        )
