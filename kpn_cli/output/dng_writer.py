"""Write DNGs: clean planes with the tags of their source, or a plain mosaic.

From a DNG, all tags are kept except those that denoising changes. The frame keeps its size,
masked borders included, so positions in tags stay valid. From other raw formats, a new DNG is
made, with their Exif and GPS.

Layout (DNG specification 1.4, chapter 2): IFD 0 holds the thumbnail and the tags of the whole
photo; SubIFDs (tag 330) hold the mosaic, the preview, masks and depth maps.
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
from .dng_levels import output_levels, planes_at_output_levels, scale_noise, with_masked_borders
from .dng_source import (
    EXIF,
    GPS,
    LEVEL_TAGS,
    OFFSET_TIME,
    SUB_IFDS,
    KeptTags,
    tags_kept_from_dng,
    tags_kept_from_raw,
    with_capture_time,
    with_exif_version,
)
from .dng_tags import DngTags, camera_tags, cfa_tags, exif_tags

_CFA_PLANE_COLOR, _ACTIVE_AREA, _CROP_ORIGIN, _CROP_SIZE = 50710, 50829, 50719, 50720
#: SubSecTime and OffsetTime of Exif: fraction and zone of DateTime, the time of modification.
_MODIFICATION_TAGS = {37520, OFFSET_TIME}
_SOFTWARE, _DATE_TIME = 305, 306
_DNG_VERSION, _DNG_BACKWARD_VERSION = 50706, 50707
_RAW_DATA_UNIQUE_ID = 50781

_CFA_PATTERN_TAGS = {33421, 33422}  # CFARepeatPatternDim, CFAPattern

#: Orientation, UniqueCameraModel, OriginalRawFileName: written if the source has none.
_DEFAULT_TAGS = {274, 50708, 50827}


def write_denoised_dng(
    path: Path | str,
    info: RawInfo,
    tree: Tree | None,
    planes: np.ndarray,
    preview: np.ndarray,
    *,
    noise: NoiseModel | None = None,
    compression: str = "lossless",
    modified: datetime | None = None,
    unique_id: bytes = b"",
    replace_file: bool = True,
) -> None:
    """Write clean planes as a DNG with the tags of their source.

    Args:
        path: the file to create or replace, atomically.
        info: the source frame; its file is read again for masked borders.
        tree: the tags of its file, read with the images of `dng_source.is_auxiliary_image`; None
            if it has none.
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        preview: `(rows, columns, 3)` uint8, sRGB, of the visible area, in the orientation of the
            sensor.
        noise: of the planes; None to write no NoiseProfile.
        compression: one of `dng_images.COMPRESSION_CODES`.
        modified: time of modification, with its zone; None to keep the source's.
        unique_id: RawDataUniqueID (50781), 16 bytes; b"" for none.
        replace_file: whether an existing file may be replaced.

    Raises:
        KpnError: if the file cannot be written, or the source cannot be read any more.
    """
    kept = None
    if tree is not None and integers(tree.ifds[0], _DNG_VERSION):
        kept = tags_kept_from_dng(tree, info.image)
    white = max(info.white, info.saturation or 0)
    if kept is not None and kept.white > max(info.black):
        white = kept.white
    step, black = output_levels(info, white)
    visible, _, level = dng_levels.encode_planes(
        planes_at_output_levels(planes, info, step, black), info.phase, info.height, info.width
    )
    exposure = 0.0
    if info.saturation is not None:
        level, exposure = dng_levels.output_white(info, step)
    if noise is not None:
        # NoiseProfile is for samples from each plane's own black level to white.
        gains = (info.white - np.asarray(info.black)) * step / (level - black)
        noise = scale_noise(noise, gains)
    red, green1, green2, blue = black.tolist()
    tags = dng_tags.tags_of(info, black=(red, green1, green2, blue), white=level, noise=noise)
    neutral = None if info.balance_is_estimated else tags.as_shot_neutral
    tags = replace(tags, as_shot_neutral=neutral, baseline_exposure=exposure or None)
    frame = visible if kept is None else with_masked_borders(info, visible, kept.size, step, black)
    if kept is None or frame is None:  # no DNG, or its tags give another size than LibRaw
        check_mosaic(path, visible, tags)
        order = "<" if tree is None else tree.order
        ifd = _dng_from_raw(
            tree, order, visible, tags, preview=preview, compression=compression, modified=modified
        )
        write_tree(path, [_with_unique_id(ifd, unique_id)], order, replace=replace_file)
        return
    check_mosaic(path, frame, tags)
    preview = crop_preview(preview, kept.mosaic, info)
    ifd = _dng_from_dng(kept, frame, tags, preview, compression, modified)
    write_tree(path, [_with_unique_id(ifd, unique_id)], kept.order, replace=replace_file)


# --- directories ----------------------------------------------------------------------


def _dng_from_dng(
    kept: KeptTags,
    frame: np.ndarray,
    tags: dng_tags.DngTags,
    preview: np.ndarray,
    compression: str,
    modified: datetime | None,
) -> Ifd:
    """Return IFD 0 of a DNG that keeps the tags of its source, a DNG."""
    meaning = dng_tags.cfa_tags(replace(tags, noise=_in_plane_order(tags.noise, kept.mosaic)))
    levels = [tag for tag in meaning if tag.code in LEVEL_TAGS]
    filters = [tag for tag in meaning if tag.code in _CFA_PATTERN_TAGS]
    mosaic = fields.merge(filters, kept.mosaic, mosaic_ifd(frame, compression, kept.order), levels)
    images = fields.ifd_field(SUB_IFDS, mosaic, preview_ifd(preview), *kept.auxiliary)
    version = _version(kept.main, _DNG_VERSION, dng_tags.VERSION)
    oldest = _version(kept.main, _DNG_BACKWARD_VERSION, (*version[:2], 0, 0))
    missing = [tag for tag in dng_tags.camera_tags(tags) if tag.code in _DEFAULT_TAGS]
    # Before DateTime is replaced: it may be the only tag with the time of the exposure.
    exif = with_capture_time(_exif_directory(kept.main), kept.main, tags.captured)
    return fields.merge(
        missing,
        kept.main,
        _exif_pointer(exif, modified),
        thumbnail_ifd(preview),
        _software_and_time(tags, modified),
        [
            fields.byte_field(_DNG_VERSION, bytes(max(version, dng_tags.VERSION))),
            fields.byte_field(_DNG_BACKWARD_VERSION, bytes(max(oldest, dng_tags.BACKWARD_VERSION))),
            images,
        ],
    )


def _version(ifd: Ifd, code: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the four bytes of a version; the default if the tag is absent or invalid."""
    numbers = integers(ifd, code)
    return numbers if len(numbers) == 4 and max(numbers) < 256 else default


