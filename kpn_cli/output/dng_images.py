"""The images in a DNG: mosaic, preview and thumbnail, each as the tags of a directory.

DNG specification 1.4, chapters 2 (previews) and 3 (NewSubFileType, Compression); TIFF 6.0,
sections 15 (tiles), 20 (colour) and 21 (YCbCr); TIFF Technical Note 2 (JPEG); ITU-T T.81,
annex H (lossless JPEG).
"""

from __future__ import annotations

import io

import cv2
import imagecodecs
import numpy as np
from PIL import Image

from ..system.threads import map_in_threads
from ..tiff import fields
from ..tiff.fields import Ifd

#: Name of a compression of the mosaic -> Compression (tag 259).
COMPRESSION_CODES = {"lossless": 7, "none": 1}

#: Long sides in pixels: the preview fills a screen, file browsers show the thumbnail.
PREVIEW_SIDE = 2048
THUMBNAIL_SIDE = 256

#: Approximate side of a tile in pixels. Readers decode tiles in parallel; each tile has tables of
#: its own, so small tiles cost bytes.
_TILE_SIDE = 512
#: Sides of tiles are multiples of this (TIFF 6.0, section 15).
_TILE_STEP = 16

_PREVIEW_SRGB = 2  # PreviewColorSpace (50970): sRGB


def mosaic_ifd(mosaic: np.ndarray, compression: str = "none", order: str = "<") -> Ifd:
    """Return the tags for size and pixels of a raw mosaic; `cfa_tags` adds their meaning.

    Args:
        mosaic: `(height, width)` uint16, in DN.
        compression: one of `COMPRESSION_CODES`. "lossless" is lossless JPEG in tiles; a mosaic
            narrower than `_TILE_STEP` is stored uncompressed.
        order: byte order of the file, "<" or ">".
    """
    height, width = mosaic.shape
    if width < _TILE_STEP:
        compression = "none"
    return (
        fields.long_field(254, 0),  # NewSubFileType: the main image
        fields.long_field(256, width),  # ImageWidth
        fields.long_field(257, height),  # ImageLength
        fields.integer_field(258, 16),  # BitsPerSample
        fields.integer_field(259, COMPRESSION_CODES[compression]),
        fields.integer_field(262, 32803),  # PhotometricInterpretation: CFA
        fields.integer_field(277, 1),  # SamplesPerPixel
        fields.integer_field(284, 1),  # PlanarConfiguration
        *(_tiles(mosaic) if compression == "lossless" else _strip(mosaic.astype(order + "u2"))),
    )


def preview_ifd(rgb: np.ndarray) -> Ifd:
    """Return the directory of a preview, a JPEG in YCbCr (DNG 1.4, p. 19).

    Args:
        rgb: `(rows, columns, 3)` uint8, sRGB, in the orientation of the mosaic. It is reduced to
            `PREVIEW_SIDE`.
    """
    rgb = _fitted(rgb, PREVIEW_SIDE)
    file = io.BytesIO()
    # 4:2:0, as YCbCrSubSampling and YCbCrPositioning say below.
    Image.fromarray(rgb).save(file, "JPEG", quality=90, subsampling="4:2:0", optimize=True)
    return (
        *_rgb_tags(rgb),
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
    """Return the tags of an uncompressed thumbnail, for IFD 0 (DNG 1.4, chapter 2).

    Args:
        rgb: `(rows, columns, 3)` uint8, sRGB, in the orientation of the mosaic. It is reduced to
            `THUMBNAIL_SIDE`.
    """
    rgb = _fitted(rgb, THUMBNAIL_SIDE)
    return (
        *_rgb_tags(rgb),
        fields.integer_field(259, 1),  # Compression: none
        fields.integer_field(262, 2),  # PhotometricInterpretation: RGB
        *_strip(rgb),
    )


def _rgb_tags(rgb: np.ndarray) -> Ifd:
    """Return the tags that previews and thumbnails share: size and 8-bit sRGB."""
    rows, columns, _ = rgb.shape
    return (
        fields.long_field(254, 1),  # NewSubFileType: a reduced image
        fields.long_field(256, columns),  # ImageWidth
        fields.long_field(257, rows),  # ImageLength
        fields.integer_field(258, 8, 8, 8),  # BitsPerSample
        fields.integer_field(277, 3),  # SamplesPerPixel
        fields.integer_field(284, 1),  # PlanarConfiguration
        fields.long_field(50970, _PREVIEW_SRGB),  # PreviewColorSpace
    )


def _fitted(rgb: np.ndarray, side: int) -> np.ndarray:
    """Return a picture reduced to a long side of at most `side` pixels."""
    rows, columns, _ = rgb.shape
    factor = side / max(rows, columns)
    if factor >= 1:
        return np.ascontiguousarray(rgb)
    size = max(1, round(columns * factor)), max(1, round(rows * factor))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def _strip(pixels: np.ndarray) -> Ifd:
    """Return the tags of one uncompressed strip."""
    pixels = np.ascontiguousarray(pixels)
    return (
        fields.segments_field(273, [pixels.data]),  # StripOffsets
        fields.long_field(278, len(pixels)),  # RowsPerStrip
        fields.long_field(279, pixels.nbytes),  # StripByteCounts
    )


def _tiles(mosaic: np.ndarray) -> Ifd:
    """Return the tags of tiles in lossless JPEG; beyond the edge, they repeat its last cells."""
    height, width = (_tile_side(side) for side in mosaic.shape)
    rows, columns = (
        _padded_indices(side, -(-side // tile) * tile)
        for side, tile in zip(mosaic.shape, (height, width), strict=True)
    )
    padded = mosaic[np.ix_(rows, columns)]
    parts = [
        padded[top : top + height, left : left + width]
        for top in range(0, len(rows), height)
        for left in range(0, len(columns), width)
    ]
    tiles = list(map_in_threads(_lossless_jpeg, parts))
    return (
        fields.long_field(322, width),  # TileWidth
        fields.long_field(323, height),  # TileLength
        fields.segments_field(324, tiles),  # TileOffsets
        fields.long_field(325, *map(len, tiles)),  # TileByteCounts
    )


def _lossless_jpeg(tile: np.ndarray) -> bytes:
    """Return a tile, `(height, width)` uint16, as JPEG of two components: even and odd columns.

    Predictor 1 predicts each sample from its left neighbour in the component; with two
    components, that neighbour has the same colour. Adobe's converter writes the same. Of JPEG's
    seven predictors, all readers support only this one (RawSpeed has no other).
    """
    pairs = tile.reshape(len(tile), -1, 2)
    return bytes(imagecodecs.jpeg8_encode(pairs, lossless=True, predictor=1, bitspersample=16))


def _padded_indices(side: int, whole: int) -> np.ndarray:
    """Return `whole` indices: 0 to `side`, then the last two in turn, which costs hardly a bit."""
    index = np.arange(whole)
    return np.where(index < side, index, side - 2 + (index - side) % 2)


def _tile_side(side: int) -> int:
    """Return a side near `_TILE_SIDE` whose last tile reaches little beyond the mosaic."""
    count = max(1, round(side / _TILE_SIDE))
    # LibRaw does not read a tile wider than the mosaic, and it takes two tiles of half the
    # mosaic's width for a layout of other cameras, a strip with stacked components.
    count += count == 1 and side % _TILE_STEP > 0
    count += count == 2 and side % (2 * _TILE_STEP) == 0
    return -(-side // (count * _TILE_STEP)) * _TILE_STEP
