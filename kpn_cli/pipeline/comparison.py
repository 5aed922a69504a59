"""One picture of a part of a burst at several strengths, to choose a strength in seconds.

The burst is read, aligned and measured as a whole, as for `denoise`; only the part is merged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..align.alignment import AlignedBurst
from ..burst.frame import Frame
from ..choices import COMPRESSIONS, DEFAULT_NAME, JPEG_QUALITY, MIN_CROP
from ..errors import KpnError
from ..merge.headroom import Headroom
from ..merge.merge import merge_part
from ..merge.tile import TileMerger
from ..noise.selection import NoiseReport
from ..output import develop, side_by_side, tiff_jpeg
from ..output.dng_source import is_auxiliary_image
from ..raw.full_exif import read_camera_notes
from ..raw.info import RawInfo
from ..system.files import make_folder
from ..system.memory import memory_as_error
from ..system.threads import limit_torch
from ..tiff.reader import read_tree
from . import outputs
from .denoise import (
    Engine,
    ReadyNetwork,
    frames_to_merge,
    give_back_grain,
    median_shift,
    notes_of,
    retry_with_smaller_tiles,
)
from .fingerprint import options_digest
from .loading import Loaded, NotesReader, Reader, load_burst, read_packed
from .names import output_name
from .options import Options
from .prepare import Prepared, prepare
from .result import Clock, Result, Stage

#: Most pixels of the whole picture: viewers and memory have limits.
_MAX_PIXELS = 100_000_000
#: Key of the picture in `Result.outputs`.
OUTPUT = "crop"


class Part(NamedTuple):
    """A part of the upright picture, as developed TIFFs and JPEGs show it, in pixels.

    Attributes:
        x, y: its left column and top row.
        width, height: its size.
    """

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        part: of the picture.
        strengths: of denoising, one column each, right of the reference.
        grains: shares of grain, one row each.
        jpeg: whether the picture is a JPEG; else a PNG, without losses.
        jpeg_quality: 1 to 100.
    """

    part: Part
    strengths: tuple[float, ...] = (1.0,)
    grains: tuple[float, ...] = (0.0,)
    jpeg: bool = False
    jpeg_quality: int = JPEG_QUALITY

    def path(self, reference: Path, folder: Path, name: str = DEFAULT_NAME) -> Path:
        """Return the path of the picture: it names the part.

        Args:
            reference: file of the reference frame.
            folder: of the outputs.
            name: template of its name, from `names.for_burst`.
        """
        x, y, width, height = self.part
        ending = f"_crop_{x}_{y}_{width}x{height}.{'jpg' if self.jpeg else 'png'}"
        return folder / output_name(name, reference, ending)

    def label(self, strength: float, grain: float) -> str:
        """Return the label of a picture; it names grain if any has some."""
        text = f"strength {strength:g}"
        return f"{text}, grain {grain:g}" if any(self.grains) else text


