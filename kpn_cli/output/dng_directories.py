"""The directories of a denoised DNG: what its source says, and what is new in the result.

Numbers and meaning of tags: DNG specification 1.7.1, chapter 4; Exif 2.32, section 4.6. The result
says how much noise reduction there was (NoiseReductionApplied, tag 50935: 1 is the ideal amount,
after which an editor adds none by default).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from ..image.noise_model import NoiseModel
from ..raw.info import RawInfo
from ..tiff import fields
from ..tiff.fields import Field, Ifd, Ifds
from ..tiff.reader import Tree, integers, text
from . import dng_tags
from .dng_crop import Area, crop_preview, crop_tags, picture_size, visible_area_of
from .dng_digest import new_raw_image_digest
from .dng_images import mosaic_ifd, preview_ifd, thumbnail_ifd
from .dng_source import (
    EXIF,
    GPS,
    IMAGE_UNIQUE_ID,
    LEVEL_TAGS,
    NOISE_REDUCTION_APPLIED,
    OFFSET_TIME,
    SUB_IFDS,
    KeptTags,
    tags_kept_from_raw,
    with_capture_time,
    with_exif_version,
)
from .dng_tags import DngTags
from .xmp_edit import Edit, dng_xmp

_CFA_PLANE_COLOR = 50710
#: SubSecTime and OffsetTime of Exif: fraction and zone of DateTime, the time of modification.
_MODIFICATION_TAGS = {37520, OFFSET_TIME}
_DOCUMENT_NAME, _SOFTWARE, _DATE_TIME, _XMP = 269, 305, 306, 700
_PIXEL_X_DIMENSION, _PIXEL_Y_DIMENSION = 40962, 40963
DNG_VERSION, _DNG_BACKWARD_VERSION = 50706, 50707
_RAW_DATA_UNIQUE_ID, _NEW_RAW_IMAGE_DIGEST = 50781, 51111
_UNIQUE_CAMERA_MODEL, _ORIGINAL_RAW_FILE_NAME = 50708, 50827

_CFA_PATTERN_TAGS = {33421, 33422}  # CFARepeatPatternDim, CFAPattern

#: Orientation and UniqueCameraModel: written if the source has none. OriginalRawFileName is the
#: name of a raw file of another format, so a DNG has one or gets none.
_DEFAULT_TAGS = {274, _UNIQUE_CAMERA_MODEL}

#: NewSubFileType of a transparency mask, which is part of a digest (DNG SDK).
_TRANSPARENCY_MASK = 4


@dataclass(frozen=True)
class NewTags:
    """What a result has of its own.

    Attributes:
        tags: about the mosaic.
        compression: of the mosaic.
        modified: time of modification; None to keep the source's.
        unique_id: of the picture, 16 bytes; b"" for none.
        noise_reduction: NoiseReductionApplied, above 0; 0 to keep the source's.
    """

    tags: DngTags
    compression: str
    modified: datetime | None
    unique_id: bytes
    noise_reduction: float


def dng_from_dng(
    kept: KeptTags, frame: np.ndarray, info: RawInfo, preview: np.ndarray, new: NewTags
) -> tuple[Ifd, tuple[str, ...]]:
    """Return IFD 0 of a DNG that keeps the tags of its source, a DNG; and notes."""
    noise = _in_plane_order(new.tags.noise, kept.mosaic)
    meaning = dng_tags.cfa_tags(replace(new.tags, noise=noise))
    levels = [tag for tag in meaning if tag.code in LEVEL_TAGS]
    filters = [tag for tag in meaning if tag.code in _CFA_PATTERN_TAGS]
    main, applied = kept.main, _noise_reduction(new)
    if applied:
        main = tuple(tag for tag in main if tag.code != NOISE_REDUCTION_APPLIED)
    pixels = mosaic_ifd(frame, new.compression, kept.order)
    mosaic = fields.merge(filters, kept.mosaic, pixels, levels, applied)
    preview, notes = crop_preview(preview, mosaic, visible_area_of(mosaic, info))
    images = fields.ifd_field(SUB_IFDS, mosaic, preview_ifd(preview), *kept.auxiliary)
    version = _version(main, DNG_VERSION, dng_tags.VERSION)
    oldest = _version(main, _DNG_BACKWARD_VERSION, (*version[:2], 0, 0))
    missing = [tag for tag in dng_tags.camera_tags(new.tags) if tag.code in _DEFAULT_TAGS]
    # Before DateTime is replaced: it may be the only tag with the time of the exposure.
    exif = with_capture_time(_exif_directory(main), main, new.tags.captured)
    masked = any(integers(ifd, 254) == (_TRANSPARENCY_MASK,) for ifd in kept.auxiliary)
    ifd = fields.merge(
        missing,
        main,
        _exif_pointer(_with_image_id(exif, new.unique_id), new.modified),
        thumbnail_ifd(preview),
        _software_and_time(new.tags, new.modified),
        [
            fields.byte_field(DNG_VERSION, bytes(max(version, dng_tags.VERSION))),
            fields.byte_field(_DNG_BACKWARD_VERSION, bytes(max(oldest, dng_tags.BACKWARD_VERSION))),
            images,
        ],
        _identity(None if masked else frame, new.unique_id),
    )
    return ifd, notes


def _version(ifd: Ifd, code: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the four bytes of a version; the default if the tag is absent or invalid."""
    numbers = integers(ifd, code)
    return numbers if len(numbers) == 4 and max(numbers) < 256 else default


