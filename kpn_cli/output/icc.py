"""ICC profiles of TIFF and JPEG outputs: sRGB, and linear light with the same primaries.

They are built here because libraries write the time into a profile, and the same picture should
give the same bytes. Format: ICC.1:2001-04 (profile version 2.4, which every reader supports),
matrix/TRC display profiles: sections 6.1, 6.3.1.2 and 6.5.
"""

from __future__ import annotations

import struct

import numpy as np

from ..image.srgb import srgb_decode

#: XYZ of sRGB's primaries relative to D50 (Bradford adaptation from D65), and D50 itself: the
#: values of the profile in IEC 61966-2-1 Amendment 1, in their s15Fixed16 precision.
_PRIMARIES = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.71410),
}
_D50 = (0.9642, 1.0, 0.8249)

#: Points of the sRGB curve; readers interpolate linearly. The error is far below a 16-bit step
#: except between the first few points. Other sRGB profiles have as many.
_CURVE_POINTS = 1024

#: Time of creation, fixed for the same bytes: year, month, day, hour, minute, second.
_CREATED = struct.pack(">6H", 2025, 1, 1, 0, 0, 0)


def rgb_profile(*, linear: bool) -> bytes:
    """Return the ICC profile of sRGB, or of linear light with sRGB's primaries, as a file."""
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
    """Return header, tag table and elements (sections 6.1 and 6.2)."""
    start = 128 + 4 + 12 * len(elements)
    table, body = struct.pack(">L", len(elements)), b""
    offsets: dict[bytes, int] = {}
    for signature, data in elements.items():
        if data not in offsets:  # the three curves share their bytes
            offsets[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sLL", signature, offsets[data], len(data))
    return _header(start + len(body)) + table + body


def _header(size: int) -> bytes:
    """Return the header, 128 bytes (section 6.1)."""
    header = struct.pack(">L4xL4s4s4s", size, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += _CREATED + b"acsp" + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0")


def _curve(linear: bool) -> bytes:
    """Return a curveType (section 6.5.3)."""
    if linear:
        return struct.pack(">4s4xL", b"curv", 0)  # no points: the identity
    points = np.rint(65535 * srgb_decode(np.linspace(0, 1, _CURVE_POINTS)))
    samples: bytes = points.astype(">u2").tobytes()
    return struct.pack(">4s4xL", b"curv", _CURVE_POINTS) + samples


def _description(name: str) -> bytes:
    """Return a textDescriptionType with ASCII only (section 6.5.17); 67 bytes stay empty."""
    text = name.encode("ascii") + b"\0"
    return struct.pack(">4s4xL", b"desc", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _fixed(values: tuple[float, float, float]) -> bytes:
    """Return numbers as s15Fixed16Number (section 5.3.6)."""
    return struct.pack(">3l", *(round(65536 * value) for value in values))
