"""Raw files with everything in them: a DNG of many directories, a NEF as TIFF/EP has it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from kpn_cli.tiff import fields, writer
from kpn_cli.tiff.fields import Field, Ifd

BLACK, WHITE = 512, 16000
COLOUR = {"R": 0, "G": 1, "B": 2}
MAKER_NOTE = b"Maker\0" + bytes(range(250)) * 4
NOTE_AT = 6000
MASK = bytes(range(64))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="3"/></rdf:RDF></x:xmpmeta>'
)
#: XYZ -> camera, of a camera like sRGB.
MATRIX = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)


def opcode(number: int, data: bytes = b"") -> bytes:
    """One opcode of DNG 1.3, optional; without parameters given, of no effect."""
    data = data or _IDLE.get(number, bytes(8))
    return struct.pack(">LBBBBLL", number, 1, 3, 0, 0, 1, len(data)) + data


_IDLE = {
    # WarpRectilinear: planes, for each of them radial and tangential terms; the centre.
    1: struct.pack(">L8d", 1, 1, 0, 0, 0, 0, 0, 0.5, 0.5),
    4: struct.pack(">LL", 0, 1),  # FixBadPixelsConstant: those that are 0; Bayer phase
    5: struct.pack(">LLL", 1, 0, 0),  # FixBadPixelsList: no points, no rectangles
    # GainMap: area, planes, pitches; points, spacing, origin; map planes, a gain.
    9: struct.pack(">10L4dLf", 0, 0, 150, 200, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1),
}


def opcode_list(*opcodes: bytes) -> bytes:
    return struct.pack(">L", len(opcodes)) + b"".join(opcodes)


def scene(height: int, width: int) -> np.ndarray:
    """A smooth scene in DN with a little noise, different in each block."""
    y, x = np.mgrid[:height, :width]
    signal = 0.05 + 0.5 * (0.5 + 0.5 * np.sin(x / 23 + y / 31))
    noise = np.random.default_rng(0).normal(0, 0.003, signal.shape)
    return np.rint(BLACK + (WHITE - BLACK) * (signal + noise)).astype(np.uint16)


def rich_dng(path: Path, mosaic: np.ndarray, order: str = "<", orientation: int = 6) -> tuple:
    """Write a DNG as an editor's converter does; return its directories: IFD 0, mosaic, mask.

    Thumbnail in IFD 0, mosaic with a masked border of 8 columns and 6 rows in a SubIFD, then a
    preview and a transparency mask; Exif with a MakerNote, GPS, XMP, profiles, opcodes.
    """
    height, width = mosaic.shape
    mosaic = mosaic.copy()
    mosaic[:6] = mosaic[:, :8] = BLACK
    exif = (
        fields.undefined_field(36864, b"0231"),
        fields.rational_field(33434, 1 / 125),
        fields.rational_field(33437, 2.8),
        fields.integer_field(34855, 3200),
        fields.ascii_field(36867, "2024:01:02 03:04:05"),
        fields.ascii_field(36880, "+09:00"),
        fields.ascii_field(37520, "77"),
        fields.ascii_field(42036, "Lens 50mm f/1.8"),
        Field(37500, 7, len(MAKER_NOTE), MAKER_NOTE, NOTE_AT),
        fields.ifd_field(40965, (fields.ascii_field(1, "R98"),)),
    )
    gps = (fields.byte_field(0, bytes((2, 3, 0, 0))), fields.rational_field(2, 48, 51, 29.5))
    profile = writer.tiff_bytes(
        [(fields.ascii_field(50936, "Vivid"), fields.signed_rational_field(50721, *MATRIX))],
        order,
        0x4352,
    )
    raw = (
        *_picture(0, 32803, width, height, 1, mosaic.astype(order + "u2").tobytes(), 16),
        fields.integer_field(33421, 2, 2),
        fields.byte_field(33422, bytes((1, 0, 2, 1))),  # GRBG, from the active area's corner
        fields.byte_field(50710, bytes((0, 1, 2))),
        fields.integer_field(50713, 1, 1),
        fields.rational_field(50714, BLACK),
        fields.integer_field(50717, WHITE),
        fields.rational_field(50718, 1, 1),
        fields.rational_field(50719, 10, 4),
        fields.rational_field(50720, width - 8 - 20, height - 6 - 8),
        fields.long_field(50829, 6, 8, height, width),
        fields.long_field(50830, 0, 0, height, 8),  # MaskedAreas
        fields.undefined_field(51008, opcode_list(opcode(4), opcode(5))),
        fields.undefined_field(51009, opcode_list(opcode(9))),
        fields.undefined_field(51022, opcode_list(opcode(1))),
        fields.double_field(51041, *(1e-3, 1e-6) * 3),
    )
    preview = io.BytesIO()
    Image.new("RGB", (80, 60), "red").save(preview, "JPEG")
    mask = _picture(4, 34892, 8, 8, 1, MASK, 8)
    main = (
        *_picture(1, 2, 16, 12, 3, bytes(16 * 12 * 3), 8),
        fields.ascii_field(270, "a title"),
        fields.ascii_field(271, "Maker"),
        fields.ascii_field(272, "Model 1"),
        fields.integer_field(274, orientation),
        fields.ascii_field(305, "Firmware 1.0"),
        fields.ascii_field(306, "2024:01:02 03:04:06"),
        fields.ascii_field(315, "An artist"),
        fields.byte_field(700, XMP),
        fields.ascii_field(33432, "(c) someone"),
        fields.ifd_field(330, raw, _picture(1, 6, 80, 60, 3, preview.getvalue(), 8, 7), mask),
        fields.ifd_field(34665, exif),
        fields.ifd_field(34853, gps),
        fields.byte_field(50706, bytes((1, 4, 0, 0))),
        fields.byte_field(50707, bytes((1, 3, 0, 0))),
        fields.ascii_field(50708, "Maker Model 1"),
        fields.signed_rational_field(50721, *MATRIX),
        fields.signed_rational_field(50730, 0.35),  # BaselineExposure
        fields.rational_field(50728, 0.5, 1, 0.625),
        fields.rational_field(50736, 50, 50, 1.8, 1.8),  # LensInfo
        fields.byte_field(50740, b"Private\0" + bytes(90)),
        fields.integer_field(50778, 21),
        fields.byte_field(50781, bytes(16)),  # RawDataUniqueID
        fields.byte_field(50827, b"original.raw\0"),
        fields.segments_field(50933, [profile]),  # ExtraCameraProfiles
        fields.ascii_field(50936, "Standard"),
        fields.byte_field(50966, b"Editor\0"),  # PreviewApplicationName
        fields.long_field(50970, 2),
        fields.byte_field(51111, bytes(range(16))),  # NewRawImageDigest
    )
    path.write_bytes(writer.tiff_bytes([main], order))
    return main, raw, mask


def dng_of_images(path: Path, *images: Ifd) -> Path:
    """Write a DNG with a thumbnail and several raw images, made by `cfa_image`."""
    main = (
        *_picture(1, 2, 16, 12, 3, bytes(16 * 12 * 3), 8),
        fields.ascii_field(271, "Maker"),
        fields.ascii_field(272, "Model 1"),
        fields.ifd_field(330, *images),
        fields.byte_field(50706, bytes((1, 4, 0, 0))),
        fields.ascii_field(50708, "Maker Model 1"),
        fields.signed_rational_field(50721, *MATRIX),
        fields.rational_field(50728, 0.5, 1, 0.625),
        fields.integer_field(50778, 21),
    )
    path.write_bytes(writer.tiff_bytes([main]))
    return path


def cfa_image(mosaic: np.ndarray, *more: Field, kind: int = 0) -> Ifd:
    """The directory of a raw image; `kind` is its NewSubFileType."""
    height, width = mosaic.shape
    image = (
        *_picture(kind, 32803, width, height, 1, mosaic.astype("<u2").tobytes(), 16),
        fields.integer_field(33421, 2, 2),
        fields.byte_field(33422, bytes((0, 1, 1, 2))),
        fields.rational_field(50714, BLACK),
        fields.integer_field(50717, WHITE),
    )
    return fields.merge(image, more)


def raw_of_images(path: Path, make: str, model: str, *mosaics: np.ndarray) -> Path:
    """Write a TIFF/EP file of a maker with several raw images in its chain of directories."""
    first, *rest = (cfa_image(mosaic) for mosaic in mosaics)
    exif = (fields.rational_field(33434, 1 / 125), fields.integer_field(34855, 3200))
    main = fields.merge(
        first,
        [fields.ascii_field(271, make), fields.ascii_field(272, model)],
        [fields.ifd_field(34665, exif)],
    )
    path.write_bytes(writer.tiff_bytes([main, *rest]))
    return path


def nef(path: Path, mosaic: np.ndarray, *more: Field) -> Path:
    """Write an uncompressed NEF: TIFF/EP, for which LibRaw knows black 600 and the colours.

    `more` tags of Exif are added, or replace what is there.
    """
    height, width = mosaic.shape
    exif = (
        fields.rational_field(33434, 1 / 125),
        fields.rational_field(33437, 2.8),
        fields.integer_field(34855, 3200),
        fields.ascii_field(36867, "2024:01:02 03:04:05"),
        fields.rational_field(37386, 50),
        fields.ascii_field(42036, "Lens 50mm f/1.8"),
        Field(37500, 7, len(MAKER_NOTE), MAKER_NOTE, NOTE_AT),
    )
    main = (
        *_picture(0, 32803, width, height, 1, mosaic.astype("<u2").tobytes(), 16),
        fields.ascii_field(271, "NIKON CORPORATION"),
        fields.ascii_field(272, "NIKON D750"),
        fields.integer_field(274, 8),
        fields.ascii_field(315, "An artist"),
        fields.integer_field(33421, 2, 2),
        fields.byte_field(33422, bytes((0, 1, 1, 2))),
        fields.ifd_field(34665, fields.merge(exif, more)),
        fields.ifd_field(
            34853,
            (fields.byte_field(0, bytes((2, 3, 0, 0))), fields.rational_field(2, 48, 51, 29.5)),
        ),
    )
    path.write_bytes(writer.tiff_bytes([main]))
    return path


def _picture(
    kind: int, photometric: int, width: int, height: int, samples: int, data: bytes, bits: int,
    compression: int = 1,
) -> Ifd:  # fmt: skip
    return (
        fields.long_field(254, kind),
        fields.long_field(256, width),
        fields.long_field(257, height),
        fields.integer_field(258, *[bits] * samples),
        fields.integer_field(259, compression),
        fields.integer_field(262, photometric),
        fields.segments_field(273, [data]),
        fields.integer_field(277, samples),
        fields.long_field(278, height),
        fields.long_field(279, len(data)),
        fields.integer_field(284, 1),
    )
