"""The pictures in a DNG: mosaic, preview and thumbnail, each as the tags of a directory.

DNG specification 1.4, chapters 2 and 3 (compression, previews); TIFF 6.0, sections 15
(tiles), 20 (colour) and 21 (YCbCr); TIFF Technical Note 2 (JPEG); ITU-T T.81, annex H
(lossless JPEG).
"""

from __future__ import annotations

import io

import cv2
import imagecodecs
import numpy as np
from PIL import Image

from ..tiff import fields
from ..tiff.fields import Ifd

#: How a mosaic is stored: name -> Compression (tag 259).
COMPRESSIONS = {"lossless": 7, "none": 1}

#: Long sides in pixels: the preview fills a screen, the thumbnail is what file browsers show.
PREVIEW_SIDE = 2048
THUMBNAIL_SIDE = 256

#: Side of a tile, about. Readers decode tiles in parallel; smaller ones cost more tables.
_TILE = 512
#: TIFF 6.0 wants tiles of whole multiples of this.
_TILE_STEP = 16

_SRGB = 2  # PreviewColorSpace


def mosaic_ifd(mosaic: np.ndarray, compression: str = "none", order: str = "<") -> Ifd:
    """Return the directory of a raw mosaic: its size and pixels, not their meaning.

    Args:
        mosaic: `(height, width)` uint16.
        compression: of `COMPRESSIONS`; "lossless" is lossless JPEG in tiles, where the mosaic
            is as wide as one.
        order: "<" or ">", the byte order of the file.
    """
    height, width = mosaic.shape
    if width < _TILE_STEP:
        compression = "none"
    return (
        fields.long_field(254, 0),  # NewSubfileType: the main picture
        fields.long_field(256, width),
        fields.long_field(257, height),
        fields.integer_field(258, 16),  # BitsPerSample
        fields.integer_field(259, COMPRESSIONS[compression]),
        fields.integer_field(262, 32803),  # PhotometricInterpretation: CFA
        fields.integer_field(277, 1),  # SamplesPerPixel
        fields.integer_field(284, 1),  # PlanarConfiguration
        *(_tiles(mosaic) if compression == "lossless" else _strip(mosaic.astype(order + "u2"))),
    )


def preview_ifd(rgb: np.ndarray) -> Ifd:
    """Return the directory of a preview: a JPEG, so marked as one (DNG 1.4, p. 19).

    Args:
        rgb: `(rows, columns, 3)` uint8, sRGB, turned as the mosaic is; reduced to `PREVIEW_SIDE`.
    """
    rgb = _reduced(rgb, PREVIEW_SIDE)
    file = io.BytesIO()
    # 4:2:0, which is what the two tags below say.
    Image.fromarray(rgb).save(file, "JPEG", quality=90, subsampling="4:2:0", optimize=True)
    return (
        *_reduced_head(rgb),
        fields.integer_field(259, 7),  # Compression: JPEG
        fields.integer_field(262, 6),  # PhotometricInterpretation: YCbCr
        fields.segments_field(273, [file.getvalue()]),  # StripOffsets
        fields.long_field(278, len(rgb)),  # RowsPerStrip
        fields.long_field(279, len(file.getvalue())),  # StripByteCounts
        fields.integer_field(530, 2, 2),  # YCbCrSubSampling
        fields.integer_field(531, 1),  # YCbCrPositioning: centred, as JFIF has it
        fields.rational_field(532, 0, 255, 128, 255, 128, 255),  # ReferenceBlackWhite: full range
    )


def thumbnail_ifd(rgb: np.ndarray) -> Ifd:
    """Return the directory of an uncompressed thumbnail, as IFD 0 has it.

    Args:
        rgb: `(rows, columns, 3)` uint8, sRGB, turned as the mosaic is; reduced to
            `THUMBNAIL_SIDE`.
    """
    rgb = _reduced(rgb, THUMBNAIL_SIDE)
    return (
        *_reduced_head(rgb),
        fields.integer_field(259, 1),  # Compression: none
        fields.integer_field(262, 2),  # PhotometricInterpretation: RGB
        *_strip(rgb),
    )


def _reduced_head(rgb: np.ndarray) -> Ifd:
    """What previews and thumbnails have in common: 8-bit sRGB of that size."""
    rows, columns, _ = rgb.shape
    return (
        fields.long_field(254, 1),  # NewSubfileType: a reduced picture
        fields.long_field(256, columns),
        fields.long_field(257, rows),
        fields.integer_field(258, 8, 8, 8),  # BitsPerSample
        fields.integer_field(277, 3),  # SamplesPerPixel
        fields.integer_field(284, 1),  # PlanarConfiguration
        fields.long_field(50970, _SRGB),  # PreviewColorSpace
    )


def _reduced(rgb: np.ndarray, side: int) -> np.ndarray:
    rows, columns, _ = rgb.shape
    factor = side / max(rows, columns)
    if factor >= 1:
        return np.ascontiguousarray(rgb)
    size = max(1, round(columns * factor)), max(1, round(rows * factor))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def _strip(pixels: np.ndarray) -> Ifd:
    """One strip, uncompressed."""
    pixels = np.ascontiguousarray(pixels)
    return (
        fields.segments_field(273, [pixels.data]),  # StripOffsets
        fields.long_field(278, len(pixels)),  # RowsPerStrip
        fields.long_field(279, pixels.nbytes),  # StripByteCounts
    )


def _tiles(mosaic: np.ndarray) -> Ifd:
    """Tiles of lossless JPEG; those that reach over the edge repeat its last cells."""
    height, width = (_tile_side(side) for side in mosaic.shape)
    rows, columns = (
        _repeated(side, -(-side // tile) * tile)
        for side, tile in zip(mosaic.shape, (height, width), strict=True)
    )
    padded = mosaic[np.ix_(rows, columns)]
    tiles = [
        _lossless_jpeg(padded[top : top + height, left : left + width])
        for top in range(0, len(rows), height)
        for left in range(0, len(columns), width)
    ]
    return (
        fields.long_field(322, width),  # TileWidth
        fields.long_field(323, height),  # TileLength
        fields.segments_field(324, tiles),  # TileOffsets
        fields.long_field(325, *map(len, tiles)),  # TileByteCounts
    )


def _lossless_jpeg(tile: np.ndarray) -> bytes:
    """Return a tile, `(height, width)` uint16, as JPEG of two components: even and odd columns.

    Each sample is predicted from the one to its left, which must be of its own colour: hence
    two components. That is what Adobe's converter writes, and of JPEG's seven predictors the
    only one that all readers take (RawSpeed knows no other).
    """
    pairs = tile.reshape(len(tile), -1, 2)
    return imagecodecs.jpeg8_encode(pairs, lossless=True, predictor=1, bitspersample=16)


def _repeated(side: int, whole: int) -> np.ndarray:
    """Indices 0 to `side`, then the last two again and again: a cell, which costs no bits."""
    index = np.arange(whole)
    return np.where(index < side, index, side - 2 + (index - side) % 2)


def _tile_side(side: int) -> int:
    """About `_TILE`, and such that little reaches over the edge."""
    count = max(1, round(side / _TILE))
    # LibRaw reads no tile that is wider than the whole mosaic, and takes two that are half as
    # wide for another camera's layout: of a strip whose components are stacked.
    count += count == 1 and side % _TILE_STEP > 0
    count += count == 2 and side % (2 * _TILE_STEP) == 0
    return -(-side // (count * _TILE_STEP)) * _TILE_STEP
