"""TIFF and JPEG of a developed picture, with the Exif and colour profile they can hold.

TIFF 6.0 sections 14 (predictor) and Adobe's Deflate; Exif 2.32 for the tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from .. import __version__
from ..raw.info import RawInfo
from ..system.files import atomic
from ..tiff import fields, writer
from ..tiff.fields import Field, Ifd, Ifds
from ..tiff.reader import Tree
from . import dng_tags
from .dng_source import EXIF, GPS, kept_of_any_raw, with_capture, with_version
from .icc import rgb_profile

#: Exif tags that are about the raw file: MakerNote, ComponentsConfiguration,
#: CompressedBitsPerPixel, ColorSpace, PixelXDimension, PixelYDimension, Interoperability,
#: fraction and zone of the time of modification, ImageUniqueID.
_OF_THE_RAW = {37500, 37121, 37122, 40961, 40962, 40963, 40965, 37520, 36880, 42016}
_IMAGE_UNIQUE_ID = 42016
_XMP, _LENS_INFO, _LENS_SPECIFICATION = 700, 50736, 42034
_SRGB, _UNCALIBRATED = 1, 65535  # ColorSpace

#: XResolution, YResolution, ResolutionUnit (inch), which TIFF and Exif demand.
_RESOLUTION = (
    fields.rational_field(282, 300),
    fields.rational_field(283, 300),
    fields.integer_field(296, 2),
)

#: A segment of a JPEG has 16 bits for its length.
_MAX_JPEG_EXIF = 65000
_LONG_VALUE = 512
#: Bytes of a strip before compression: TIFF 6.0 says "about 8K", of the disks of its time.
_STRIP_BYTES = 1 << 18
_TIFF_HEADER = 8


def photo_tags(
    info: RawInfo,
    tree: Tree | None,
    size: tuple[int, int],
    *,
    linear: bool,
    jpeg: bool = False,
    modified: datetime | None = None,
    mark: bytes = b"",
) -> Ifd:
    """Return what a rendering says of the photo: camera, exposure, lens, place, time.

    Args:
        info: the raw frame.
        tree: the tags of its file; None where it has none.
        size: rows and columns of the picture, upright: the tags say so.
        linear: whether it is linear light rather than sRGB.
        jpeg: whether the tags are for a JPEG, whose pixels Exif describes otherwise.
        modified: time of modification; None to leave it out.
        mark: ImageUniqueID, 16 bytes; none if empty.
    """
    main, exif, gps = kept_of_any_raw(tree)
    exif = with_capture(exif, main, info.captured)
    lens = [
        Field(_LENS_SPECIFICATION, tag.kind, tag.count, tag.data)
        for tag in (tree.ifds[0] if tree is not None else ())
        if tag.code == _LENS_INFO
    ]
    exif = fields.merge(
        lens,
        [fields.undefined_field(40960, b"0100")],  # FlashpixVersion, which Exif demands
        dng_tags.exif_tags(dng_tags.tags_of(info)),
        [tag for tag in exif if tag.code not in _OF_THE_RAW],
        [fields.integer_field(40961, _UNCALIBRATED if linear else _SRGB)],  # ColorSpace
        _jpeg_exif(*size) if jpeg else [],
        [fields.ascii_field(_IMAGE_UNIQUE_ID, mark.hex())] if mark else [],
    )
    return fields.merge(
        # A raw's XMP tells editors how to develop it, which is done.
        [tag for tag in main if tag.code != _XMP],
        [
            fields.ascii_field(271, info.make),
            fields.ascii_field(272, info.model),
            fields.integer_field(274, 1),  # Orientation: as it lies
            fields.ascii_field(305, f"kpn {__version__}"),  # Software
            fields.ifd_field(EXIF, with_version(exif)),
            *(_RESOLUTION if not jpeg else (*_RESOLUTION, fields.integer_field(531, 1))),
            *([fields.ascii_field(306, f"{modified:%Y:%m:%d %H:%M:%S}")] if modified else []),
            *([fields.ifd_field(GPS, gps)] if gps else []),
        ],
    )


@contextmanager
def tiff_writer(
    path: Path | str,
    size: tuple[int, int],
    *,
    linear: bool,
    tags: Sequence[Field] = (),
    replace: bool = True,
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a 16-bit RGB TIFF with its ICC profile, band by band.

    The same picture gives the same bytes.

    Args:
        path: the file to create or replace, atomically, at the end of the block.
        size: rows and columns.
        linear: whether it is linear light rather than sRGB.
        tags: what else to say, as from `photo_tags`.
        replace: whether a file of that name may be replaced.

    Yields:
        A function that takes the next rows, `(rows, columns, 3)` uint16.

    Raises:
        KpnError: if the disk refuses the file.
    """
    rows, columns = size
    step = max(1, _STRIP_BYTES // (6 * columns))
    waiting = np.empty((0, columns, 3), np.uint16)
    starts: list[int] = []
    lengths: list[int] = []
    with (
        atomic(path, replace=replace) as temporary,
        temporary.open("wb") as file,
        ThreadPoolExecutor() as pool,
    ):
        file.write(bytes(_TIFF_HEADER))

        def write(rgb: np.ndarray) -> None:
            parts = (rgb[top : top + step] for top in range(0, len(rgb), step))
            for strip in pool.map(_deflated, parts):
                file.write(bytes(file.tell() % 2))  # TIFF wants even offsets
                starts.append(file.tell())
                lengths.append(len(strip))
                file.write(strip)

        def add(rgb: np.ndarray) -> None:
            nonlocal waiting
            whole = np.concatenate([waiting, rgb]) if len(waiting) else rgb
            full = len(whole) // step * step
            write(whole[:full])
            waiting = whole[full:]

        yield add
        write(waiting)
        picture = (
            fields.long_field(256, columns),
            fields.long_field(257, rows),
            fields.integer_field(258, 16, 16, 16),  # BitsPerSample
            fields.integer_field(259, 8),  # Compression: Deflate
            fields.integer_field(262, 2),  # PhotometricInterpretation: RGB
            fields.long_field(273, *starts),  # StripOffsets
            fields.integer_field(277, 3),  # SamplesPerPixel
            fields.long_field(278, step),  # RowsPerStrip
            fields.long_field(279, *lengths),  # StripByteCounts
            fields.integer_field(284, 1),  # PlanarConfiguration
            *_RESOLUTION,
            fields.ascii_field(305, f"kpn {__version__}"),  # Software
            fields.integer_field(317, 2),  # Predictor: horizontal differences
            fields.undefined_field(34675, rgb_profile(linear=linear)),  # InterColorProfile
        )
        writer.append_directories(file, [fields.merge(picture, tags)])


def write_jpeg(
    path: Path | str, rgb: np.ndarray, tags: Sequence[Field] = (), *, replace: bool = True
) -> None:
    """Write an 8-bit sRGB JPEG of good quality with its ICC profile.

    Args:
        path: the file to create or replace, atomically.
        rgb: `(rows, columns, 3)` uint8, sRGB.
        tags: what else to say, as from `photo_tags`; long ones are left out where all of them
            are more than a JPEG can hold.
        replace: whether a file of that name may be replaced.

    Raises:
        KpnError: if the disk refuses the file.
    """
    exif = writer.tiff_bytes([tuple(tags)]) if tags else b""
    if len(exif) > _MAX_JPEG_EXIF:
        exif = writer.tiff_bytes([_short(tuple(tags))])
    with atomic(path, replace=replace) as temporary:
        Image.fromarray(rgb).save(
            temporary,
            "JPEG",
            quality=95,
            subsampling=0,
            icc_profile=rgb_profile(linear=False),
            exif=b"Exif\0\0" + exif if exif and len(exif) <= _MAX_JPEG_EXIF else b"",
        )


def _jpeg_exif(rows: int, columns: int) -> list[Field]:
    """What only a JPEG's Exif has: components Y, Cb, Cr, and the size."""
    return [
        fields.undefined_field(37121, bytes((1, 2, 3, 0))),
        fields.integer_field(40962, columns),
        fields.integer_field(40963, rows),
    ]


def _short(ifd: Ifd) -> Ifd:
    """Leave out texts and notes of more than `_LONG_VALUE` bytes."""
    nested = (
        Field(tag.code, tag.kind, tag.count, Ifds(tuple(map(_short, tag.data.ifds))))
        if isinstance(tag.data, Ifds)
        else tag
        for tag in ifd
    )
    return tuple(tag for tag in nested if len(tag.data) <= _LONG_VALUE)


def _deflated(part: np.ndarray) -> bytes:
    steps = part.astype("<u2")
    steps[:, 1:] -= part[:, :-1]
    # libdeflate: 2.6 times as fast as zlib. Behind the predictor, level 1 is no larger than 6.
    return imagecodecs.deflate_encode(steps, level=1)
