"""The burst's name, the frame's number in it, and bracketing, as cameras record them.

DNG 1.7.1 has a tag for all (ImageSequenceInfo), Exif 2.32 one for bracketing (ExposureMode, 41986).
Otherwise they are in XMP (Google's cameras) or in the MakerNote (Apple, Sony, Panasonic); ExifTool
documents the tags there:
https://exiftool.org/TagNames/
"""

from __future__ import annotations

import re

from ..tiff.fields import Field
from ..tiff.reader import integers, read_directory, text
from .tags import Metadata, Tag

_SHORT, _LONG = 3, 4
#: ExposureMode's value for automatic bracketing (Exif 2.32, 4.6.5).
_AUTO_BRACKET = 2

#: First bytes of a MakerNote, offset of its directory, tag with the frame's number.
_NUMBERED = (
    (b"SONY DSC \0", 12, 0xB04A),
    (b"SONY CAM \0", 12, 0xB04A),
    (b"SONY MOBILE", 12, 0xB04A),
    (b"Panasonic\0", 12, 0x2B),
)
_APPLE, _APPLE_START, _BURST_UUID = b"Apple iOS\0", 14, 0x0B

#: `BurstID` in Google's namespaces GCamera and GCreations, as an attribute or element.
_XMP_BURST = re.compile(rb"""BurstID\s*(?:=\s*["']|>)\s*([\w.-]{1,128})""")


def burst_id(metadata: Metadata) -> str:
    """Return the burst's name, the same in all of its frames only; "" if unknown."""
    sequence = _sequence(metadata)
    if sequence:
        return _text(sequence[0])
    match = _XMP_BURST.search(metadata.blob(Tag.XMP))
    if match:
        return _text(match[1])
    note = metadata.blob(Tag.MAKER_NOTE)
    field = _field(note, _APPLE_START, _BURST_UUID) if note.startswith(_APPLE) else None
    return text(field) if field is not None and 4 < field.count <= 128 else ""


def burst_number(metadata: Metadata) -> int | None:
    """Return the frame's number in its burst, from 1; None if unknown."""
    sequence = _sequence(metadata)
    if sequence:
        return int.from_bytes(sequence[1], "big") + 1  # the tag counts from 0
    note = metadata.blob(Tag.MAKER_NOTE)
    for heading, start, code in _NUMBERED:
        if note.startswith(heading):
            return _number(note, start, code)
    if metadata.text(Tag.MAKE).upper().startswith("SONY"):  # in ARW, without a heading
        return _number(note, 0, 0xB04A)
    return None


def is_bracketed(metadata: Metadata) -> bool:
    """Whether a frame was taken in auto-bracketing mode, of whatever is bracketed."""
    sequence = _sequence(metadata)
    if sequence and b"bracket" in sequence[2]:
        return True
    return metadata.numbers(Tag.EXPOSURE_MODE)[:1] == (_AUTO_BRACKET,)


def _sequence(metadata: Metadata) -> tuple[bytes, bytes, bytes] | None:
    """Return name, index and kind, in small letters, from ImageSequenceInfo.

    None for anything but bursts and brackets of exposure, such as focus stacks.
    """
    parts = metadata.blob(Tag.IMAGE_SEQUENCE_INFO).split(b"\0", 3)
    if len(parts) < 4 or len(parts[3]) < 4:
        return None
    kind = parts[1].lower()
    if b"focus" in kind or not (b"burst" in kind or b"bracket" in kind):
        return None
    return parts[0], parts[3][:4], kind


def _number(note: bytes, start: int, code: int) -> int | None:
    field = _field(note, start, code)
    if field is None or field.count != 1 or field.kind not in (_SHORT, _LONG):
        return None
    (number,) = integers((field,), code)
    # 0 means a single frame, or a camera that does not count; all ones mean unknown.
    return number if 0 < number < (1 << 8 * len(field.data)) - 1 else None


def _field(note: bytes, start: int, code: int) -> Field | None:
    """Return a field of a MakerNote's directory, which has a byte order of its own."""
    count = note[start : start + 2]
    # The number of entries is small, so its larger byte is the low one.
    order = "<" if len(count) == 2 and count[1] <= count[0] else ">"
    return next(iter(read_directory(note, start, order, frozenset({code}))), None)


def _text(data: bytes) -> str:
    return "".join(c for c in data.decode("utf-8", "replace") if c.isprintable()).strip()