def _dng_from_raw(
    tree: Tree | None,
    order: str,
    mosaic: np.ndarray,
    tags: dng_tags.DngTags,
    *,
    preview: np.ndarray,
    compression: str,
    modified: datetime | None,
) -> Ifd:
    """Return IFD 0 of a new DNG from a source in another raw format."""
    main, exif, gps = tags_kept_from_raw(tree)
    exif = fields.merge(dng_tags.exif_tags(tags), with_capture_time(exif, main, tags.captured))
    picture = (*mosaic_ifd(mosaic, compression, order), *dng_tags.cfa_tags(tags))
    return fields.merge(
        main,
        dng_tags.camera_tags(tags),
        thumbnail_ifd(preview),
        _software_and_time(tags, modified),
        [
            # The source's DateTime is not kept, so neither are its fraction and zone.
            *_exif_pointer(_without_modification(exif), modified),
            fields.ifd_field(SUB_IFDS, picture, preview_ifd(preview)),
            *([fields.ifd_field(GPS, gps)] if gps else []),
        ],
    )


def _with_unique_id(ifd: Ifd, unique_id: bytes) -> Ifd:
    if not unique_id:
        return ifd
    return fields.merge(ifd, [fields.byte_field(_RAW_DATA_UNIQUE_ID, unique_id)])


def _software_and_time(tags: dng_tags.DngTags, modified: datetime | None) -> list[Field]:
    result = [fields.ascii_field(_SOFTWARE, tags.software)]
    if modified:
        result.append(fields.ascii_field(_DATE_TIME, f"{modified:%Y:%m:%d %H:%M:%S}"))
    return result


def _exif_directory(main: Ifd) -> Ifd:
    """Return the Exif directory that IFD 0 points to; () if there is none."""
    found = (tag.data.ifds for tag in main if tag.code == EXIF and isinstance(tag.data, Ifds))
    return next(found, ((),))[0]