def dng_from_raw(
    tree: Tree | None,
    order: str,
    mosaic: np.ndarray,
    info: RawInfo,
    preview: np.ndarray,
    new: NewTags,
) -> tuple[Ifd, tuple[str, ...]]:
    """Return IFD 0 of a new DNG from a source in another raw format; and notes."""
    main, exif, gps = tags_kept_from_raw(tree)
    tags = _as_named_in_dng(new.tags, tree)
    geometry = crop_tags(info)
    picture = fields.merge(
        mosaic_ifd(mosaic, new.compression, order),
        dng_tags.cfa_tags(tags),
        geometry,
        _noise_reduction(new),
    )
    preview, notes = crop_preview(preview, geometry, Area(0, 0, info.height, info.width))
    rows, columns = picture_size(geometry, info.height, info.width)
    exif = fields.merge(
        dng_tags.exif_tags(tags),
        with_capture_time(exif, main, tags.captured),
        [
            fields.integer_field(_PIXEL_X_DIMENSION, columns),
            fields.integer_field(_PIXEL_Y_DIMENSION, rows),
        ],
    )
    # The source's DateTime is not kept, so neither are its fraction and zone.
    exif = _without_modification(_with_image_id(exif, new.unique_id))
    ifd = fields.merge(
        main,
        dng_tags.camera_tags(tags),
        thumbnail_ifd(preview),
        _software_and_time(tags, new.modified),
        [
            *_exif_pointer(exif, new.modified),
            fields.ifd_field(SUB_IFDS, picture, preview_ifd(preview)),
            *([fields.ifd_field(GPS, gps)] if gps else []),
        ],
        _identity(mosaic, new.unique_id),
    )
    return ifd, notes


def _as_named_in_dng(tags: DngTags, tree: Tree | None) -> DngTags:
    """Return the tags with the names of camera and raw file that the source has if it is a DNG."""
    if tree is None or not integers(tree.ifds[0], DNG_VERSION):
        return tags
    names = {tag.code: tag for tag in tree.ifds[0]}
    original = names.get(_ORIGINAL_RAW_FILE_NAME)
    data = original.data if original is not None else b""
    raw_name = data.rstrip(b"\0").decode("utf-8", "replace") if isinstance(data, bytes) else ""
    camera = names.get(_UNIQUE_CAMERA_MODEL)
    return replace(
        tags,
        original_raw_file_name=raw_name or None,
        unique_camera_model=(text(camera) if camera is not None else "") or None,
    )


def _noise_reduction(new: NewTags) -> list[Field]:
    """Return NoiseReductionApplied (50935) of the mosaic; [] to keep the source's."""
    if not new.noise_reduction > 0:
        return []
    return [fields.rational_field(NOISE_REDUCTION_APPLIED, new.noise_reduction)]


def _identity(frame: np.ndarray | None, unique_id: bytes) -> list[Field]:
    """Return the tags by which readers know the mosaic and find it damaged.

    Args:
        frame: the stored mosaic; None to write no digest.
        unique_id: 16 bytes; b"" for none.
    """
    result = [fields.byte_field(_RAW_DATA_UNIQUE_ID, unique_id)] if unique_id else []
    if frame is not None:
        result.append(fields.byte_field(_NEW_RAW_IMAGE_DIGEST, new_raw_image_digest(frame)))
    return result


def _with_image_id(exif: Ifd, unique_id: bytes) -> Ifd:
    """Return an Exif directory with the ImageUniqueID (42016) of the result, not its source's."""
    kept = tuple(tag for tag in exif if tag.code != IMAGE_UNIQUE_ID)
    return (*kept, fields.ascii_field(IMAGE_UNIQUE_ID, unique_id.hex())) if unique_id else kept


def with_xmp(ifd: Ifd, sidecars: Sequence[bytes], edit: Edit) -> tuple[Ifd, tuple[str, ...]]:
    """Return IFD 0 with the XMP of the result, and notes."""
    found = [tag.data for tag in ifd if tag.code == _XMP]
    embedded = found[0] if found and isinstance(found[0], bytes) else b""
    packet, notes = dng_xmp(embedded, sidecars, edit)
    others = tuple(tag for tag in ifd if tag.code != _XMP)
    return (others if packet is None else (*others, fields.byte_field(_XMP, packet))), notes


def _software_and_time(tags: dng_tags.DngTags, modified: datetime | None) -> list[Field]:
    result = [fields.ascii_field(_SOFTWARE, tags.software)]
    if tags.document:
        result.append(fields.ascii_field(_DOCUMENT_NAME, tags.document))
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
