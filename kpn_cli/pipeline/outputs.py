"""The outputs of a burst: their names, which of them exist already, writing them.

Every output holds the fingerprint of its burst (`fingerprint.py`), by which a finished output is
recognised. A sidecar is written before its DNG, and again whenever the DNG is written: beside a
finished DNG, it is the user's to edit.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..choices import DEFAULT_NAME, FORMATS, JPEG_QUALITY, SIDECARS
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..output import develop, dng_writer, tiff_jpeg
from ..output.dng_source import is_auxiliary_image
from ..output.reduced import Reduced
from ..output.xmp_edit import Edit
from ..raw import exif
from ..raw.info import RawInfo
from ..raw.tags import Tag, read_metadata
from ..tiff.reader import Tree, read_tree
from .fingerprint import has_fingerprint
from .names import has_reference, output_name
from .sidecars import (
    is_sidecar_of,
    sidecar_stems,
    sidecars_of,
    usable_sidecars,
    write_sidecars,
)
from .stamps import now as now

if TYPE_CHECKING:  # finished outputs are found without PyTorch
    from ..merge.merge import Denoised


def output_paths(
    reference: Path, folder: Path, formats: Sequence[str], name: str = DEFAULT_NAME
) -> dict[str, Path]:
    """Return the paths of a burst's outputs.

    Args:
        reference: file of the reference frame.
        folder: folder of the outputs.
        formats: names from `choices.FORMATS`.
        name: template of their names, from `names.for_burst`.

    Returns:
        Format -> path. If "dng" is one of the formats and the reference has XMP sidecars, also key
        of `choices.SIDECARS` -> path.
    """
    names = output_names(reference, formats, name)
    return {each: folder / made for each, made in names.items()}


def output_names(
    reference: Path, formats: Sequence[str], name: str = DEFAULT_NAME
) -> dict[str, str]:
    """Return the names of a burst's outputs; the arguments and keys are those of `output_paths`."""
    endings = {each: FORMATS[each] for each in formats}
    if "dng" in formats:
        endings |= {each: SIDECARS[each] for each in usable_sidecars(reference)}
    return {each: output_name(name, reference, ending) for each, ending in endings.items()}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The photos of a run, none of which may be replaced.

    A name that differs from an input's by its case only is the same file on cards, and on Windows
    and macOS.

    Attributes:
        paths: of all inputs, resolved.
    """

    paths: frozenset[Path]

    @cached_property
    def _photos(self) -> Collection[str]:
        return {_in_small_letters(path) for path in self.paths}

    @cached_property
    def _sidecars(self) -> Collection[tuple[Path, str]]:
        return sidecar_stems(self.paths)

    def check(self, outputs: Sequence[Path]) -> None:
        """Check that no output would replace an input, or the sidecar of one.

        Args:
            outputs: paths of outputs.

        Raises:
            KpnError: if an output would replace an input.
        """
        for path in outputs:
            self.check_resolved(path, Path(os.path.realpath(path)))

    def check_resolved(self, path: Path, resolved: Path) -> None:
        """Check an output whose resolved path is known, as `check` does."""
        taken = _in_small_letters(resolved) in self._photos
        if taken or is_sidecar_of(resolved, self._sidecars):
            raise KpnError(f"{path}: would replace an input; choose another folder with -o")


def _in_small_letters(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def find_finished(
    files: Sequence[Path],
    folder: Path,
    formats: Sequence[str],
    fingerprint: bytes,
    name: str = DEFAULT_NAME,
) -> Path | None:
    """Return the reference of a burst whose outputs all exist; None if there is none.

    Sidecars are not required: `complete_sidecars` adds them.

    The reference is known only after all frames are decoded, so each frame is tried.

    Args:
        files: the frames.
        folder: folder of the outputs.
        formats: names from `choices.FORMATS`.
        fingerprint: of the burst, 16 bytes.
        name: template of their names, from `names.for_burst`.
    """
    for path in files:
        paths = output_paths(path, folder, formats, name)
        if all(has_fingerprint(paths[each], fingerprint) for each in formats):
            return path if has_reference(name) else _named_in(paths[formats[0]], files)
        if not has_reference(name):  # all have the same outputs
            break
    return None


def _named_in(output: Path, files: Sequence[Path]) -> Path:
    """Return the frame that an output's DocumentName tells; the first if it tells none of them."""
    document = read_metadata(output).text(Tag.DOCUMENT_NAME)
    return next((path for path in files if _as_tag(path.name) == document), files[0])