def _exif_pointer(exif: Ifd, modified: datetime | None) -> list[Field]:
    """Return the pointer to an Exif directory with the zone of the time of modification."""
    if modified is not None:
        zone = f"{modified:%z}"
        offset = [fields.ascii_field(OFFSET_TIME, f"{zone[:3]}:{zone[3:5]}")] if zone else []
        exif = (*_without_modification(exif), *offset)
    return [fields.ifd_field(EXIF, with_exif_version(exif))] if exif else []


def _without_modification(exif: Ifd) -> Ifd:
    return tuple(tag for tag in exif if tag.code not in _MODIFICATION_TAGS)


def _in_plane_order(noise: NoiseModel | None, mosaic: Ifd) -> NoiseModel | None:
    """Return the noise with red, green and blue in the order of CFAPlaneColor (50710).

    NoiseProfile has its pairs in that order (DNG 1.4, tag 51041).
    """
    colours = integers(mosaic, _CFA_PLANE_COLOR)
    if noise is None or sorted(colours) != [0, 1, 2]:
        return noise
    planes = [((0,), (1, 2), (3,))[colour] for colour in colours]
    a, b, c, d = planes[0][0], planes[1][0], planes[1][-1], planes[2][0]
    shot, read = noise.shot, noise.read
    return NoiseModel((shot[a], shot[b], shot[c], shot[d]), (read[a], read[b], read[c], read[d]))


def crop_preview(preview: np.ndarray, mosaic: Ifd, info: RawInfo) -> np.ndarray:
    """Return the part of a preview that the default crop shows.

    DefaultCropOrigin (50719) and DefaultCropSize (50720) count from the corner of ActiveArea
    (50829); DNG 1.4, chapter 4.

    Args:
        preview: `(rows, columns, 3)` uint8, of the visible area.
        mosaic: tags of the directory of the mosaic.
        info: the frame, for the position and size of its visible area.
    """
    origin, size = fractions(mosaic, _CROP_ORIGIN), fractions(mosaic, _CROP_SIZE)
    if len(size) != 2 or len(origin) != 2:
        return preview
    area = integers(mosaic, _ACTIVE_AREA)
    area = area if len(area) == 4 else (0, 0, 0, 0)
    # Columns first, as in the tags of the crop.
    starts = [area[1] - info.origin[1] + origin[0], area[0] - info.origin[0] + origin[1]]
    rows, columns, _ = preview.shape
    (left, right), (top, bottom) = (
        (round(start * scaled / full), round((start + length) * scaled / full))
        for start, length, scaled, full in zip(
            starts, size, (columns, rows), (info.width, info.height), strict=True
        )
    )
    part = preview[max(top, 0) : bottom, max(left, 0) : right]
    return part if part.size else preview


def write_cfa_dng(path: Path | str, mosaic: np.ndarray, tags: DngTags) -> None:
    """Write a Bayer mosaic as an uncompressed DNG. The same input gives the same bytes.

    The mosaic is in IFD 0 itself, without a preview.

    Args:
        path: the file to create or replace, atomically.
        mosaic: `(height, width)` uint16, in DN, at least 2x2; sizes may be odd.
        tags: its meaning.

    Raises:
        KpnError: if mosaic or levels are invalid for a DNG, or the file cannot be written.
    """
    check_mosaic(path, mosaic, tags)
    exif = fields.ifd_field(34665, exif_tags(tags))
    picture = mosaic_ifd(mosaic, "none")
    write_tree(path, [fields.merge(picture, cfa_tags(tags), camera_tags(tags), (exif,))])


def write_tree(
    path: Path | str, ifds: Sequence[fields.Ifd], order: str = "<", *, replace: bool = True
) -> None:
    """Write a TIFF tree to a file, atomically.

    Args:
        path: the file.
        ifds: its main directories, IFD 0 first.
        order: byte order, "<" or ">".
        replace: whether an existing file may be replaced.

    Raises:
        KpnError: if the file cannot be written, or would exceed 4 GB.
    """
    with atomic(path, replace=replace) as temporary, temporary.open("wb") as stream:
        writer.write_tiff(stream, ifds, order)


def check_mosaic(path: Path | str, mosaic: np.ndarray, tags: DngTags) -> None:
    """Check that a mosaic and its levels can be written.

    Raises:
        KpnError: if the mosaic is not a 2-D uint16 array of at least 2x2, or its levels are not
            0 <= black < white <= 65535.
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
