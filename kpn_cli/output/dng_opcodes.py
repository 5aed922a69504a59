"""Opcode lists of a DNG: which opcodes stay valid when the levels of the mosaic change.

DNG specification 1.4, chapter 7 (1.6 for opcode 14). A list is a count, then for each opcode:
number, DNG version, flags, length of its parameters, parameters. All numbers are big-endian,
whatever the byte order of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

#: Opcodes that depend on positions only: WarpRectilinear (1), WarpFisheye (2), TrimBounds (6),
#: WarpRectilinear2 (14). FixBadPixelsList (5) too, but it is done already, unless it was ignored
#: (`raw/marked_pixels.py`). The others need the source's sample values: FixVignetteRadial (3),
#: FixBadPixelsConstant (4), MapTable (7), MapPolynomial (8), GainMap (9), DeltaPerRow (10),
#: DeltaPerColumn (11), ScalePerRow (12), ScalePerColumn (13). Newer opcodes are treated like these.
_GEOMETRIC = {1, 2, 6, 14}
#: Opcodes that are the same for values of another scale: the geometric ones, FixBadPixelsList, and
#: products: FixVignetteRadial, GainMap, ScalePerRow and ScalePerColumn.
_SCALE_FREE = _GEOMETRIC | {3, 5, 9, 12, 13}


def keep_geometric_opcodes(data: bytes, also: Collection[int] = ()) -> bytes:
    """Return OpcodeList1 (tag 51008) for a mosaic of the same size with other levels.

    Readers apply that list to the stored samples, before the black and white levels. Opcodes that
    compute with sample values would be wrong at new levels: gains would multiply the new black
    level, tables and constants refer to the source's DN. They are left out, FixVignetteRadial
    and GainMap included, and their corrections are lost. OpcodeList2 (51009) and OpcodeList3
    (51022) work on values from 0 to 1 and can stay.

    Args:
        data: value of the tag.
        also: places in the list, from 0, of other opcodes to keep: of a FixBadPixelsList.

    Returns:
        The list of these opcodes; b"" if there is none or the list is damaged.
    """
    kept = [
        opcode
        for place, (number, opcode) in enumerate(_opcodes(data) or ())
        if number in _GEOMETRIC or place in also
    ]
    return struct.pack(">L", len(kept)) + b"".join(kept) if kept else b""


def are_scale_free(data: bytes) -> bool:
    """Whether the opcodes of a list do the same to values that were multiplied by a constant.

    Args:
        data: value of OpcodeList2 (tag 51009) or OpcodeList3 (51022).

    Returns:
        False also for a damaged list and for opcodes that kpn does not know.
    """
    found = _opcodes(data)
    if found is None or len(found) != struct.unpack(">L", data[:4])[0]:
        return False
    return all(number in _SCALE_FREE for number, _ in found)


def _opcodes(data: bytes) -> list[tuple[int, bytes]] | None:
    """Return number and bytes of each opcode of a list; None if the list is damaged."""
    if len(data) < 4:
        return None
    found, at = [], 4
    for _ in range(min(struct.unpack(">L", data[:4])[0], len(data) // 16)):
        if at + 16 > len(data):
            return None
        number, length = struct.unpack(">L8xL", data[at : at + 16])
        if at + 16 + length > len(data):
            return None
        found.append((number, data[at : at + 16 + length]))
        at += 16 + length
    return found