def compare(
    files: Sequence[Path],
    options: Options,
    comparison: Comparison,
    engine: Engine | None = None,
    *,
    read: Reader = read_packed,
    read_notes: NotesReader = read_camera_notes,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Result:
    """Denoise a part of a burst at several strengths, and write the pictures side by side.

    Args:
        files: of one burst.
        options: as for `loading.load_burst`; formats, strength and grain are not used.
        comparison: the part and the strengths.
        engine: a network to reuse; None to load one.
        read, read_notes: read a file, and its maker's notes.
        on_stage: called with the progress.

    Returns:
        The burst's result, whose only output is `OUTPUT`.

    Raises:
        KpnError: if the part is outside the picture, the file exists and may not be replaced, or
            the burst cannot be denoised.
    """
    limit_torch()
    # With the name of a JPEG, which no input has; whether the picture exists is looked at below.
    whole = replace(
        options, formats=("jpeg",), strength=max(comparison.strengths), grain=0.0, overwrite=True
    )
    with memory_as_error():
        loaded = load_burst(
            files,
            whole,
            _digest(whole, comparison),
            alike_digest=_digest(replace(whole, headroom=False), comparison),
            read=read,
            read_notes=read_notes,
            on_stage=on_stage,
        )
        if isinstance(loaded, Result):
            return loaded
        info, fingerprint = loaded.infos[0], loaded.fingerprint
        path = comparison.path(info.path, options.output, options.name)
        outputs.Inputs(frozenset(file.resolve() for file in files)).check([path])
        box = _box(info, comparison)
        if not options.overwrite and os.path.lexists(path):
            _check_finished(path, fingerprint)
            done = {OUTPUT: path}
            return Result(info.path, loaded.files, done, skipped=True, fingerprint=fingerprint)
        make_folder(options.output)
        engine = engine or Engine(whole)
        clock = Clock(loaded.timings)
        prepared = prepare(loaded, whole, engine.device, on_stage, clock.end_stage)
        merging = _Merging.of(prepared, whole, engine, info, box)
        rows = _pictures(merging, comparison, loaded.lift, on_stage)
        clock.end_stage("denoise")
        notes = _write(path, side_by_side.side_by_side(rows), loaded, comparison, options)
        clock.end_stage("write")
        return _result(loaded, prepared, merging, path, clock, notes)


def _digest(options: Options, comparison: Comparison) -> str:
    """Return a digest of all that changes the picture."""
    # What only the usual results have, perhaps by the user's settings, makes no other picture.
    options = replace(
        options, compression=COMPRESSIONS[0], jpeg_quality=JPEG_QUALITY, jpeg_size=None
    )
    if not comparison.jpeg:
        comparison = replace(comparison, jpeg_quality=JPEG_QUALITY)
    text = f"{options_digest(options)} {comparison!r}"
    return hashlib.sha256(text.encode()).hexdigest()


def _box(info: RawInfo, comparison: Comparison) -> develop.Box:
    """Return where the part lies in the mosaic.

    Raises:
        KpnError: if it is not inside of the picture, or the comparison would be too large.
    """
    x, y, width, height = comparison.part
    rows, columns = develop.developed_size(info)
    if min(x, y) < 0 or x + width > columns or y + height > rows:
        raise KpnError(
            f"{info.path}: --crop {x},{y},{width},{height} is not inside of the picture, which is "
            f"{columns} pixels wide and {rows} high, upright"
        )
    if min(width, height) < MIN_CROP:
        least = f"{MIN_CROP}x{MIN_CROP}"
        raise KpnError(f"--crop: {width}x{height} pixels are too few; give {least} or more")
    panels = len(comparison.grains), 1 + len(comparison.strengths)
    high, wide = side_by_side.compared_size(panels, (height, width))
    if high * wide > _MAX_PIXELS or max(high, wide) > tiff_jpeg.MAX_JPEG_SIDE:
        raise KpnError(
            f"--crop: {panels[0] * panels[1]} pictures of {width}x{height} pixels side by side are "
            "too large; choose a smaller part"
        )
    return develop.sensor_box(info, (y, x, height, width))


def _check_finished(path: Path, fingerprint: bytes) -> None:
    """Check that an existing picture is of the same frames and options.

    Raises:
        KpnError: if it is another.
    """
    if side_by_side.unique_id_of_picture(path) != fingerprint.hex():
        raise KpnError(
            f"{path}: already exists, made of other frames or with other options; "
            "replace it with --overwrite, or choose another folder with -o"
        )


# --- the pictures -----------------------------------------------------------


@dataclass(frozen=True)
class _Merging:
    """A burst that is ready to be merged in part.

    Attributes:
        info: of the reference.
        aligned: the frames.
        noise: of the reference, as all frames of the burst show it.
        headroom: as for `merge.denoise_frames`.
        network: in the arithmetic for the part.
        box: the part, in sensor pixels.
        cells: rows and columns of the cells that it is developed from.
        tile: the user's `Options.tile`.
    """

    info: RawInfo
    aligned: AlignedBurst
    noise: NoiseReport
    headroom: Headroom | None
    network: ReadyNetwork
    box: develop.Box
    cells: tuple[slice, slice]
    tile: int | None

    @staticmethod
    def of(
        prepared: Prepared, options: Options, engine: Engine, info: RawInfo, box: develop.Box
    ) -> _Merging:
        """Choose the frames, as for a whole picture."""
        aligned, headroom = frames_to_merge(prepared, options, engine, info)
        rows, columns = (
            slice(span.start, min(span.stop, side))
            for span, side in zip(
                develop.cells_around(info, box), aligned.frames[0].size, strict=True
            )
        )
        pixels = 4 * (rows.stop - rows.start) * (columns.stop - columns.start)
        return _Merging(
            info,
            aligned,
            prepared.noise,
            headroom,
            engine.for_picture(pixels),
            box,
            (rows, columns),
            options.tile,
        )

    @property
    def reference(self) -> Frame:
        """The part of the reference."""
        whole = self.aligned.frames[0]
        return replace(whole, samples=whole.samples[:, self.cells[0], self.cells[1]])

    def merged(self, strength: float) -> np.ndarray:
        """Return the clean planes of the part at a strength, `(4, rows, columns)`."""
        if strength == 0:
            return self.reference.planes()
        frames, shifts = self.aligned.frames, self.aligned.shifts
        ready = self.network
        merger = TileMerger(
            ready.network,
            frames,
            shifts,
            self.noise.model,
            strength=strength,
            dtype=ready.dtype,
            observed=self.noise.observed,
            headroom=self.headroom,
        )

        def work(tile: int) -> np.ndarray:
            return merge_part(merger, ready.network, frames[0].size, self.cells, tile)

        planes = retry_with_smaller_tiles(work, ready, len(frames), self.tile)
        if not np.isfinite(planes).all():
            raise KpnError(
                "the result holds values that are not numbers; check --noise and --weights"
            )
        return planes


def _pictures(
    merging: _Merging,
    comparison: Comparison,
    lift: float,
    on_stage: Callable[[Stage], None],
) -> list[list[tuple[str, np.ndarray]]]:
    """Return a row for each share of grain: label and picture, the reference first."""

    def developed(planes: np.ndarray) -> np.ndarray:
        rgb = develop.develop_part(merging.info, planes, merging.box, lift=lift)
        return develop.to_srgb8(rgb)

    reference = merging.reference
    rows = [[("reference", developed(reference.planes()))] for _ in comparison.grains]
    for number, strength in enumerate(comparison.strengths):
        on_stage(Stage("denoising", number, len(comparison.strengths)))
        clean = merging.merged(strength)
        for row, grain in zip(rows, comparison.grains, strict=True):
            planes = clean
            if grain:
                planes = clean.copy()
                give_back_grain(planes, reference, merging.noise, merging.info, grain)
            row.append((comparison.label(strength, grain), developed(planes)))
    return rows


def _write(
    path: Path, rgb: np.ndarray, loaded: Loaded, comparison: Comparison, options: Options
) -> list[str]:
    """Write the picture with the reference's tags."""
    info = loaded.infos[0]
    tags = tiff_jpeg.photo_tags(
        info,
        read_tree(info.path, is_auxiliary_image),
        (rgb.shape[0], rgb.shape[1]),
        linear=False,
        jpeg=comparison.jpeg,
        modified=outputs.now() if info.captured is not None else None,
        unique_id=loaded.fingerprint,
    )
    if comparison.jpeg:
        quality = comparison.jpeg_quality
        tiff_jpeg.write_jpeg(path, rgb, tags, replace=options.overwrite, quality=quality)
    else:
        side_by_side.write_png(path, rgb, tags, replace=options.overwrite)
    return notes_of(loaded.infos)


def _result(
    loaded: Loaded,
    prepared: Prepared,
    merging: _Merging,
    path: Path,
    clock: Clock,
    notes: list[str],
) -> Result:
    aligned, ready = merging.aligned, merging.network
    not_aligned = {loaded.files[n]: reason for n, reason in aligned.dropped.items()}
    return Result(
        loaded.infos[0].path,
        [loaded.files[n] for n in aligned.used],
        {OUTPUT: path},
        dropped=loaded.dropped | not_aligned,
        notes=[*notes, *prepared.notes, *filter(None, [ready.precision.note])],
        settings=loaded.settings(aligned.used),
        noise=prepared.noise,
        repaired=prepared.repaired,
        shifts=[median_shift(shifts) for shifts in aligned.shifts],
        agreement=[round(value, 3) for value in aligned.robustness],
        exposure=[round(value, 4) for value in aligned.exposure],
        rejected=[round(value, 3) for value in aligned.rejected],
        fallback_share=None,
        device=str(ready.device),
        precision=ready.precision.name,
        precision_reason=ready.precision.reason,
        seconds=round(sum(clock.timings.values()), 3),
        timings=clock.timings,
        orientation=loaded.infos[0].orientation,
        fingerprint=loaded.fingerprint,
    )