def _as_tag(name: str) -> str:
    """Return a file's name as it is read from a tag of 7-bit text."""
    text = name.encode("ascii", "replace").decode()
    return "".join(c for c in text if c.isprintable()).strip()


def missing_outputs(outputs: dict[str, Path], fingerprint: bytes) -> dict[str, Path]:
    """Return the outputs to write: those that do not exist yet, and all sidecars of a missing DNG.

    A sidecar without its DNG is of an interrupted run, or its DNG was deleted: the source's sidecar
    may have changed since.

    Args:
        outputs: format -> path.
        fingerprint: of the burst, 16 bytes.

    Raises:
        KpnError: if another file has the name of an output.
    """
    absent = {name: path for name, path in outputs.items() if not os.path.lexists(path)}
    for name, path in outputs.items():
        if name in SIDECARS and "dng" not in absent:
            continue  # the DNG is the burst's, or the error is about the DNG
        if name not in absent and not has_fingerprint(path, fingerprint):
            made = "not by kpn" if name in SIDECARS else "of other frames or with other options"
            raise KpnError(
                f"{path}: already exists, made {made}; "
                "replace it with --overwrite, or choose another folder with -o"
            )
    again = set(SIDECARS) if "dng" in absent else set()
    return {name: path for name, path in outputs.items() if name in absent or name in again}


def complete_sidecars(
    reference: Path, outputs: dict[str, Path], fingerprint: bytes, strength: float
) -> list[str]:
    """Write the missing sidecars of a finished burst.

    Args:
        reference: the photo that the outputs are named after.
        outputs: format -> path, as from `output_paths`.
        fingerprint: of the burst, 16 bytes.
        strength: of denoising.

    Returns:
        Notes.

    Raises:
        KpnError: if a file cannot be written.
    """
    absent = {
        name: path
        for name, path in outputs.items()
        if name in SIDECARS and not os.path.lexists(path)
    }
    if not absent:
        return []
    timed = exif.captured(read_metadata(outputs["dng"]), None) is not None
    edit = Edit(strength > 0, now() if timed else None, fingerprint, fingerprint)
    return write_sidecars(reference, absent, edit, replace=False)


# --- writing ----------------------------------------------------------------


