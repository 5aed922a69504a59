"""The tags of a source that its denoised DNG keeps, and where they belong.

All of them, except what describes pixels that are there no more. Numbers and meaning: DNG
specification 1.4, chapters 4 and 5; those above 51180 are of 1.5 to 1.7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ..raw import tags
from ..raw.exif import captured
from ..raw.tags import PHOTOMETRIC_CFA
from ..tiff.fields import Field, Ifd, Ifds, merge, undefined_field
from ..tiff.reader import Tree, integers
from . import dng_opcodes, dng_tags

SUB_IFDS, EXIF, GPS = 330, 34665, 34853
#: Zones of DateTime, DateTimeOriginal and DateTimeDigitized: Exif 2.31.
OFFSET_TIME, _OFFSET_ORIGINAL, _OFFSET_DIGITIZED = 36880, 36881, 36882
_ORIGINAL, _DIGITIZED, _SUB_SEC_ORIGINAL = 36867, 36868, 37521
_EXIF_VERSION = 36864
_OPCODE_LIST_1 = 51008

#: How the pixels of a directory are stored.
_STORAGE = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289),
    *(317, 322, 323, 324, 325, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519),
    *(520, 521, 529, 530, 531, 532),
    *(50974, 50975),  # SubTileBlockSize, RowInterleaveFactor
    *(52547, 52553, 52554, 52555),  # ColumnInterleaveFactor, JPEG XL's distance, effort, speed
}

#: Who rendered the preview, how and when; RawToPreviewGain.
_PREVIEW = {*range(50966, 50972), 51112}

#: Checksums and identities of the pixels: RawDataUniqueID, RawImageDigest, NewRawImageDigest.
_IDENTITY = {50781, 50972, 51111}

#: The levels of the mosaic, which are ours, LinearizationTable and the black levels' deltas
#: included; and its noise.
LEVELS = {50712, 50713, 50714, 50715, 50716, 50717, 51041}

#: What belongs to the directory of the mosaic, where it isn't IFD 0 itself.
_OF_THE_MOSAIC = LEVELS | {
    *(33421, 33422),  # CFARepeatPatternDim, CFAPattern
    *(50710, 50711),  # CFAPlaneColor, CFALayout
    *(50718, 50719, 50720, 51125),  # DefaultScale, DefaultCropOrigin and Size, DefaultUserCrop
    *(50733, 50737, 50738, 50780),  # BayerGreenSplit, ChromaBlurRadius, AntiAliasStrength,
    # BestQualityScale
    *(50829, 50830),  # ActiveArea, MaskedAreas
    *(51008, 51009, 51022),  # OpcodeList1, 2, 3
    52525,  # ProfileGainTableMap
}

#: NewSubfileType of renderings of the mosaic: itself, previews, enhanced by Adobe's converter.
_RENDERINGS = {0, 1, 16, 0x10001}

#: What is worth taking from the IFD 0 of another raw format: description, artist, XMP,
#: copyright, IPTC, and what Windows writes. The rest is about its own pictures.
_OF_ANY_PHOTO = {270, 315, 700, 33432, 33723, *range(40091, 40096)}

#: Where these lie in the file is kept: MakerNote, DNGPrivateData. They hold offsets that
#: only their maker knows, and many of them count from the beginning of the file.
_PLACED = {37500, 50740}
#: Tags of a GPS directory are below this (Exif 2.32, 4.6.6).
_GPS_TAGS = 32


@dataclass(frozen=True)
class Kept:
    """What is kept of a DNG.

    Attributes:
        order: the file's byte order, in which the makers' notes are, too.
        main: tags for IFD 0, Exif and GPS inside.
        mosaic: tags for the mosaic's directory.
        others: whole directories: masks and depth maps.
        size: height and width of the whole frame, in sensor pixels.
        white: WhiteLevel (tag 50717) or its default; DN.
    """

    order: str
    main: Ifd
    mosaic: Ifd
    others: tuple[Ifd, ...]
    size: tuple[int, int]
    white: int


def is_kept_whole(ifd: Ifd) -> bool:
    """Whether a directory's picture is no rendering of the mosaic, so that it stays as it is."""
    kind = integers(ifd, 254)
    return bool(kind) and kind[0] not in _RENDERINGS


