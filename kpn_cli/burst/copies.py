"""Finds the same photo stored twice: its pixels under other bytes.

A program that compresses a file again or writes a rating into it keeps the pixels and changes the
bytes. The noise of such a copy is that of its original, so averaging both reduces nothing, and
their difference shows no noise at all. Of copies, the file that the camera wrote stays, for it has
the camera's own metadata.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

from ..raw.tags import Metadata, Tag

#: What editors write into XMP, and cameras do not: when it was changed, by what, settings.
_EDITED_XMP = re.compile(rb"MetadataDate|CreatorTool|xmpMM:History|camera-raw-settings")
#: Programs that write raw files or into them, as they call themselves in the tag Software.
_EDITORS = re.compile(
    r"adobe|lightroom|photoshop|camera raw|dng converter|capture one|dxo|photolab|darktable|"
    r"rawtherapee|digikam|exiftool|exiv2|acdsee|photo mechanic|affinity|on1|luminar|gimp|\bkpn\b",
    re.IGNORECASE,
)


def pixel_digest(samples: np.ndarray) -> str:
    """Return a digest of decoded samples, any shape and type: equal for equal pixels only.

    Levels are not part of it: equal samples have equal noise, whatever the files say about them.
    """
    digest = hashlib.blake2b(f"{samples.dtype.str} {samples.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(samples).data)
    return digest.hexdigest()


def distance_from_camera(metadata: Metadata, name: str) -> tuple[object, ...]:
    """Return a sort key of copies of one photo: the file that the camera wrote comes first.

    In this order: a maker's own format before a DNG; with a MakerNote, which some converters
    drop, before one without; without an editor's traces; changed earlier; less XMP; by name.

    Args:
        metadata: of the file.
        name: of the file.
    """
    xmp = metadata.blob(Tag.XMP)
    edited = bool(_EDITED_XMP.search(xmp) or _EDITORS.search(metadata.text(Tag.SOFTWARE)))
    has_maker_note = bool(metadata.blob(Tag.MAKER_NOTE) or metadata.blob(Tag.DNG_PRIVATE_DATA))
    changed = metadata.text(Tag.DATE_TIME) or "9999"  # YYYY:MM:DD HH:MM:SS sorts by time
    return metadata.is_dng, not has_maker_note, edited, changed, len(xmp), name
