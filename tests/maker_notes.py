"""Small maker's notes of Canon and Nikon, and files that keep exifread busy."""

from __future__ import annotations

import struct
from pathlib import Path

from dng_factory import write_dng
from dng_mosaics import noise_mosaic

MAKER_NOTE = 37500
_SHORT, _LONG, _RATIONAL, _UNDEFINED = 3, 4, 5, 7
_SIZES = {2: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _UNDEFINED: 1}


def directory(entries: dict[int, tuple[int, bytes]], at: int) -> bytes:
    """A little-endian directory with its values behind it; offsets count from `at` before it."""
    head, values = struct.pack("<H", len(entries)), b""
    values_at = at + 2 + 12 * len(entries) + 4
    for tag, (kind, value) in sorted(entries.items()):
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack("<I", values_at + len(values))
            values += value
        head += struct.pack("<HHI", tag, kind, len(value) // _SIZES[kind]) + place
    return head + bytes(4) + values


def shorts(*numbers: int) -> tuple[int, bytes]:
    return _SHORT, struct.pack(f"<{len(numbers)}H", *numbers)


def canon_note(base_iso: int = 160, auto_iso: int = 0, drive: int = 1):
    """Canon's, by its offset in the file: ISO in 1/32 EV, ContinuousDriveMode."""
    settings = [46, *[0] * 22]
    settings[5], settings[22] = drive, 0xFFFF
    shot = [10, auto_iso, base_iso, 0, 0]
    entries = {0x01: shorts(*settings), 0x04: shorts(*shot), 0x95: (2, b"EF 50mm f/1.8 STM\0")}
    return lambda at: directory(entries, at)


def nikon_note(iso_info: int = 180, mode: int = 1, more: dict | None = None) -> bytes:
    """Nikon's: ISO in 1/12 EV (180 is ISO 102400), ShootingMode, focal lengths and apertures."""
    lens = struct.pack("<8I", 180, 10, 70, 1, 35, 10, 45, 10)
    entries = {
        0x02: shorts(0, 0),
        0x25: (_UNDEFINED, bytes((iso_info, 1, 12, 0, 0, 0)) + bytes(8)),
        0x84: (_RATIONAL, lens),
        0x89: shorts(mode),
        **(more or {}),
    }
    return b"Nikon\0\2\x10\0\0" + b"II*\0\x08\0\0\0" + directory(entries, 8)


def dng_with_note(path: Path, make: str, note, exif: dict[int, tuple] | None = None, **how) -> Path:
    """A DNG of a maker, with notes in its Exif directory."""
    tags = {33434: (5, (1 / 60,)), 33437: (5, (2.8,)), 36867: (2, "2024:05:06 07:08:09")}
    tags |= {MAKER_NOTE: (_UNDEFINED, note)} | (exif or {})
    extra = [(271, 2, 0, make, True), (272, 2, 0, f"{make} 1", True)]
    return write_dng(path, noise_mosaic(), exif=tags, extra=extra, **how)


def busy_dng(path: Path) -> Path:
    """A DNG of which exifread reads 65 million numbers: a second directory of 65535 entries.

    Each claims the same 999 numbers. kpn's own reader leaves out so large a directory.
    """
    dng_with_note(path, "Canon", canon_note())
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, len(data))
    data += struct.pack("<H", 65535)
    data += b"".join(struct.pack("<HHII", tag, _SHORT, 999, 8) for tag in range(65535))
    path.write_bytes(data + bytes(4))
    return path
