"""Pictures side by side with a label above each, as one picture to compare them by eye."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..system.faults import is_own
from ..system.files import atomic
from ..tiff import writer
from ..tiff.fields import Ifd
from .icc import rgb_profile

#: In pixels: between pictures and around them; of a label; of its letters.
_GAP, _LABEL, _LETTERS = 8, 24, 15
#: A dark grey, beside which tones are judged as in a photo editor; and the letters.
_PAPER, _INK = 40, 220
_IMAGE_UNIQUE_ID, _EXIF = 42016, 34665


def side_by_side(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> np.ndarray:
    """Return one picture of rows of labelled pictures.

    Args:
        rows: of pairs of a label and a picture `(rows, columns, 3)` uint8; the pictures have one
            size.

    Returns:
        `(rows, columns, 3)` uint8.
    """
    height, width = rows[0][0][1].shape[:2]
    font = _font()
    labels = [label for row in rows for label, _ in row]
    wide = max(width, *(int(font.getlength(label)) + 1 for label in labels))
    across, down = wide + _GAP, height + _LABEL + _GAP
    size = _GAP + across * max(map(len, rows)), _GAP + down * len(rows)
    whole = Image.new("RGB", size, (_PAPER,) * 3)
    draw = ImageDraw.Draw(whole)
    for number, row in enumerate(rows):
        for place, (label, picture) in enumerate(row):
            x, y = _GAP + across * place, _GAP + down * number
            draw.text((x, y + _LABEL // 2), label, (_INK,) * 3, font, "lm")
            whole.paste(Image.fromarray(np.ascontiguousarray(picture)), (x, y + _LABEL))
    return np.asarray(whole)


def compared_size(panels: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of `side_by_side`, at least.

    Args:
        panels: rows and columns of pictures.
        size: rows and columns of each, in pixels.
    """
    return (
        _GAP + panels[0] * (size[0] + _LABEL + _GAP),
        _GAP + panels[1] * (size[1] + _GAP),
    )


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_LETTERS)


def write_png(path: Path, rgb: np.ndarray, tags: Ifd, *, replace: bool) -> None:
    """Write an 8-bit sRGB PNG with an ICC profile and Exif (PNG 3rd edition, section 11.3.3.2).

    Args:
        path: the file to create or replace, atomically.
        rgb: `(rows, columns, 3)` uint8, sRGB.
        tags: Exif tags, as from `tiff_jpeg.photo_tags`.
        replace: whether an existing file may be replaced.

    Raises:
        KpnError: if the file cannot be written.
    """
    content = io.BytesIO()
    exif = b"Exif\0\0" + writer.tiff_bytes([tags])
    profile = rgb_profile(linear=False)
    Image.fromarray(rgb).save(content, "PNG", icc_profile=profile, exif=exif)
    with atomic(path, replace=replace) as temporary:
        temporary.write_bytes(content.getvalue())


def unique_id_of_picture(path: Path) -> str:
    """Return the ImageUniqueID in the Exif of a PNG or JPEG; "" without one, or if unreadable."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            found = picture.getexif().get_ifd(_EXIF).get(_IMAGE_UNIQUE_ID, "")
    except Exception as error:  # Pillow raises many kinds for damaged files; then it is not kpn's
        if is_own(error):
            raise
        return ""
    return found if isinstance(found, str) else ""
