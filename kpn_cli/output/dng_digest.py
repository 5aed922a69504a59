"""NewRawImageDigest (tag 51111): the checksum by which readers find a damaged mosaic.

DNG 1.7.1, chapter 4, refers to the source of Adobe's DNG SDK for the details
(`dng_negative::FindNewRawImageDigest`): the image is cut into tiles of 256x256 pixels, which are
smaller at its right and lower edge. The digest is the MD5 of the tiles' MD5s, row by row. A tile's
samples are taken plane by plane, row by row, as little-endian integers, whatever the byte order of
the file. An Adobe converter's linear DNG confirms it (tests/output/test_dng_digest.py).
"""

from __future__ import annotations

import hashlib

import numpy as np

_TILE = 256


def new_raw_image_digest(image: np.ndarray) -> bytes:
    """Return the digest of an image, 16 bytes.

    Args:
        image: `(height, width)` or `(height, width, planes)` uint16, the whole image as it is
            stored, masked borders included.
    """
    planes = image.astype("<u2", copy=False).reshape(*image.shape[:2], -1)
    height, width, _ = planes.shape
    total = hashlib.md5(usedforsecurity=False)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            tile = planes[top : top + _TILE, left : left + _TILE].transpose(2, 0, 1)
            total.update(hashlib.md5(tile.tobytes(), usedforsecurity=False).digest())
    return total.digest()
