"""TIFF and JPEG of a developed picture, with Exif and an ICC profile.

TIFF 6.0, section 14 (predictor); Adobe Photoshop TIFF Technical Notes (Deflate); Exif 2.32,
section 4.6 (tags).
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
from ..choices import JPEG_QUALITY
from ..raw.info import RawInfo
from ..system.files import atomic
from ..system.threads import usable_cores
from ..tiff import fields, writer
from ..tiff.fields import Field, Ifd, Ifds
from ..tiff.reader import Tree
from . import dng_tags
from .dng_source import EXIF, GPS, tags_kept_from_raw, with_capture_time, with_exif_version
from .icc import rgb_profile

#: Exif tags that describe the raw file only: MakerNote, ComponentsConfiguration,
#: CompressedBitsPerPixel, ColorSpace, PixelXDimension, PixelYDimension, Interoperability,
#: SubSecTime, OffsetTime, ImageUniqueID.
_RAW_FILE_TAGS = {37500, 37121, 37122, 40961, 40962, 40963, 40965, 37520, 36880, 42016}
_IMAGE_UNIQUE_ID = 42016
_XMP, _LENS_INFO, _LENS_SPECIFICATION = 700, 50736, 42034
_SRGB, _UNCALIBRATED = 1, 65535  # ColorSpace

#: XResolution, YResolution and ResolutionUnit (inch), which TIFF and Exif require.
_RESOLUTION = (
    fields.rational_field(282, 300),
    fields.rational_field(283, 300),
    fields.integer_field(296, 2),
)

#: Below this quality of a JPEG, colours have half the resolution, which saves bytes and hardly
#: shows beside what the quality costs.
_FULL_COLOUR_FROM = 90
#: Most rows or columns of a JPEG that encoders take (libjpeg).
MAX_JPEG_SIDE = 65500
#: Bytes of Exif in a JPEG: the length of a segment has 16 bits.
_MAX_JPEG_EXIF = 65000
#: Bytes of a value that is kept when Exif exceeds `_MAX_JPEG_EXIF`.
_MAX_SHORT_VALUE = 512
#: Bytes of a strip before compression. TIFF 6.0 recommends 8 KB, for the disks of 1992.
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
    unique_id: bytes = b"",
    precision: str = "",
    document: str = "",
) -> Ifd:
    """Return the tags of a developed picture: camera, exposure, lens, position, time.

    Args:
        info: the raw frame.
        tree: the tags of its file; None if it has none.
        size: rows and columns of the upright picture.
        linear: whether it is in linear light rather than sRGB.
        jpeg: whether the tags are for a JPEG, which has other Exif tags for its pixels.
        modified: time of modification; None to leave it out.
        unique_id: ImageUniqueID (42016), 16 bytes; b"" for none.
        precision: arithmetic of the network, for Software (305); "" for none.
        document: name of the reference's file, for DocumentName (269); "" for none.
    """
    main, exif, gps = tags_kept_from_raw(tree)
    exif = with_capture_time(exif, main, info.captured)
    lens = [
        Field(_LENS_SPECIFICATION, tag.kind, tag.count, tag.data)
        for tag in (tree.ifds[0] if tree is not None else ())
        if tag.code == _LENS_INFO
    ]
    exif = fields.merge(
        lens,
        [fields.undefined_field(40960, b"0100")],  # FlashpixVersion, which Exif requires
        dng_tags.exif_tags(dng_tags.tags_of(info)),
        [tag for tag in exif if tag.code not in _RAW_FILE_TAGS],
        [fields.integer_field(40961, _UNCALIBRATED if linear else _SRGB)],  # ColorSpace
        _jpeg_exif(*size) if jpeg else [],
        [fields.ascii_field(_IMAGE_UNIQUE_ID, unique_id.hex())] if unique_id else [],
    )
    return fields.merge(
        # The XMP of a raw file holds settings of its development, which is done here.
        [tag for tag in main if tag.code != _XMP],
        [
            fields.ascii_field(271, info.make),
            fields.ascii_field(272, info.model),
            *([fields.ascii_field(269, document)] if document else []),  # DocumentName
            fields.integer_field(274, 1),  # Orientation: upright
            fields.ascii_field(305, f"kpn {__version__} {precision}".rstrip()),  # Software
            fields.ifd_field(EXIF, with_exif_version(exif)),
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
    """Write a 16-bit RGB TIFF with an ICC profile, band by band.

    The same picture gives the same bytes.

    Args:
        path: the file to create or replace, atomically, at the end of the block.
        size: rows and columns.
        linear: whether it is in linear light rather than sRGB.
        tags: further tags, as from `photo_tags`.
        replace: whether an existing file may be replaced.

    Yields:
        A function that takes the next rows, `(rows, columns, 3)` uint16.

    Raises:
        KpnError: if the file cannot be written.
    """
    rows, columns = size
    step = max(1, _STRIP_BYTES // (6 * columns))
    waiting = np.empty((0, columns, 3), np.uint16)
    starts: list[int] = []
    lengths: list[int] = []
    with (
        atomic(path, replace=replace) as temporary,
        temporary.open("wb") as file,
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        file.write(bytes(_TIFF_HEADER))

        def write_strips(rgb: np.ndarray) -> None:
            parts = (rgb[top : top + step] for top in range(0, len(rgb), step))
            for strip in pool.map(_deflate_strip, parts):
                file.write(bytes(file.tell() % 2))  # TIFF 6.0, section 2: offsets are even
                starts.append(file.tell())
                lengths.append(len(strip))
                file.write(strip)

        def add(rgb: np.ndarray) -> None:
            nonlocal waiting
            rows = np.concatenate([waiting, rgb]) if len(waiting) else rgb
            full = len(rows) // step * step
            write_strips(rows[:full])
            waiting = rows[full:]

        yield add
        write_strips(waiting)
        picture = (
            fields.long_field(256, columns),  # ImageWidth
            fields.long_field(257, rows),  # ImageLength
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
    path: Path | str,
    rgb: np.ndarray,
    tags: Sequence[Field] = (),
    *,
    replace: bool = True,
    quality: int = JPEG_QUALITY,
) -> None:
    """Write an 8-bit sRGB JPEG with an ICC profile.

    Args:
        path: the file to create or replace, atomically.
        rgb: `(rows, columns, 3)` uint8, sRGB.
        tags: Exif tags, as from `photo_tags`. If they exceed a JPEG segment, long values are
            left out.
        replace: whether an existing file may be replaced.
        quality: 1 to 100, as libjpeg counts; from 90 on with colours at full resolution (4:4:4),
            below at half of it (4:2:0).

    Raises:
        KpnError: if the file cannot be written.
    """
    exif = writer.tiff_bytes([tuple(tags)]) if tags else b""
    if len(exif) > _MAX_JPEG_EXIF:
        exif = writer.tiff_bytes([_without_long_values(tuple(tags))])
    with atomic(path, replace=replace) as temporary:
        Image.fromarray(rgb).save(
            temporary,
            "JPEG",
            quality=quality,
            subsampling=0 if quality >= _FULL_COLOUR_FROM else 2,
            icc_profile=rgb_profile(linear=False),
            exif=b"Exif\0\0" + exif if exif and len(exif) <= _MAX_JPEG_EXIF else b"",
        )


def _jpeg_exif(rows: int, columns: int) -> list[Field]:
    """Return the Exif tags that only a JPEG has: components and size."""
    return [
        fields.undefined_field(37121, bytes((1, 2, 3, 0))),  # ComponentsConfiguration: Y, Cb, Cr
        fields.integer_field(40962, columns),  # PixelXDimension
        fields.integer_field(40963, rows),  # PixelYDimension
    ]


def _without_long_values(ifd: Ifd) -> Ifd:
    """Return a directory without values of more than `_MAX_SHORT_VALUE` bytes."""
    nested = (
        Field(tag.code, tag.kind, tag.count, Ifds(tuple(map(_without_long_values, tag.data.ifds))))
        if isinstance(tag.data, Ifds)
        else tag
        for tag in ifd
    )
    return tuple(tag for tag in nested if len(tag.data) <= _MAX_SHORT_VALUE)


def _deflate_strip(rows: np.ndarray) -> bytes:
    """Return the horizontal differences of rows (TIFF 6.0, section 14), compressed."""
    differences = rows.astype("<u2")
    differences[:, 1:] -= rows[:, :-1]
    # libdeflate is 2.6 times as fast as zlib. After the predictor, level 1 is no larger than 6.
    return bytes(imagecodecs.deflate_encode(differences.tobytes(), level=1))
