"""Write DNGs: clean planes with the tags of their source, or a plain mosaic.

From a DNG, all tags are kept except those that denoising changes. The frame keeps its size,
masked borders included, so positions in tags stay valid. From other raw formats, a new DNG is
made, with their Exif and GPS.

Layout (DNG specification 1.7.1, chapter 2): IFD 0 holds the thumbnail and the tags of the whole
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
from ..tiff.reader import Tree, integers
from . import dng_levels, dng_tags
from .dng_digest import new_raw_image_digest
from .dng_directories import DNG_VERSION, NewTags, dng_from_dng, dng_from_raw, with_xmp
from .dng_exposure import bound_to_white, with_exposure
from .dng_images import mosaic_ifd
from .dng_levels import output_levels, planes_at_output_levels, scale_noise, with_masked_borders
from .dng_source import KeptTags, tags_kept_from_dng
from .dng_tags import DngTags, camera_tags, cfa_tags, exif_tags
from .xmp_edit import Edit


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
    strength: float = 0.0,
    precision: str = "",
    document: str = "",
    sidecars: Sequence[bytes] = (),
    lift: float = 0.0,
    headroom: float = 1.0,
) -> tuple[str, ...]:
    """Write clean planes as a DNG with the tags of their source.

    Args:
        path: the file to create or replace, atomically.
        info: the source frame; its file is read again for masked borders.
        tree: the tags of its file, read with the images of `dng_source.is_auxiliary_image`; None
            if it has none.
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is the white of
            `info`, and `headroom` is the largest value.
        preview: `(rows, columns, 3)` uint8, sRGB, of the visible area, in the orientation of the
            sensor.
        noise: of the planes; None to write no NoiseProfile.
        compression: one of `dng_images.COMPRESSION_CODES`.
        modified: time of modification, with its zone; None to keep the source's.
        unique_id: RawDataUniqueID (50781) and ImageUniqueID (42016), 16 bytes; b"" for none.
        replace_file: whether an existing file may be replaced.
        strength: of denoising; 0 for none.
        precision: arithmetic of the network, for Software (305); "" for none.
        document: name of the reference's file, for DocumentName (269); "" to leave it as it is.
        sidecars: contents of XMP files beside the source, whose properties go before those of its
            own XMP; a later one before an earlier one.
        lift: EV by which readers shall show the picture brighter (BaselineExposure, tag 50730;
            DNG 1.7.1, chapter 4). The mosaic is the same.
        headroom: signal that the white level stands for, at least 1: the mosaic is scaled by its
            inverse, and BaselineExposure makes up for it. If tags of the source do not allow
            for another white level, the planes are clipped at 1 instead, with a note.

    Returns:
        Notes: which tags of the source are damaged and were ignored.

    Raises:
        KpnError: if the file cannot be written, or the source cannot be read any more.
    """
    kept = None
    if tree is not None and integers(tree.ifds[0], DNG_VERSION):
        kept = tags_kept_from_dng(tree, info.image, info.ignored_marks)
    headroom, odd = _possible_headroom(kept, headroom)
    brighter = lift + float(np.log2(headroom))
    if kept is not None:
        kept, damaged = _with_exposure(kept, brighter)
        odd += damaged
    white = info.highest
    if kept is not None and kept.white > max(info.black):
        white = kept.white
    step, black = output_levels(info, white)
    level_step = step / headroom  # of the samples; black stays where it is
    visible, _, level = dng_levels.encode_planes(
        planes_at_output_levels(planes, info, level_step, black),
        info.phase,
        info.height,
        info.width,
    )
    exposure = 0.0
    if info.saturation is not None:
        level, exposure = dng_levels.output_white(info, step)
    if noise is not None:
        # NoiseProfile is for samples from each plane's own black level to white.
        gains = (info.white - np.asarray(info.black)) * level_step / (level - black)
        noise = scale_noise(noise, gains)
    red, green1, green2, blue = black.tolist()
    tags = dng_tags.tags_of(info, black=(red, green1, green2, blue), white=level, noise=noise)
    neutral = None if info.balance_is_estimated else tags.as_shot_neutral
    tags = replace(
        tags,
        as_shot_neutral=neutral,
        baseline_exposure=exposure + brighter or None,
        software=f"{tags.software} {precision}".rstrip(),
        document=document,
    )
    frame = (
        visible
        if kept is None
        else with_masked_borders(info, visible, kept.size, level_step, black)
    )
    new = NewTags(tags, compression, modified, unique_id, min(strength, 1.0))
    if kept is None or frame is None:  # no DNG, or its tags give another size than LibRaw
        check_mosaic(path, visible, tags)
        order = "<" if tree is None else tree.order
        ifd, notes = dng_from_raw(tree, order, visible, info, preview, new)
    else:
        check_mosaic(path, frame, tags)
        order = kept.order
        ifd, notes = dng_from_dng(kept, frame, info, preview, new)
    edit = Edit(strength > 0, modified, unique_id or new_raw_image_digest(visible), unique_id)
    ifd, more = with_xmp(ifd, sidecars, edit)
    write_tree(path, [ifd], order, replace=replace_file)
    return (*odd, *notes, *more)


def _possible_headroom(kept: KeptTags | None, headroom: float) -> tuple[float, tuple[str, ...]]:
    """Return the headroom that the tags of the source allow for, and a line if that is none."""
    tag = None if kept is None or headroom == 1 else bound_to_white(kept.main, kept.mosaic)
    if tag is None:
        return headroom, ()
    line = (
        f"its {tag} holds for values up to its white only, so the DNG has no headroom: "
        "its highlights clip where the reference's do"
    )
    return 1.0, (line,)


def _with_exposure(kept: KeptTags, change: float) -> tuple[KeptTags, tuple[str, ...]]:
    """Return the tags with a BaselineExposure that is larger by `change` EV, and notes.

    The tag's place is IFD 0. Some readers (LibRaw) prefer one beside the mosaic.
    """
    main, notes = with_exposure(kept.main, change, required=True)
    mosaic, more = with_exposure(kept.mosaic, change, required=False)
    return replace(kept, main=main, mosaic=mosaic), (*notes, *more)


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
