"""Checks that a file is a complete Bayer raw, most of them before it costs any memory.

LibRaw decodes some broken files into zeros without an error, and some files that are
not a Bayer mosaic into something that looks like one. Each error says what the file is
and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..errors import refuse, refuse_unreadable
from .tags import PHOTOMETRIC_LINEAR_RAW, Metadata, Tag

#: No codec for mosaics needs fewer: lossless JPEG takes a bit per pixel, lossy codecs a
#: few tenths. Below this, most of the image is missing.
_MIN_BITS_PER_PIXEL = 0.1

#: Tolerated missing share of the image: vendors' own TIFF dialects round their byte counts. A
#: DNG has to be complete.
_MAX_MISSING = 0.001

#: Fewest empty rows at the bottom that mean a truncated file: as a share of the height, and in
#: rows. Some cameras have a dead row or two.
_EMPTY_SHARE, _MIN_EMPTY_ROWS = 0.02, 8

_COPY_AGAIN = "copy it from the camera or card again"

_QUICKTAKE_MAGIC = (b"qktk", b"qktn")
_KODAK_KDC = 32867
_UNCOMPRESSED, _JPEG, _JPEG_XL = 1, 7, 52546
#: Marker EOI (ITU-T T.81, table B.1), and how many bytes may follow it in a strip.
_JPEG_END, _MAX_PADDING = b"\xff\xd9", 64
_FLOAT = 3
#: Bits of a sample that cameras and converters write, those of unpacked samples first; and how much
#: of what follows the samples is looked at, in bytes.
_DEPTHS, _MAX_REST = (16, 8, 10, 12, 14), 1 << 16
#: Length of the header of a TIFF file (TIFF 6.0, section 2).
_HEADER_BYTES = 8

#: Colour codes of TIFF/EP: red, green, blue; cyan, magenta, yellow with and without green.
_RED_GREEN_BLUE = frozenset((0, 1, 2))
_COMPLEMENTARY = {frozenset((3, 4, 5)), frozenset((1, 3, 4, 5))}


def check_file(path: Path) -> None:
    """Check that a path is a regular file with content.

    Raises:
        KpnError: if it does not exist, cannot be read, is empty, a folder or a pipe.
    """
    try:
        if path.is_dir():
            refuse(path, "is a folder, not a raw file", "pass the files in it")
        if not path.exists():
            refuse(path, "no such file", "check the name")
        # Opening a pipe would wait for ever.
        if not path.is_file():
            refuse(path, "is not a regular file", "pass a raw photo")
        with open(path, "rb") as file:
            head = file.read(4)
    except (OSError, ValueError) as error:
        refuse_unreadable(path, error)
    if not head:
        refuse(path, "the file is empty", _COPY_AGAIN)
    if head in _QUICKTAKE_MAGIC:
        # Its codec predicts pixels from neighbours of other colours: the sensor noise is gone.
        refuse(path, "an Apple QuickTake picture, not sensor data", "pass raw files of a camera")


def check_tags(path: Path, metadata: Metadata) -> None:
    """Check that, by its tags, a file is an integer Bayer mosaic and complete.

    Raises:
        KpnError: if it is not; the message says what the file is.
    """
    raw = metadata.raw_numbers
    compression = raw(Tag.COMPRESSION)
    if compression == (_JPEG_XL,):
        refuse(
            path, "JPEG XL compression (DNG 1.7), which LibRaw can't decode",
            "convert it to a lossless DNG 1.4 with Adobe DNG Converter",
        )  # fmt: skip
    if compression == (_KODAK_KDC,):
        # LibRaw reconstructs colours at a quarter of the resolution: these are not samples.
        refuse(path, "Kodak's early lossy format, not sensor data", "pass raw files of a camera")
    if raw(Tag.PHOTOMETRIC) == (PHOTOMETRIC_LINEAR_RAW,):
        if raw(Tag.SAMPLES_PER_PIXEL) in ((), (1,)):
            refuse_not_bayer(path, "a monochrome raw")
        refuse_demosaiced(path)
    if raw(Tag.SAMPLE_FORMAT)[:1] == (_FLOAT,):
        refuse(path, "a floating-point raw", "pass the integer raw files it was merged from")
    _check_filters(path, metadata)
    _check_segments(path, metadata)


def _check_filters(path: Path, metadata: Metadata) -> None:
    """Refuse a CFAPattern with a colour that the mosaic does not have.

    LibRaw reads undefined memory for such a colour, so each run differs. The colours are
    those of CFAPlaneColor, or red, green and blue, or the complementary ones (TIFF/EP codes).
    """
    planes = frozenset(metadata.raw_integers(Tag.CFA_PLANE_COLOR))
    pattern = frozenset(metadata.raw_integers(Tag.CFA_PATTERN))
    if not (pattern <= (planes or _RED_GREEN_BLUE) or (not planes and pattern in _COMPLEMENTARY)):
        colours = ", ".join(map(str, sorted(pattern)))
        refuse(path, f"its CFA pattern has undefined colours ({colours})", _COPY_AGAIN)


def refuse_demosaiced(path: Path) -> NoReturn:
    """Raise the `KpnError` for linear DNG, sRAW and Foveon: three colours at every pixel."""
    refuse(
        path, "already has all colours at every pixel (linear DNG, sRAW or Foveon)",
        "pass the camera's original Bayer raw",
    )  # fmt: skip


def refuse_not_bayer(path: Path, what: str) -> NoReturn:
    """Raise the `KpnError` for a sensor that is not Bayer RGB; `what` describes it."""
    refuse(path, f"{what}, not a Bayer mosaic", "pass raw files of a camera with a Bayer sensor")


def _check_segments(path: Path, metadata: Metadata) -> None:
    """Refuse an image with strips or tiles in the header or beyond the end, or too few tiles."""
    raw = metadata.raw_integers
    segments = _segments(metadata)
    # In vendors' dialects of compressed files, other tags may say where the image is.
    by_offsets = metadata.is_dng or raw(Tag.COMPRESSION) == (_UNCOMPRESSED,)
    first = min((at for at, _ in segments), default=_HEADER_BYTES)
    if by_offsets and first < _HEADER_BYTES:
        name = "tile" if raw(Tag.TILE_OFFSETS) else "strip"
        refuse(path, f"a {name} of its image begins at byte {first}, in the header", _COPY_AGAIN)
    if metadata.is_dng and raw(Tag.COMPRESSION) == (_UNCOMPRESSED,):
        _check_depth(path, metadata, segments)
    needed = _bytes_needed(path, metadata, segments)
    missing = _missing(metadata, zip(segments, needed, strict=True))
    if missing > (0 if metadata.is_dng else _MAX_MISSING * sum(needed)):
        percent = 100 * missing / sum(needed)
        refuse(
            path, f"the file ends too early: {percent:.1f}% of the image is missing", _COPY_AGAIN
        )
    tiles = len(raw(Tag.TILE_OFFSETS))
    if metadata.is_dng and 0 < tiles < _tiles_needed(metadata):
        count = _tiles_needed(metadata)
        refuse(path, f"it has only {tiles} of the {count} tiles of its image", _COPY_AGAIN)


def _check_depth(path: Path, metadata: Metadata, segments: list[tuple[int, int]]) -> None:
    """Refuse a BitsPerSample that an uncompressed DNG cannot have, or that its data contradict.

    They do where all byte counts are exactly those of another depth. A writer may reserve space
    for 16 bits and fill it up with zeros: then the stated depth is right.
    """
    bits = metadata.raw_integers(Tag.BITS_PER_SAMPLE)
    if bits and not 1 <= min(bits) <= max(bits) <= 32:
        refuse(path, f"BitsPerSample is {bits[0]}, and a DNG has 8 to 32", _COPY_AGAIN)
    claimed = [length for _, length in segments]
    if not segments or len(set(bits)) != 1:
        return

    def fits(depth: int) -> bool:
        return claimed == _sample_bytes(metadata, len(segments), depth, padded=True)

    if fits(bits[0]):
        return
    depth = next((depth for depth in _DEPTHS if fits(depth)), 0)
    if depth and (depth < bits[0] or _has_more_data(path, metadata, segments)):
        refuse(
            path, f"BitsPerSample is {bits[0]}, but the size of its data is that of {depth} bits",
            _COPY_AGAIN,
        )  # fmt: skip


def _has_more_data(path: Path, metadata: Metadata, segments: list[tuple[int, int]]) -> bool:
    """Whether anything but padding follows the samples in the first strip or tile."""
    at, length = segments[0]
    used = _sample_bytes(metadata, len(segments))[0]
    try:
        with open(path, "rb") as file:
            file.seek(at + used)
            return len(set(file.read(max(min(length - used, _MAX_REST), 0)))) > 1
    except OSError as error:
        refuse_unreadable(path, error)


def segment_note(metadata: Metadata) -> str:
    """Return a note if a complete image claims too many or too few bytes; else ""."""
    segments = _segments(metadata)
    if not metadata.is_dng:
        return ""
    name = "TileByteCounts" if metadata.raw_integers(Tag.TILE_OFFSETS) else "StripByteCounts"
    if metadata.raw_integers(Tag.COMPRESSION) == (_UNCOMPRESSED,):
        needed = _sample_bytes(metadata, len(segments))
        few = sum(max(n - length, 0) for n, (_, length) in zip(needed, segments, strict=True))
        if few:
            return f"{name} claims {few} bytes too few for its samples: ignored, all are read"
    beyond = _missing(metadata, ((segment, segment[1]) for segment in segments))
    if not beyond:
        return ""
    return f"{name} claims {beyond} bytes beyond the end of the file: ignored, no sample is missing"


def _segments(metadata: Metadata) -> list[tuple[int, int]]:
    """Return offset and byte count of each strip or tile of the raw image, as claimed."""
    raw = metadata.raw_integers
    starts = raw(Tag.TILE_OFFSETS) or raw(Tag.STRIP_OFFSETS)
    lengths = raw(Tag.TILE_BYTE_COUNTS) or raw(Tag.STRIP_BYTE_COUNTS)
    # zip: in vendors' dialects one of them may be absent or shorter.
    return list(zip(starts, lengths, strict=False))


def _missing(metadata: Metadata, segments: Iterable[tuple[tuple[int, int], int]]) -> int:
    """Return how many bytes of segments, each with the bytes that it needs, are not there."""
    return sum(min(max(at + n - metadata.file_bytes, 0), n) for (at, _), n in segments)


def _bytes_needed(path: Path, metadata: Metadata, segments: list[tuple[int, int]]) -> list[int]:
    """Return how many bytes of each segment hold samples, at most as many as it claims.

    Some writers count the last strip in full, or round their counts up.
    """
    claimed = [length for _, length in segments]
    compression = metadata.raw_integers(Tag.COMPRESSION)
    if compression == (_UNCOMPRESSED,):
        samples = _sample_bytes(metadata, len(segments))
        return [min(both) for both in zip(claimed, samples, strict=True)]
    if compression == (_JPEG,) and segments:
        last = max(range(len(segments)), key=lambda index: segments[index][0])
        at, length = segments[last]
        if at < metadata.file_bytes < at + length and _ends_with_jpeg(path, at):
            claimed[last] = metadata.file_bytes - at
    return claimed


def _sample_bytes(
    metadata: Metadata, count: int, depth: int = 0, *, padded: bool = False
) -> list[int]:
    """Return how many bytes the samples take in each of `count` uncompressed strips or tiles.

    TIFF 6.0, sections 3 and 15: rows begin at a byte; tiles are padded beyond the image, but
    nobody needs the padding behind the last sample.

    Args:
        metadata: of the file.
        count: number of strips or tiles.
        depth: bits of a sample; 0 for BitsPerSample.
        padded: whether to count the whole of each, as byte counts do, the padding of tiles too.
    """

    def number(tag: Tag, default: int) -> int:
        values = metadata.raw_integers(tag)
        return values[0] if values and values[0] > 0 else default

    height, width = number(Tag.HEIGHT, 0), number(Tag.WIDTH, 0)
    bits = (depth or number(Tag.BITS_PER_SAMPLE, 1)) * number(Tag.SAMPLES_PER_PIXEL, 1)
    rows, columns = number(Tag.ROWS_PER_STRIP, height), width
    if metadata.raw_integers(Tag.TILE_OFFSETS):
        rows, columns = number(Tag.TILE_HEIGHT, height), number(Tag.TILE_WIDTH, width)
    across = max(-(-width // max(columns, 1)), 1)
    row_bytes = -(-columns * bits // 8)
    if padded and metadata.raw_integers(Tag.TILE_OFFSETS):
        return [rows * row_bytes] * count
    if padded and count == 1:  # a single strip is the image, whatever RowsPerStrip says
        return [height * row_bytes]
    found = []
    for index in range(count):
        used_rows = min(rows, height - index // across * rows)
        used_columns = min(columns, width - index % across * columns)
        last_row = -(-used_columns * bits // 8)
        found.append((used_rows - 1) * row_bytes + last_row if used_rows > 0 else 0)
    return found


def _ends_with_jpeg(path: Path, start: int) -> bool:
    """Whether a file ends with the end of the JPEG that begins at `start`, and padding."""
    try:
        with open(path, "rb") as file:
            file.seek(max(file.seek(0, 2) - _MAX_PADDING, start))
            return file.read(_MAX_PADDING).rstrip(b"\0").endswith(_JPEG_END)
    except OSError as error:
        refuse_unreadable(path, error)


def _tiles_needed(metadata: Metadata) -> int:
    needed = 1
    for whole, tile_side in ((Tag.WIDTH, Tag.TILE_WIDTH), (Tag.HEIGHT, Tag.TILE_HEIGHT)):
        size, tile = metadata.raw_integers(whole), metadata.raw_integers(tile_side)
        if size and tile and tile[0] > 0:
            needed *= -(-size[0] // tile[0])
    return needed


def check_size(path: Path, file_bytes: int, rows: int, columns: int) -> None:
    """Check that a file is large enough for its frame, before memory is allocated.

    Args:
        path: the file.
        file_bytes: its length.
        rows, columns: of the whole frame, in sensor pixels.

    Raises:
        KpnError: if it is too short.
    """
    if 8 * file_bytes < _MIN_BITS_PER_PIXEL * rows * columns:
        refuse(
            path, f"{file_bytes} bytes can't hold its {columns}x{rows} pixels: it is truncated",
            _COPY_AGAIN,
        )  # fmt: skip


def check_content(path: Path, mosaic: np.ndarray, white: float) -> None:
    """Check that a mosaic is neither blank nor truncated.

    Where there is a signal, noise makes constant rows impossible. So a row is empty if all
    pixels of each colour are equal: a decoder without data repeats its last prediction for
    each colour. Saturated rows are valid, and so is a dark frame that has noise.

    Args:
        path: the file, for the message.
        mosaic: `(height, width)` in DN.
        white: saturation, DN.

    Raises:
        KpnError: if it is blank, or its last rows or most of its rows are empty.
    """
    largest = mosaic.max()
    if mosaic.min() == largest:
        remedy = _COPY_AGAIN
        if largest >= white:
            remedy = f"leave it out if it is overexposed, else {_COPY_AGAIN}"
        refuse(path, f"every pixel is {largest}: the image is blank", remedy)
    constant = (mosaic[:, 2:] == mosaic[:, :-2]).all(axis=1)
    saturated = mosaic[:, :2].min(axis=1) >= min(white, largest)
    empty = constant & ~saturated
    height = len(empty)
    tail = height if empty.all() else int(np.argmin(empty[::-1]))
    if tail >= max(_EMPTY_SHARE * height, _MIN_EMPTY_ROWS):
        refuse(path, f"its last {tail} of {height} rows are empty: it is truncated", _COPY_AGAIN)
    if 2 * np.count_nonzero(empty) > height:
        refuse(path, f"{np.count_nonzero(empty)} of {height} rows are empty", _COPY_AGAIN)
