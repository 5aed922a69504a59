"""The outputs of a burst: their names, which of them exist already, writing them.

Every output holds the fingerprint of its burst (`fingerprint.py`), by which a finished output is
recognised.
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
from ..output.dng_source import is_auxiliary_image
from ..raw.info import RawInfo
from ..tiff.reader import read_tree
from .fingerprint import has_fingerprint


def output_paths(reference: Path, folder: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Return the paths of a burst's outputs.

    Args:
        reference: file of the reference frame, after which outputs are named.
        folder: folder of the outputs.
        formats: names from `choices.FORMATS`.

    Returns:
        Format -> path.
    """
    return {name: folder / f"{reference.stem}{FORMATS[name]}" for name in formats}


def check_inputs(outputs: Sequence[Path], inputs: frozenset[Path]) -> None:
    """Check that no output would replace an input.

    Args:
        outputs: paths of outputs.
        inputs: paths of all inputs, resolved.

    Raises:
        KpnError: if an output would replace an input.
    """
    for path in outputs:
        if Path(os.path.realpath(path)) in inputs:
            raise KpnError(f"{path}: would replace an input; choose another folder with -o")


def find_finished(
    files: Sequence[Path], folder: Path, formats: Sequence[str], fingerprint: bytes
) -> Path | None:
    """Return the reference of a burst whose outputs all exist; None if there is none.

    The reference is known only after all frames are decoded, so each frame is tried.

    Args:
        files: the frames.
        folder: folder of the outputs.
        formats: names from `choices.FORMATS`.
        fingerprint: of the burst, 16 bytes.
    """
    for path in files:
        paths = output_paths(path, folder, formats).values()
        if all(has_fingerprint(output, fingerprint) for output in paths):
            return path
    return None


def missing_outputs(outputs: dict[str, Path], fingerprint: bytes) -> dict[str, Path]:
    """Return the outputs that do not exist yet.

    Args:
        outputs: format -> path.
        fingerprint: of the burst, 16 bytes.

    Raises:
        KpnError: if another file has the name of an output.
    """
    absent = {name: path for name, path in outputs.items() if not os.path.lexists(path)}
    for name, path in outputs.items():
        if name not in absent and not has_fingerprint(path, fingerprint):
            raise KpnError(
                f"{path}: already exists, made of other frames or with other options; "
                "replace it with --overwrite, or choose another folder with -o"
            )
    return absent


# --- writing ----------------------------------------------------------------


def now() -> datetime:
    """Return the time of modification for outputs: now, or SOURCE_DATE_EPOCH if it is set.

    With SOURCE_DATE_EPOCH, outputs are the same bytes on every run
    (https://reproducible-builds.org/specs/source-date-epoch/).
    """
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    if seconds.isdecimal():
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(int(seconds), timezone.utc)
    return datetime.now().astimezone()


def write_outputs(
    info: RawInfo,
    denoised: Denoised,
    noise: NoiseModel | None,
    outputs: dict[str, Path],
    *,
    compression: str,
    fingerprint: bytes,
    replace: bool,
    on_file: Callable[[], None] = lambda: None,
) -> None:
    """Write the outputs of a burst; the picture is developed once, band by band, for all formats.

    Args:
        info: the reference.
        denoised: its clean planes.
        noise: of the noisy reference; None to write no NoiseProfile.
        outputs: format -> path.
        compression: of the DNG's mosaic, one of `choices.COMPRESSIONS`.
        fingerprint: of the burst, 16 bytes.
        replace: whether existing files may be replaced.
        on_file: called after each file.

    Raises:
        KpnError: if a file cannot be written, or the reference cannot be read any more.
    """
    # Without a time of exposure, programs would take the time of modification for it.
    modified = now() if info.captured is not None else None
    tree = read_tree(info.path, is_auxiliary_image)
    if "dng" in outputs:
        residual = None
        if noise is not None and denoised.residual_noise is not None:
            residual = noise.with_strength(denoised.residual_noise**0.5)
        dng_writer.write_denoised_dng(
            outputs["dng"],
            info,
            tree,
            denoised.planes,
            develop.preview(info, denoised.planes),
            noise=residual,
            compression=compression,
            modified=modified,
            unique_id=fingerprint,
            replace_file=replace,
        )
        on_file()
    if set(outputs) <= {"dng"}:
        return
    size = develop.developed_size(info)
    tags = {
        name: tiff_jpeg.photo_tags(
            info,
            tree,
            size,
            linear=name == "linear",
            jpeg=name == "jpeg",
            modified=modified,
            unique_id=fingerprint,
        )
        for name in outputs
    }
    jpeg_bands = []  # a JPEG is encoded at once, from a third of the bytes of a TIFF
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
        for rgb in develop.develop_bands(info, denoised.planes):
            if "linear" in add:
                add["linear"](rgb)
            if "srgb" in add:
                add["srgb"](develop.to_srgb(rgb))
            if "jpeg" in outputs:
                jpeg_bands.append(develop.to_srgb8(rgb))
    for _ in add:
        on_file()
    if "jpeg" in outputs:
        rgb = np.concatenate(jpeg_bands)
        tiff_jpeg.write_jpeg(outputs["jpeg"], rgb, tags["jpeg"], replace=replace)
        on_file()
