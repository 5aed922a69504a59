"""The files that a burst becomes: their names, whether they are there already, writing them.

Every output carries the fingerprint of what it was made of (`fingerprint.py`), so a finished
output is known by its content, not by its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from ..choices import FORMATS
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..merge.merge import Denoised
from ..output import develop, dng_writer, tiff_jpeg
from ..output.dng_source import is_kept_whole
from ..raw.info import RawInfo
from ..system.files import remove_abandoned
from ..tiff.reader import read_tree
from .fingerprint import is_made_of


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
        dng_writer.write_result(
            outputs["dng"],
            info,
            tree,
            done.planes,
            develop.preview(info, done.planes),
            noise=noise.with_strength(done.residual_noise**0.5),
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
        name: tiff_jpeg.photo_tags(
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
                tiff_jpeg.tiff_writer(
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
        tiff_jpeg.write_jpeg(outputs["jpeg"], np.concatenate(small), tags["jpeg"], replace=replace)
        on_file()
