"""Opcode lists of a DNG: what of them stays true when the mosaic's levels change.

DNG specification 1.4, chapter 7 (and 1.6 for opcode 14). A list is a count, then for each
opcode its number, the version it came with, flags, the length of its parameters, these;
all big-endian, whatever the file's byte order.
"""

from __future__ import annotations

import struct

#: Opcodes that move or mend pixels by place: WarpRectilinear, WarpFisheye, FixBadPixelsList,
#: TrimBounds, WarpRectilinear2. The others calculate with samples: FixVignetteRadial (3),
#: FixBadPixelsConstant (4), MapTable (7), MapPolynomial (8), GainMap (9), DeltaPerRow and
#: PerColumn (10, 11), ScalePerRow and PerColumn (12, 13); or are newer than our list.
_BY_PLACE = {1, 2, 5, 6, 14}


def without_levels(data: bytes) -> bytes:
    """Return OpcodeList1 (tag 51008) for a mosaic of the same size and other levels.

    That list works on samples as they are in the file, before black and white levels, so
    what it says of them is about numbers that are there no more: gains would multiply our
    black level, tables and constants mean the source's DN. Opcodes that calculate with samples
    are therefore left out, FixVignetteRadial and GainMap included, and what they corrected is
    uncorrected then. The other two lists see levels from 0 to 1 and stay as they are.

    Args:
        data: the tag's bytes.

    Returns:
        The list of those that go by place; b"" where none is left or the list is damaged.
    """
    if len(data) < 4:
        return b""
    kept, at = [], 4
    for _ in range(min(struct.unpack(">L", data[:4])[0], len(data) // 16)):
        if at + 16 > len(data):
            return b""
        number, length = struct.unpack(">L8xL", data[at : at + 16])
        if at + 16 + length > len(data):
            return b""
        if number in _BY_PLACE:
            kept.append(data[at : at + 16 + length])
        at += 16 + length
    return struct.pack(">L", len(kept)) + b"".join(kept) if kept else b""
