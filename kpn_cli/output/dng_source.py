"""The tags that a denoised DNG keeps from its source, and the directories they belong to.

From a DNG, all tags except those that describe replaced pixels. From other raw formats, Exif, GPS
and the description of the photo. Numbers and meaning of tags: DNG specification 1.7.1, chapter 4;
TIFF 6.0, section 8; Exif 2.32, section 4.6.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from ..raw import images, tags
from ..raw.exif import captured
from ..raw.tags import PHOTOMETRIC_CFA
from ..tiff.fields import Field, Ifd, Ifds, merge, undefined_field
from ..tiff.reader import Tree, integers, walk
from . import dng_opcodes, dng_tags

SUB_IFDS, EXIF, GPS = 330, 34665, 34853
#: Time zones of DateTime, DateTimeOriginal and DateTimeDigitized, since Exif 2.31.
OFFSET_TIME, _OFFSET_ORIGINAL, _OFFSET_DIGITIZED = 36880, 36881, 36882
_ORIGINAL, _DIGITIZED, _SUB_SEC_ORIGINAL = 36867, 36868, 37521
_EXIF_VERSION = 36864
IMAGE_UNIQUE_ID = 42016
NOISE_REDUCTION_APPLIED = 50935
_OPCODE_LIST_1 = 51008

#: How the pixels of a directory are stored.
_STORAGE_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289),
    *(317, 322, 323, 324, 325, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519),
    *(520, 521, 529, 530, 531, 532),
    *(50974, 50975),  # SubTileBlockSize, RowInterleaveFactor
    *(52547, 52553, 52554, 52555),  # ColumnInterleaveFactor, JPEG XL's distance, effort, speed
}

#: PreviewApplicationName (50966) to PreviewDateTime (50971); RawToPreviewGain (51112).
_PREVIEW_TAGS = {*range(50966, 50972), 51112}

#: Checksums and identities of the pixels: ImageUniqueID, RawDataUniqueID, RawImageDigest,
#: NewRawImageDigest; and ImageSequenceInfo: the result is no frame of the sequence.
_IDENTITY_TAGS = {IMAGE_UNIQUE_ID, 50781, 50972, 51111, 52548}

#: Levels and noise of the mosaic, which kpn replaces: LinearizationTable, BlackLevelRepeatDim,
#: BlackLevel, BlackLevelDeltaH, BlackLevelDeltaV, WhiteLevel, NoiseProfile.
LEVEL_TAGS = {50712, 50713, 50714, 50715, 50716, 50717, 51041}

#: Tags that move with the mosaic from IFD 0 to a directory of its own (DNG 1.4, chapter 4).
_MOSAIC_TAGS = LEVEL_TAGS | {
    *(33421, 33422),  # CFARepeatPatternDim, CFAPattern
    *(50710, 50711),  # CFAPlaneColor, CFALayout
    *(50718, 50719, 50720, 51125),  # DefaultScale, DefaultCropOrigin and Size, DefaultUserCrop
    *(50733, 50737, 50738, 50780),  # BayerGreenSplit, ChromaBlurRadius, AntiAliasStrength,
    # BestQualityScale
    *(50829, 50830),  # ActiveArea, MaskedAreas
    NOISE_REDUCTION_APPLIED,
    *(51008, 51009, 51022),  # OpcodeList1, OpcodeList2, OpcodeList3
    52525,  # ProfileGainTableMap
}

#: NewSubFileType (254) of the mosaic, of previews, and of Adobe's enhanced images (DNG 1.5).
_RENDERED_SUBFILES = {0, 1, 16, 0x10001}

#: Tags to keep from the IFD 0 of another raw format: ImageDescription, Artist, XMP, Copyright,
#: IPTC, and those that Windows writes. Its other tags describe its own images.
_DESCRIPTION_TAGS = {270, 315, 700, 33432, 33723, *range(40091, 40096)}

#: MakerNote and DNGPrivateData stay at their offset in the file: they hold offsets in formats of
#: their makers, many of them from the beginning of the file.
_FIXED_OFFSET_TAGS = {37500, 50740}
#: Upper bound of the codes of GPS tags (Exif 2.32, section 4.6.6).
_GPS_CODES = 32


@dataclass(frozen=True)
class KeptTags:
    """The tags that are kept from a DNG.

    Attributes:
        order: byte order of the file, "<" or ">"; makers' notes are in it too.
        main: tags for IFD 0, with the Exif and GPS directories.
        mosaic: tags for the directory of the mosaic.
        auxiliary: whole directories of masks and depth maps.
        size: height and width of the whole frame, masked borders included, in sensor pixels.
        white: WhiteLevel (50717) in DN, or its default 2^BitsPerSample - 1.
    """

    order: str
    main: Ifd
    mosaic: Ifd
    auxiliary: tuple[Ifd, ...]
    size: tuple[int, int]
    white: int


def is_auxiliary_image(ifd: Ifd) -> bool:
    """Whether a directory holds a mask or a depth map: denoising does not change these."""
    kind = integers(ifd, 254)
    return bool(kind) and kind[0] not in _RENDERED_SUBFILES


def tags_kept_from_dng(
    tree: Tree, image: int = 0, opcodes: Collection[int] = ()
) -> KeptTags | None:
    """Return the tags to keep from a DNG; None if it has no Bayer mosaic.

    Args:
        tree: its tags.
        image: of several frames in it, the number of the one that is replaced (`RawInfo.image`).
        opcodes: of OpcodeList1 to keep, besides the geometric ones (`RawInfo.ignored_marks`).
    """
    top = tree.ifds[0]
    nested = [ifd for parent in tree.ifds for ifd in _nested(parent, SUB_IFDS)]
    candidates = [ifd for ifd in (*tree.ifds, *nested) if _is_mosaic(ifd)]
    if not candidates:
        return None
    mosaic = _frame(tree, image) if image else max(candidates, key=_size_rank)
    replaced = _STORAGE_TAGS | _IDENTITY_TAGS | {SUB_IFDS}
    main = [tag for tag in top if tag.code not in replaced | _PREVIEW_TAGS]
    if mosaic is top:
        moved = [tag for tag in main if tag.code in _MOSAIC_TAGS]
        main = [tag for tag in main if tag.code not in _MOSAIC_TAGS]
    else:
        moved = [tag for tag in mosaic if tag.code not in replaced]
        main = [tag for tag in main if tag.code not in LEVEL_TAGS]
    auxiliary = [ifd for ifd in (*tree.ifds[1:], *nested) if is_auxiliary_image(ifd)]
    bits = (integers(mosaic, 258) or (16,))[0]
    return KeptTags(
        order=tree.order,
        main=_without_offsets(tuple(main)),
        mosaic=_without_offsets(
            tuple(filter(None, (_at_output_levels(tag, opcodes) for tag in moved)))
        ),
        auxiliary=tuple(map(_without_offsets, auxiliary)),
        size=(integers(mosaic, 257)[0], integers(mosaic, 256)[0]),
        white=(integers(mosaic, 50717) or ((1 << min(bits, 16)) - 1,))[0],
    )


def tags_kept_from_raw(tree: Tree | None) -> tuple[Ifd, Ifd, Ifd]:
    """Return the tags to keep from another raw format, for IFD 0, Exif and GPS.

    Args:
        tree: the tags of the file; None if it has none.

    Returns:
        Three directories, () where the file has none.
    """
    if tree is None:
        return (), (), ()
    main = tuple(tag for tag in tree.ifds[0] if tag.code in _DESCRIPTION_TAGS)
    exifs = [ifd for parent in tree.ifds for ifd in _nested(parent, EXIF)]
    if not exifs:  # Canon's CR3 has Exif and GPS in trees of their own
        exifs = [ifd for ifd in tree.ifds[1:] if integers(ifd, 34855)]
    exif = merge(*reversed(exifs))
    gpses = [ifd for parent in tree.ifds for ifd in _nested(parent, GPS)]
    if not gpses:
        gpses = [ifd for ifd in tree.ifds[1:] if ifd and all(tag.code < _GPS_CODES for tag in ifd)]
    gps = next(iter(gpses), ())
    return _without_offsets(main), _without_offsets(exif), _without_offsets(gps)


def with_capture_time(exif: Ifd, main: Ifd, moment: datetime | None) -> Ifd:
    """Return an Exif directory that has DateTimeOriginal (36867) if the time is known.

    Some sources give it as DateTime or DateTimeDigitized only, and kpn replaces DateTime, the
    time of modification.

    Args:
        exif: Exif directory of the source, still with OffsetTime; may be empty.
        main: IFD 0 of the source, where TIFF/EP has DateTimeOriginal.
        moment: time of the exposure; None if unknown.
    """
    if moment is None or any(_has_date(ifd, _ORIGINAL) for ifd in (exif, main)):
        return exif
    zone = _OFFSET_DIGITIZED if _has_date(exif, _DIGITIZED) else OFFSET_TIME
    zones = [replace(tag, code=_OFFSET_ORIGINAL) for tag in exif if tag.code == zone]
    stale = {_ORIGINAL, _SUB_SEC_ORIGINAL, _OFFSET_ORIGINAL}
    kept = [tag for tag in exif if tag.code not in stale]
    return with_exif_version((*kept, *dng_tags.time_tags(moment), *zones))


def with_exif_version(exif: Ifd) -> Ifd:
    """Return an Exif directory whose ExifVersion (36864) covers all of its tags."""
    versions = [tag.data for tag in exif if tag.code == _EXIF_VERSION]
    version = versions[0] if versions and isinstance(versions[0], bytes) else b""
    zoned = {OFFSET_TIME, _OFFSET_ORIGINAL, _OFFSET_DIGITIZED} & {tag.code for tag in exif}
    if version and (not zoned or version >= b"0231"):
        return exif
    return merge(exif, [undefined_field(_EXIF_VERSION, b"0231" if zoned else b"0230")])


def _has_date(ifd: Ifd, code: int) -> bool:
    """Whether a tag holds a valid date; cameras without a clock write 0000:00:00."""
    dates = [tag for tag in ifd if tag.code == code][:1]
    as_original: dict[int, Field] = {int(tags.Tag.DATE_TIME_ORIGINAL): tag for tag in dates}
    return captured(tags.Metadata(as_original, {}, 0), None) is not None


def _nested(ifd: Ifd, code: int) -> tuple[Ifd, ...]:
    return tuple(
        nested
        for tag in ifd
        if tag.code == code and isinstance(tag.data, Ifds)
        for nested in tag.data.ifds
    )


def _is_mosaic(ifd: Ifd) -> bool:
    sized = integers(ifd, 256) and integers(ifd, 257)
    return integers(ifd, 262) == (PHOTOMETRIC_CFA,) and bool(sized)


def _frame(tree: Tree, image: int) -> Ifd:
    """Return the directory of a frame of a DNG with several."""
    ifds = list(walk(tree.ifds))
    found = [{field.code: field for field in ifd} for ifd in ifds]
    metadata = tags.Metadata({}, tags.raw_directory(found), 0, tags.raw_directories(found))
    frame = images.frame_directory(metadata, image)
    return next(ifd for ifd, directory in zip(ifds, found, strict=True) if directory is frame)


def _size_rank(ifd: Ifd) -> tuple[bool, int]:
    """Sort key of mosaics: main images (NewSubFileType 0) above others, then by area."""
    return integers(ifd, 254) in ((), (0,)), integers(ifd, 256)[0] * integers(ifd, 257)[0]


def _at_output_levels(tag: Field, opcodes: Collection[int]) -> Field | None:
    """Return a tag of the mosaic for kpn's levels; None to drop it."""
    if tag.code in LEVEL_TAGS:
        return None
    if tag.code == _OPCODE_LIST_1 and isinstance(tag.data, bytes):
        data = dng_opcodes.keep_geometric_opcodes(tag.data, frozenset(opcodes))
        return Field(tag.code, tag.kind, len(data), data) if data else None
    return tag


def _without_offsets(ifd: Ifd) -> Ifd:
    """Return a directory without positions in the file, except of `_FIXED_OFFSET_TAGS`."""
    return tuple(_without_offset(tag) for tag in ifd)


def _without_offset(tag: Field) -> Field:
    at = tag.offset if tag.code in _FIXED_OFFSET_TAGS else None
    data = tag.data
    if isinstance(data, Ifds):
        data = Ifds(tuple(map(_without_offsets, data.ifds)))
    return Field(tag.code, tag.kind, tag.count, data, at)
