"""The fingerprint of a burst: what every output says it was made of.

A digest of all frames' bytes and of the options that count. A DNG has it as RawDataUniqueID
(tag 50781 of DNG 1.2), a TIFF or JPEG as Exif's ImageUniqueID (42016). By it, a finished
output is known by its content, not by its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from ..choices import FORMATS
from ..errors import KpnError, read_error
from ..noise import calibration
from ..noise.calibration import Calibration
from ..raw.tags import Tag, read_metadata
from .options import Options

_READ_AT_ONCE = 1 << 20


def digest(path: Path) -> str:
    """Return a digest of a file's bytes, 64 hexadecimal digits.

    Raises:
        KpnError: if it can't be read.
    """
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while part := file.read(_READ_AT_ONCE):
                found.update(part)
    except (OSError, ValueError) as error:
        raise read_error(path, error) from None
    return found.hexdigest()


def options_digest(options: Options) -> str:
    """Return a digest of the options that decide what the picture shows.

    Not of device, precision and tile, which change its last digits; nor of kpn's version and
    the network that ships: who installs a newer one keeps the pictures there are.

    Raises:
        KpnError: if the weights can't be read.
    """
    noise = options.noise
    if isinstance(noise, Calibration):
        noise = calibration.to_json(noise)
    elif noise is not None:
        noise = [noise.shot, noise.read]
    counts = {
        "reference": options.reference,
        "strength": options.strength,
        "noise": noise,
        "weights": options.weights and digest(options.weights),
        "compression": options.compression,
    }
    return hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()


def fingerprint(frames: Sequence[str], options: str) -> bytes:
    """Return the 16 bytes by which the outputs of a burst are known.

    Args:
        frames: digests of its files, in any order.
        options: of `options_digest`.
    """
    # Not twice: a copy of a frame is none.
    return hashlib.sha256("\n".join([options, *sorted(set(frames))]).encode()).digest()[:16]


def is_made_of(path: Path, mark: bytes) -> bool:
    """Whether an output is there and has this fingerprint."""
    try:
        found = read_metadata(path)
    except KpnError:
        return False
    if path.suffix == ".dng":
        return found.blob(Tag.RAW_DATA_UNIQUE_ID) == mark
    return found.text(Tag.IMAGE_UNIQUE_ID) == mark.hex()


def is_result(path: Path) -> bool:
    """Whether a file is a DNG that kpn has made of a burst."""
    if not path.name.endswith(FORMATS["dng"]):
        return False
    try:
        found = read_metadata(path)
    except KpnError:
        return False
    return found.text(Tag.SOFTWARE).startswith("kpn ") and Tag.RAW_DATA_UNIQUE_ID in found.main
