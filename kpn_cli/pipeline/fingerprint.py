"""The fingerprint of a burst: 16 bytes from its frames and options, stored in every output.

A SHA-256 digest of the bytes of all frames and of the options that change the picture, cut to
16 bytes. A DNG has it as RawDataUniqueID (tag 50781; DNG 1.4, chapter 4), all outputs as
ImageUniqueID (tag 42016; Exif 2.32), a sidecar as exif:ImageUniqueID. So kpn
recognises a finished output by its content, not by its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..choices import DEFECTS, JPEG_QUALITY
from ..errors import KpnError, read_error
from ..noise import calibration
from ..noise.calibration import Calibration
from ..output.xmp import MAX_BYTES
from ..output.xmp_edit import unique_id_of
from ..raw.tags import Tag, read_metadata
from ..system.files import check_no_pipe
from .options import Options

#: Bytes that are read at once.
_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        KpnError: if the file cannot be read.
    """
    check_no_pipe(path)
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, ValueError) as error:
        raise read_error(path, error) from None
    return digest.hexdigest()


def options_digest(options: Options) -> str:
    """Return the SHA-256 of the options that change the picture, 64 hexadecimal digits.

    Device, precision and tile are not included: they change its last digits only. Neither are
    kpn's version and the bundled weights: after an update, finished pictures stay. Neither is
    `exposures`: it says which frames may be merged; frames that are merged either way give the
    same picture, so that a card's other bursts stay finished when its brackets are merged too.

    Raises:
        KpnError: if the weight file cannot be read.
    """
    noise: object = None
    if isinstance(options.noise, Calibration):
        noise = calibration.to_json(options.noise)
    elif options.noise is not None:
        noise = [options.noise.shot, options.noise.read]
    relevant = {
        "reference": options.reference,
        "strength": options.strength,
        "noise": noise,
        "weights": options.weights and file_digest(options.weights),
        "compression": options.compression,
    }
    if options.defects != DEFECTS[0]:  # with the default, results of earlier versions stay
        relevant["defects"] = options.defects
    if options.headroom:
        relevant["headroom"] = True
    if options.grain:
        relevant["grain"] = options.grain
    if "jpeg" in options.formats:
        if options.jpeg_quality != JPEG_QUALITY:
            relevant["jpeg_quality"] = options.jpeg_quality
        if options.jpeg_size is not None:
            relevant["jpeg_size"] = options.jpeg_size
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def alike_digest(options: Options) -> str:
    """Return `options_digest` for a burst of one exposure, whose picture `headroom` leaves alone.

    Raises:
        KpnError: if the weight file cannot be read.
    """
    return options_digest(replace(options, headroom=False))


def burst_fingerprint(frames: Sequence[str], options: str) -> bytes:
    """Return the fingerprint of a burst, 16 bytes.

    Args:
        frames: `file_digest` of each file, in any order, without copies under other bytes.
        options: from `options_digest` or `alike_digest`.
    """
    # Each digest once: copies of a frame are not merged.
    return hashlib.sha256("\n".join([options, *sorted(set(frames))]).encode()).digest()[:16]


def has_fingerprint(path: Path, fingerprint: bytes) -> bool:
    """Whether a file is an output with this fingerprint."""
    if path.suffix == ".xmp":
        return _sidecar_id(path) == fingerprint.hex()
    try:
        metadata = read_metadata(path)
    except KpnError:
        return False
    if path.suffix == ".dng":
        return metadata.blob(Tag.RAW_DATA_UNIQUE_ID) == fingerprint
    return metadata.text(Tag.IMAGE_UNIQUE_ID) == fingerprint.hex()


def _sidecar_id(path: Path) -> str:
    """Return the ImageUniqueID of a sidecar; "" if it has none or cannot be read."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return ""
        return unique_id_of(path.read_bytes())
    except OSError:
        return ""
