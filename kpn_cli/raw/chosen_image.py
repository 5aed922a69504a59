"""Checks that LibRaw decoded the raw image of a DNG that the tags are from.

LibRaw numbers the raw images of a DNG by their order in the file, and so does kpn. Where the two
differ, levels and colours would be those of another image. Sizes tell only of images that differ in
them. Of uncompressed ones, the first samples tell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rawpy

from ..errors import read_error, refuse
from .tags import Directory, Metadata, Tag, numbers_of

#: Samples of the first row that are compared.
_COMPARED = 256
#: BitsPerSample and Compression (TIFF 6.0, section 8) of samples that are stored as they are.
_PLAIN = ((16.0,), (1.0,))


def check_chosen(path: Path, raw: rawpy.RawPy, metadata: Metadata) -> None:
    """Check that a decoded image is that of `metadata.raw`, as far as can be seen.

    Raises:
        KpnError: if it has another size, or the samples of another raw image of the DNG.
    """
    if not metadata.is_dng or len(metadata.raws) < 2:
        return
    tagged = metadata.raw_integers(Tag.WIDTH), metadata.raw_integers(Tag.HEIGHT)
    decoded = (raw.sizes.raw_width,), (raw.sizes.raw_height,)
    if tagged != decoded or _is_another(path, raw.raw_image[0], metadata):
        refuse(
            path, f"holds {len(metadata.raws)} raw images in an order that LibRaw reads otherwise",
            "convert it with Adobe DNG Converter",
        )  # fmt: skip


def _is_another(path: Path, row: np.ndarray, metadata: Metadata) -> bool:
    """Whether the first row of samples is not that of the chosen image, but that of another."""
    if _has(path, metadata.raw, row) is not False:
        return False
    return any(_has(path, other, row) for other in metadata.raws if other is not metadata.raw)


def _has(path: Path, directory: Directory, row: np.ndarray) -> bool | None:
    """Whether an image begins with a row of samples; None if that cannot be seen."""
    stored = tuple(numbers_of(directory, tag) for tag in (Tag.BITS_PER_SAMPLE, Tag.COMPRESSION))
    offsets = numbers_of(directory, Tag.TILE_OFFSETS) or numbers_of(directory, Tag.STRIP_OFFSETS)
    if stored != _PLAIN or not offsets or Tag.LINEARIZATION_TABLE in directory:
        return None
    widths = numbers_of(directory, Tag.TILE_WIDTH)[:1]
    count = int(min(_COMPARED, len(row), *widths))
    try:
        with open(path, "rb") as file:
            order = ">" if file.read(2) == b"MM" else "<"
            file.seek(int(offsets[0]))
            data = file.read(2 * count)
    except (OSError, ValueError, OverflowError) as error:
        raise read_error(path, error) from None
    if len(data) < 2 * count:
        return None
    return np.array_equal(np.frombuffer(data, f"{order}u2"), row[:count])
