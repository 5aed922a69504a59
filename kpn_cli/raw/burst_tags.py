"""What cameras say of the burst that a frame belongs to: its name, and the frame's number.

DNG 1.7.1 has a tag for it (ImageSequenceInfo); else it is in XMP (Google's cameras) or in the
maker's own notes (Apple, Sony, Panasonic), whose tags are those that ExifTool documents:
https://exiftool.org/TagNames/
"""

from __future__ import annotations

import re
import struct

from ..tiff import fields
from ..tiff.reader import integers, read_directory, text
from .tags import Metadata, Tag

_SHORT, _LONG = 3, 4

#: How a maker's note begins -> where its directory does, and the tag with the number.
_NUMBERED = (
    (b"SONY DSC \0", 12, 0xB04A),
    (b"SONY CAM \0", 12, 0xB04A),
    (b"SONY MOBILE", 12, 0xB04A),
    (b"Panasonic\0", 12, 0x2B),
)
_APPLE, _APPLE_AT, _BURST_UUID = b"Apple iOS\0", 14, 0x0B

#: `BurstID` of Google's namespaces GCamera and GCreations, as attribute or element.
_XMP_BURST = re.compile(rb"""BurstID\s*(?:=\s*["']|>)\s*([\w.-]{1,128})""")


def burst_id(metadata: Metadata) -> str:
    """Return what all frames of a burst have in common and no other has; "" if unknown."""
    sequence = _sequence(metadata)
    if sequence:
        return _text(sequence[0])
    found = _XMP_BURST.search(metadata.blob(Tag.XMP))
    if found:
        return _text(found[1])
    note = metadata.blob(Tag.MAKER_NOTE)
    found = _tag(note, _APPLE_AT, _BURST_UUID) if note.startswith(_APPLE) else None
    return text(found) if found is not None and 4 < found.count <= 128 else ""


def burst_number(metadata: Metadata) -> int | None:
    """Return the frame's place in its burst, from 1; None where the camera says none."""
    sequence = _sequence(metadata)
    if sequence:
        return struct.unpack(">I", sequence[1])[0] + 1  # its index is from 0
    note = metadata.blob(Tag.MAKER_NOTE)
    for begin, at, tag in _NUMBERED:
        if note.startswith(begin):
            return _number(note, at, tag)
    if metadata.text(Tag.MAKE).upper().startswith("SONY"):  # in ARW, without a heading
        return _number(note, 0, 0xB04A)
    return None


def _sequence(metadata: Metadata) -> tuple[bytes, bytes] | None:
    """Name and index from ImageSequenceInfo, if it is a burst: focus stacks and so on are none."""
    parts = metadata.blob(Tag.IMAGE_SEQUENCE_INFO).split(b"\0", 3)
    if len(parts) < 4 or len(parts[3]) < 4 or b"burst" not in parts[1].lower():
        return None
    return parts[0], parts[3][:4]


def _number(note: bytes, at: int, code: int) -> int | None:
    found = _tag(note, at, code)
    if found is None or found.count != 1 or found.kind not in (_SHORT, _LONG):
        return None
    (number,) = integers((found,), code)
    # 0 is a single frame, or a camera that doesn't count; all ones mean none.
    return number if 0 < number < (1 << 8 * len(found.data)) - 1 else None


def _tag(note: bytes, at: int, code: int) -> fields.Field | None:
    """A tag of the directory there, whose byte order is its own."""
    count = note[at : at + 2]
    # Its count of entries is never large.
    order = "<" if len(count) == 2 and count[1] <= count[0] else ">"
    return next(iter(read_directory(note, at, order, frozenset({code}))), None)


def _text(data: bytes) -> str:
    return "".join(c for c in data.decode("utf-8", "replace") if c.isprintable()).strip()
