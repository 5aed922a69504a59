"""The files that a burst becomes: their names, whether they are there already, writing them.

Every output says what it was made of: a fingerprint of all frames' bytes and of the options
that count. A DNG has it as RawDataUniqueID (tag 50781 of DNG 1.2), a TIFF or JPEG as Exif's
ImageUniqueID (42016). Thus a finished output is known by what it is, not by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from . import calibration, develop, dng_result, rendering
from .calibration import Calibration
from .choices import FORMATS
from .denoiser import Denoised
from .dng_copy import is_kept_whole
from .errors import KpnError, read_error
from .metadata import Tag, read_metadata
from .noise import NoiseModel
from .options import Options
from .raw import RawInfo
from .tiff_tree import read_tree
from .write import remove_abandoned

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


def paths_of(reference: Path, folder: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Return the outputs of a burst by format, without writing them."""
    return {name: folder / f"{reference.stem}{FORMATS[name]}" for name in formats}


def check_inputs(outputs: Sequence[Path], inputs: frozenset[Path]) -> None:
    """Refuse outputs that are inputs.

    Args:
        outputs: paths of outputs.
        inputs: of all bursts, resolved.

    Raises:
        KpnError: if an output would replace an input.
    """
    for path in outputs:
        if Path(os.path.realpath(path)) in inputs:
            raise KpnError(f"{path}: would replace an input; choose another folder with -o")


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


def finished(
    files: Sequence[Path], folder: Path, formats: Sequence[str], mark: bytes
) -> Path | None:
    """Return the frame after which all outputs of a burst are named that are there; else None.

    Which frame is the reference is known only once all are decoded, so each may be.
    """
    for path in files:
        if all(is_made_of(output, mark) for output in paths_of(path, folder, formats).values()):
            return path
    return None


def missing(outputs: dict[str, Path], mark: bytes) -> dict[str, Path]:
    """Return those outputs that are still to be made.

    Raises:
        KpnError: if something else has the name of one.
    """
    absent = {name: path for name, path in outputs.items() if not os.path.lexists(path)}
    for name, path in outputs.items():
        if name not in absent and not is_made_of(path, mark):
            raise KpnError(
                f"{path}: is there already, made of other frames or with other options; "
                "--overwrite replaces it, -o puts the new one elsewhere"
            )
    return absent


def remove_leftovers(folder: Path) -> None:
    """Remove what killed programs left half-written in a folder of outputs."""
    remove_abandoned(folder)


# --- writing ----------------------------------------------------------------


def now() -> datetime:
    """Return the time of modification; SOURCE_DATE_EPOCH where the same bytes are wanted every day.

    See https://reproducible-builds.org/specs/source-date-epoch/
    """
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    if seconds.isdecimal():
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(int(seconds), timezone.utc)
    return datetime.now().astimezone()


def write(
    info: RawInfo,
    done: Denoised,
    noise: NoiseModel,
    outputs: dict[str, Path],
    *,
    compression: str,
    mark: bytes,
    replace: bool,
    on_file: Callable[[], None] = lambda: None,
) -> None:
    """Write all formats of a burst; one development, band by band, serves all that need it.

    Args:
        info: the reference.
        done: what became of it.
        noise: that was in it.
        outputs: format -> file.
        compression: of the DNG.
        mark: fingerprint that they get.
        replace: whether files of these names may be replaced.
        on_file: called after each.

    Raises:
        KpnError: if the disk refuses one, or the reference can't be read any more.
    """
    # Where nothing says when a photo was taken, its time of modification would pass for that.
    modified = now() if info.captured is not None else None
    tree = read_tree(info.path, is_kept_whole)
    if "dng" in outputs:
        dng_result.write_result(
            outputs["dng"],
            info,
            tree,
            done.planes,
            develop.preview(info, done.planes),
            noise=noise.with_strength(done.noise_left**0.5),
            compression=compression,
            modified=modified,
            mark=mark,
            replace_file=replace,
        )
        on_file()
    if set(outputs) <= {"dng"}:
        return
    size = develop.upright_size(info)
    tags = {
        name: rendering.photo_tags(
            info,
            tree,
            size,
            linear=name == "linear",
            jpeg=name == "jpeg",
            modified=modified,
            mark=mark,
        )
        for name in outputs
    }
    small = []  # a JPEG is written as a whole, of a third of the bytes
    with ExitStack() as files:
        add = {
            name: files.enter_context(
                rendering.tiff_writer(
                    outputs[name],
                    size,
                    linear=name == "linear",
                    tags=tags[name],
                    replace=replace,
                )
            )
            for name in ("linear", "srgb")
            if name in outputs
        }
        for rgb in develop.bands(info, done.planes):
            if "linear" in add:
                add["linear"](rgb)
            if "srgb" in add:
                add["srgb"](develop.to_srgb(rgb))
            if "jpeg" in outputs:
                small.append(develop.to_srgb8(rgb))
    for _ in add:
        on_file()
    if "jpeg" in outputs:
        rendering.write_jpeg(outputs["jpeg"], np.concatenate(small), tags["jpeg"], replace=replace)
        on_file()