@dataclass(frozen=True)
class Jpeg:
    """Quality and size of the JPEG.

    Attributes:
        quality: 1 to 100.
        long_side: pixels to which its longer side is reduced; None for full size.
    """

    quality: int = JPEG_QUALITY
    long_side: int | None = None

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return its rows and columns for a developed picture of `size`; never more than that."""
        if self.long_side is None or max(size) <= self.long_side:
            return size
        scale = self.long_side / max(size)
        rows, columns = (max(round(scale * side), 1) for side in size)
        return rows, columns


def write_outputs(
    info: RawInfo,
    denoised: Denoised,
    noise: NoiseModel | None,
    outputs: dict[str, Path],
    *,
    compression: str,
    jpeg: Jpeg | None = None,
    fingerprint: bytes,
    replace: bool,
    strength: float,
    grain: float = 0.0,
    precision: str = "",
    document: str = "",
    lift: float = 0.0,
    on_file: Callable[[], None] = lambda: None,
) -> list[str]:
    """Write the outputs of a burst; the picture is developed once, band by band, for all formats.

    Args:
        info: the reference.
        denoised: its clean planes.
        noise: of the noisy reference; None to write no NoiseProfile.
        outputs: format -> path, and key of `choices.SIDECARS` -> path.
        compression: of the DNG's mosaic, one of `choices.COMPRESSIONS`.
        jpeg: quality and size of the JPEG; None for the best and the whole.
        fingerprint: of the burst, 16 bytes.
        replace: whether existing files may be replaced.
        strength: of denoising.
        grain: share of the reference's luminance noise that the planes have again.
        precision: arithmetic of the network, which the tag Software tells.
        document: what DocumentName tells: the name of the reference's file where the names of the
            outputs do not tell it; else "".
        lift: EV by which the result shall be shown brighter than the reference: the pictures and
            the preview are, the DNG says so in BaselineExposure. Exif stays the reference's, and
            sidecars the user's.
        on_file: called after each file.

    Returns:
        Notes: what is odd in the tags and sidecars of the reference and how it was treated.

    Raises:
        KpnError: if a file cannot be written, or the reference cannot be read any more.
    """
    # Without a time of exposure, programs would take the time of modification for it.
    modified = now() if info.captured is not None else None
    tree = read_tree(info.path, is_auxiliary_image)
    notes: list[str] = []
    if set(outputs) & {"dng", *SIDECARS}:
        edit = Edit(strength > 0, modified, fingerprint, fingerprint)
        notes += write_sidecars(info.path, outputs, edit, replace=replace)
        for _ in set(outputs) & set(SIDECARS):
            on_file()
    pictures = {name: outputs[name] for name in outputs if name in FORMATS and name != "dng"}

    def write_dng() -> tuple[str, ...]:
        residual = None
        if noise is not None and denoised.residual_noise is not None:
            residual = noise.with_strength(denoised.residual_noise**0.5)
        reduction = strength
        if grain:
            from ..merge.grain import reduction_with_grain, with_grain  # needs PyTorch

            reduction = reduction_with_grain(strength, grain)
            if noise is not None and denoised.residual_noise is not None:
                residual = with_grain(noise, denoised.residual_noise, info.white_balance, grain)
        return dng_writer.write_denoised_dng(
            outputs["dng"],
            info,
            tree,
            denoised.planes,
            develop.preview(info, denoised.planes, lift=lift),
            noise=residual,
            compression=compression,
            modified=modified,
            unique_id=fingerprint,
            replace_file=replace,
            strength=reduction,
            precision=precision,
            document=document,
            sidecars=[each.data for each in sidecars_of(info.path) if not each.problem],
            lift=lift,
            headroom=denoised.white,
        )

    # At once: each spends part of its time on one core, or waits for the disk.
    with ThreadPoolExecutor(1, "dng") as other:
        dng = other.submit(write_dng) if "dng" in outputs else None
        try:
            if pictures:
                tags = _Tags(tree, modified, fingerprint, precision, jpeg or Jpeg(), document)
                # Closed here: left to the garbage collector after an error, its threads might be
                # waited for by a thread that they wait for.
                with closing(develop.develop_bands(info, denoised.planes, lift=lift)) as bands:
                    _write_pictures(info, bands, pictures, tags, replace=replace, on_file=on_file)
        finally:
            if dng is not None:  # if both fail, as on a full disk, the error about the DNG is shown
                notes += dng.result()
                on_file()
    return notes


@dataclass(frozen=True)
class _Tags:
    """What the tags of developed pictures are made of: the source's, a time, the fingerprint,
    the arithmetic; quality and size of the JPEG; the reference's file.
    """

    source: Tree | None
    modified: datetime | None
    fingerprint: bytes
    precision: str
    jpeg: Jpeg
    document: str


def _write_pictures(
    info: RawInfo,
    bands: Iterator[np.ndarray],
    outputs: dict[str, Path],
    made_of: _Tags,
    *,
    replace: bool,
    on_file: Callable[[], None],
) -> None:
    """Write the developed bands of a picture: format -> path, without "dng"."""
    size = develop.developed_size(info)
    jpeg_size = made_of.jpeg.size(size)
    tags = {
        name: tiff_jpeg.photo_tags(
            info,
            made_of.source,
            jpeg_size if name == "jpeg" else size,
            linear=name == "linear",
            jpeg=name == "jpeg",
            modified=made_of.modified,
            unique_id=made_of.fingerprint,
            precision=made_of.precision,
            document=made_of.document,
        )
        for name in outputs
    }
    # A JPEG is encoded at once, from a third of the bytes of a TIFF, or fewer if it is smaller.
    jpeg = Reduced(size, jpeg_size)
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
        for rgb in bands:
            if "linear" in add:
                add["linear"](rgb)
            if "srgb" in add:
                add["srgb"](develop.to_srgb(rgb))
            if "jpeg" in outputs:
                jpeg.add(rgb)
    for _ in add:
        on_file()
    if "jpeg" in outputs:
        quality = made_of.jpeg.quality
        path = outputs["jpeg"]
        tiff_jpeg.write_jpeg(path, jpeg.picture(), tags["jpeg"], replace=replace, quality=quality)
        on_file()
