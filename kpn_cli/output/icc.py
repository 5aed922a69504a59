"""ICC profiles of our TIFFs: sRGB, and linear light with the same primaries.

Built here, because the libraries that make profiles stamp them with the time, and the same
picture should give the same bytes. Format: ICC.1:2001-04 (profile version 2.4, which every
reader knows), matrix/TRC display profiles: sections 6.1, 6.3.1.2 and 6.5.
"""

from __future__ import annotations

import struct

import numpy as np

from ..image.srgb import srgb_decode

#: sRGB's primaries as XYZ columns relative to D50 (Bradford adapted from D65), and D50 itself:
#: the values of the profile in IEC 61966-2-1 Amendment 1, in their s15Fixed16 precision.
_PRIMARIES = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.71410),
}
_D50 = (0.9642, 1.0, 0.8249)

#: Points of the sRGB curve, joined by straight lines: far below a 16-bit step off but for
#: the first few points, and the number that other sRGB profiles have.
_CURVE_POINTS = 1024

#: Fixed, for the same bytes every day: year, month, day, hour, minute, second.
_CREATED = struct.pack(">6H", 2025, 1, 1, 0, 0, 0)


def rgb_profile(*, linear: bool) -> bytes:
    """Return the ICC profile of sRGB, or of linear light with sRGB's primaries."""
    name = "Linear sRGB (kpn)" if linear else "sRGB (kpn)"
    curve = _curve(linear)
    elements = {
        b"desc": _description(name),
        b"cprt": b"text" + bytes(4) + b"Public domain\0",
        b"wtpt": _xyz(_D50),
        **{key: _xyz(value) for key, value in _PRIMARIES.items()},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    return _assemble(elements)


def _assemble(elements: dict[bytes, bytes]) -> bytes:
    start = 128 + 4 + 12 * len(elements)
    table, body, places = struct.pack(">L", len(elements)), b"", {}
    for signature, data in elements.items():
        if data not in places:  # the three curves share their bytes
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sLL", signature, places[data], len(data))
    return _header(start + len(body)) + table + body


def _header(size: int) -> bytes:
    """Section 6.1: 128 bytes."""
    header = struct.pack(">L4xL4s4s4s", size, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += _CREATED + b"acsp" + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0")


def _curve(linear: bool) -> bytes:
    if linear:
        return struct.pack(">4s4xL", b"curv", 0)  # no points: the identity
    points = np.rint(65535 * srgb_decode(np.linspace(0, 1, _CURVE_POINTS)))
    return struct.pack(">4s4xL", b"curv", _CURVE_POINTS) + points.astype(">u2").tobytes()


def _description(name: str) -> bytes:
    """Section 6.5.17: ASCII, no Unicode, no Macintosh name (67 bytes all the same)."""
    text = name.encode("ascii") + b"\0"
    return struct.pack(">4s4xL", b"desc", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _fixed(values: tuple[float, float, float]) -> bytes:
    """s15Fixed16Number, section 5.3.6."""
    return struct.pack(">3l", *(round(65536 * value) for value in values))
