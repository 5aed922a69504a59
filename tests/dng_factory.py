"""Small CFA DNGs with any phase, level and margin, written with tifffile for the reader's tests."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import tifffile

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL = 1, 2, 3, 4, 5
_UNDEFINED, _SRATIONAL, _DOUBLE = 7, 10, 12
#: tifffile won't write tag 34665 (Exif), so its neighbour holds the place.
_EXIF_PLACE = 34664
_COLOUR = {"R": 0, "G": 1, "B": 2}

#: sRGB primaries at D65: XYZ -> camera, so that the pictures have sane colours.
COLOR_MATRIX = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570)


def _rationals(values) -> tuple[int, ...]:
    fractions = (Fraction(float(value)).limit_denominator(10000) for value in values)
    return tuple(part for f in fractions for part in (f.numerator, f.denominator))


def write_dng(
    path: Path,
    mosaic: np.ndarray,
    *,
    phase: str = "RGGB",
    active_area: tuple[int, int, int, int] | None = None,
    black=(64,),
    black_repeat: tuple[int, int] = (1, 1),
    white=1023,
    photometric: int = 32803,
    noise_profile=(),
    color_matrix=COLOR_MATRIX,
    neutral=(0.5, 1.0, 0.8),
    linearization=None,
    exif: dict[int, tuple] | None = None,
    extra=(),
) -> Path:
    """Write a DNG of one strip and return its path.

    Args:
        mosaic: `(height, width)` uint16, the whole sensor; `(height, width, 3)` for a linear DNG.
        phase: CFA phase at the origin of the active area, as the DNG specification has it.
        active_area: top, left, bottom, right in sensor pixels.
        black: BlackLevel values, row by row from the active area's origin.
        black_repeat: BlackLevelRepeatDim, rows and columns.
        exif: tag -> (TIFF type, values) of an Exif IFD of their own; bytes for UNDEFINED, or a
            function that returns them for their offset in the file.
        extra: further tifffile `extratags` for IFD 0.
    """
    tags = [
        (50706, _BYTE, 4, (1, 4, 0, 0), True),
        (50708, _ASCII, 0, "kpn test camera", True),
        (50717, _LONG, np.size(white), white, True),
        (50714, _RATIONAL, len(black), _rationals(black), True),
        (50713, _SHORT, 2, black_repeat, True),
    ]
    if photometric == 32803:
        tags += [
            (33421, _SHORT, 2, (2, 2), True),
            (33422, _BYTE, 4, bytes(_COLOUR[letter] for letter in phase), True),
            (50710, _BYTE, 3, bytes((0, 1, 2)), True),
            (50711, _SHORT, 1, 1, True),
        ]
    if color_matrix:
        tags.append((50721, _SRATIONAL, len(color_matrix), _rationals(color_matrix), True))
        tags.append((50778, _SHORT, 1, 21, True))
    if neutral:
        tags.append((50728, _RATIONAL, 3, _rationals(neutral), True))
    if active_area:
        tags.append((50829, _LONG, 4, active_area, True))
    if len(noise_profile):
        tags.append((51041, _DOUBLE, len(noise_profile), tuple(noise_profile), True))
    if linearization is not None:
        tags.append((50712, _SHORT, len(linearization), tuple(linearization), True))
    if exif:
        tags.append((_EXIF_PLACE, _LONG, 1, 0, True))
    tifffile.imwrite(
        path, mosaic, photometric=photometric, metadata=None, software=False,
        planarconfig="contig" if mosaic.ndim == 3 else None,
        rowsperstrip=mosaic.shape[0], extratags=[*tags, *extra],
    )  # fmt: skip
    if exif:
        _append_exif(path, exif)
    return path


def _append_exif(path: Path, exif: dict[int, tuple]) -> None:
    """Add an Exif IFD behind the picture and point IFD 0's tag 34665 at it."""
    sizes = {_ASCII: "s", _SHORT: "H", _LONG: "I", _RATIONAL: "II"}
    with open(path, "r+b") as file:
        start = file.seek(0, os.SEEK_END)
        start += file.write(b"\0" * (start % 2))
        entries, values = b"", b""
        values_at = start + 2 + 12 * len(exif) + 4
        for tag, (kind, value) in sorted(exif.items()):
            if kind == _ASCII:
                payload, count = value.encode() + b"\0", len(value) + 1
            elif kind == _UNDEFINED:
                payload = value(values_at + len(values)) if callable(value) else value
                count = len(payload)
            else:
                numbers = _rationals(value) if kind == _RATIONAL else tuple(value)
                payload = struct.pack(f"<{len(value) * sizes[kind]}", *numbers)
                count = len(value)
            if len(payload) <= 4:
                field = payload.ljust(4, b"\0")
            else:
                field = struct.pack("<I", values_at + len(values))
                values += payload
            entries += struct.pack("<HHI", tag, kind, count) + field
        file.write(struct.pack("<H", len(exif)) + entries + b"\0\0\0\0" + values)
    data = path.read_bytes()
    place = struct.pack("<HHII", _EXIF_PLACE, _LONG, 1, 0)
    path.write_bytes(data.replace(place, struct.pack("<HHII", 34665, _LONG, 1, start), 1))