def kept_of_dng(tree: Tree) -> Kept | None:
    """Return what to keep of a DNG's tree; None where it has no Bayer mosaic."""
    top = tree.ifds[0]
    nested = [ifd for parent in tree.ifds for ifd in _nested(parent, SUB_IFDS)]
    candidates = [ifd for ifd in (*tree.ifds, *nested) if _is_mosaic(ifd)]
    if not candidates:
        return None
    mosaic = max(candidates, key=_area)
    main = [tag for tag in top if tag.code not in _STORAGE | _PREVIEW | _IDENTITY | {SUB_IFDS}]
    if mosaic is top:
        moved = [tag for tag in main if tag.code in _OF_THE_MOSAIC]
        main = [tag for tag in main if tag.code not in _OF_THE_MOSAIC]
    else:
        moved = [tag for tag in mosaic if tag.code not in _STORAGE | _IDENTITY | {SUB_IFDS}]
        main = [tag for tag in main if tag.code not in LEVELS]
    others = tuple(_free(ifd) for ifd in (*tree.ifds[1:], *nested) if is_kept_whole(ifd))
    bits = (integers(mosaic, 258) or (16,))[0]
    return Kept(
        order=tree.order,
        main=_free(tuple(main)),
        mosaic=_free(tuple(filter(None, map(_still_true, moved)))),
        others=others,
        size=(integers(mosaic, 257)[0], integers(mosaic, 256)[0]),
        white=(integers(mosaic, 50717) or ((1 << min(bits, 16)) - 1,))[0],
    )


def kept_of_any_raw(tree: Tree | None) -> tuple[Ifd, Ifd, Ifd]:
    """Return what to keep of another raw format: tags for IFD 0, Exif, GPS."""
    if tree is None:
        return (), (), ()
    main = tuple(tag for tag in tree.ifds[0] if tag.code in _OF_ANY_PHOTO)
    found = [ifd for parent in tree.ifds for ifd in _nested(parent, EXIF)]
    if not found:  # Canon's CR3 has Exif in a tree of its own
        found = [ifd for ifd in tree.ifds[1:] if integers(ifd, 34855)]
    exif = merge(*reversed(found))
    places = [ifd for parent in tree.ifds for ifd in _nested(parent, GPS)]
    if not places:  # likewise
        places = [ifd for ifd in tree.ifds[1:] if ifd and all(tag.code < _GPS_TAGS for tag in ifd)]
    gps = next(iter(places), ())
    return _free(main), _free(exif), _free(gps)


def with_capture(exif: Ifd, main: Ifd, moment: datetime | None) -> Ifd:
    """Return an Exif directory that says when the photo was taken.

    Some sources say it with DateTime or DateTimeDigitized only, and DateTime, the time of
    modification, will be ours.

    Args:
        exif: the source's directory, its zone of DateTime still there; may be empty.
        main: the source's IFD 0, where TIFF/EP has DateTimeOriginal.
        moment: of the exposure, as far as it is known.
    """
    if moment is None or any(_is_time(ifd, _ORIGINAL) for ifd in (exif, main)):
        return exif
    zone = _OFFSET_DIGITIZED if _is_time(exif, _DIGITIZED) else OFFSET_TIME
    zones = [replace(tag, code=_OFFSET_ORIGINAL) for tag in exif if tag.code == zone]
    stale = {_ORIGINAL, _SUB_SEC_ORIGINAL, _OFFSET_ORIGINAL}
    kept = [tag for tag in exif if tag.code not in stale]
    return with_version((*kept, *dng_tags.time_tags(moment), *zones))


def with_version(exif: Ifd) -> Ifd:
    """Return an Exif directory whose version has all of its tags."""
    said = next((tag.data for tag in exif if tag.code == _EXIF_VERSION), b"")
    zoned = {OFFSET_TIME, _OFFSET_ORIGINAL, _OFFSET_DIGITIZED} & {tag.code for tag in exif}
    if said and (not zoned or said >= b"0231"):
        return exif
    return merge(exif, [undefined_field(_EXIF_VERSION, b"0231" if zoned else b"0230")])


def _is_time(ifd: Ifd, code: int) -> bool:
    """Whether a text tag is a date that we can read; cameras without a clock write 0000:00:00."""
    found = [tag for tag in ifd if tag.code == code]
    said = {tags.Tag.DATE_TIME_ORIGINAL: found[0]} if found else {}
    return captured(tags.Metadata(said, {}, 0), None) is not None


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


def _area(ifd: Ifd) -> tuple[bool, int]:
    return integers(ifd, 254) in ((), (0,)), integers(ifd, 256)[0] * integers(ifd, 257)[0]


def _still_true(tag: Field) -> Field | None:
    """A tag of the mosaic under our levels; None if nothing of it is left."""
    if tag.code in LEVELS:
        return None
    if tag.code == _OPCODE_LIST_1 and isinstance(tag.data, bytes):
        data = dng_opcodes.without_levels(tag.data)
        return Field(tag.code, tag.kind, len(data), data) if data else None
    return tag


def _free(ifd: Ifd) -> Ifd:
    """Let everything move in the file that can."""
    return tuple(_moved(tag) for tag in ifd)


def _moved(tag: Field) -> Field:
    at = tag.offset if tag.code in _PLACED else None
    data = Ifds(tuple(map(_free, tag.data.ifds))) if isinstance(tag.data, Ifds) else tag.data
    return Field(tag.code, tag.kind, tag.count, data, at)
