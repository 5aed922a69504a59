"""Recognises what kpn has written by its tags, whatever its name.

Every output has kpn's name and version in Software (TIFF 6.0, section 8), and the fingerprint of
its burst: a DNG in RawDataUniqueID (DNG 1.7.1, chapter 4), developed pictures in ImageUniqueID
(Exif 2.32, 4.6.5). Frames that kpn synthesises have no fingerprint: they are no results.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import KpnError
from .checks import check_file
from .tags import Metadata, Tag, read_metadata

_FINGERPRINT = re.compile(r"[0-9a-f]{32}")


def is_by_kpn(metadata: Metadata) -> bool:
    """Whether a file with these tags is an output of kpn: a DNG, TIFF or JPEG."""
    if not metadata.text(Tag.SOFTWARE).startswith("kpn "):
        return False
    if metadata.is_dng:
        return len(metadata.blob(Tag.RAW_DATA_UNIQUE_ID)) == 16
    return _FINGERPRINT.fullmatch(metadata.text(Tag.IMAGE_UNIQUE_ID)) is not None


def is_result(path: Path) -> bool:
    """Whether a file is an output of kpn; False for one that cannot be read."""
    try:
        check_file(path)
        return is_by_kpn(read_metadata(path))
    except KpnError:
        return False
