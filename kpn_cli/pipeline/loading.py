"""Read the files of a burst: which frames are usable, and which one is the reference."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ..burst import brackets, brightness, copies, reference, tones
from ..burst.brightness import Brightness
from ..choices import MERGE_BRACKETS
from ..errors import KpnError, TransientError, listed
from ..image import bayer
from ..noise.odd_profiles import replace_odd_profiles
from ..raw import exif, exposure
from ..raw.camera_notes import CameraNotes, lacks_iso
from ..raw.checks import check_file
from ..raw.exposure import Exposed
from ..raw.full_exif import complete, read_camera_notes
from ..raw.info import RawInfo, frame_path
from ..raw.reader import read_raw
from ..raw.tags import Tag, read_metadata
from ..system.memory import free_memory
from ..system.threads import usable_cores, work_ahead
from . import outputs
from .fingerprint import burst_fingerprint, file_digest
from .options import Options
from .result import Clock, Result, Stage
from .sidecars import sidecars_of

#: Reads the maker's notes of a raw file; raises nothing.
NotesReader = Callable[[Path], CameraNotes]

#: Files that are read at a time, at most: each takes the memory of a few frames meanwhile.
READERS = 4
#: Bursts of fewer bytes are read one file after the other: that takes less time than the start
#: of another process that decodes.
_SMALL_BURST = 16 << 20
#: Mean signals below this, over white, are dark: their ratio says nothing.
_DARK = 1e-3


class BracketError(KpnError):
    """The pictures of frames that state no exposure are those of a bracket."""


class Reader(Protocol):
    """Reads a raw file, the first frame in it or another one (`RawInfo.images`).

    Several threads may call it at a time, `READERS` at most. Returns its facts, and its planes
    `(4, cell_rows, cell_columns)` in DN: uint16, or float32 where its black level differs within
    a plane.
    """

    def __call__(self, path: Path, image: int = 0, /) -> tuple[RawInfo, np.ndarray]:
        """Raise a `KpnError` if it cannot be read."""


def read_packed(path: Path, image: int = 0, /) -> tuple[RawInfo, np.ndarray]:
    """Read a raw file in this process; a `Reader`.

    Raises:
        KpnError: if the file cannot be read.
    """
    info, mosaic = read_raw(path, image)
    return info, bayer.pack(mosaic, info.phase)


class _Dropped(dict[Path, str]):
    """The files, and images of files, that are left out -> reason.

    Attributes:
        originals: those left out as copies -> the frame that each is a copy of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.originals: dict[Path, Path] = {}

    def add_copy(self, copy: Path, original: Path, how: str = "") -> None:
        """Leave a frame out as a copy of another one."""
        self[copy] = f"a copy of {original.name}{how}"
        self.originals[copy] = original

    def original_of(self, frame: Path) -> Path:
        """Return the frame that stays of a frame and its copies."""
        while frame in self.originals:
            frame = self.originals[frame]
        return frame


@dataclass(kw_only=True)
class Loaded:
    """A burst in memory, as it was read.

    Attributes:
        fingerprint: of the burst, 16 bytes.
        infos: facts of the frames, the reference first.
        planes: of the frames, `(4, cell_rows, cell_columns)` each, R, G1, G2, B, in DN;
            empty after the burst was aligned.
        dropped: unusable files -> reason.
        outputs: format -> path.
        missing: the outputs that do not exist yet, format -> path.
        timings: stage -> its seconds.
        lift: by how many EV a developer should brighten the result: 0 unless exposures differ and
            the reference is darker, by its settings, than what the camera metered.
        brightness: of the frames.
    """

    fingerprint: bytes
    infos: list[RawInfo]
    planes: list[np.ndarray]
    dropped: dict[Path, str]
    outputs: dict[str, Path]
    missing: dict[str, Path]
    timings: dict[str, float]
    lift: float = 0.0
    brightness: Brightness = field(default_factory=Brightness)

    @property
    def stated(self) -> list[float]:
        """Brightness of each frame over the reference's by its exposure."""
        return [2 ** self.brightness.over(self.infos, 0, n) for n in range(len(self.infos))]

    @property
    def files(self) -> list[Path]:
        """Files of the frames, the reference first; `FILE#1` for the second image of a file."""
        return [info.frame for info in self.infos]

    def settings(self, used: Sequence[int]) -> list[str]:
        """Return the exposures of some frames as text, for `Result.settings`.

        Args:
            used: indices of the frames.

        Returns:
            "1/60 s, f/1.8, ISO 800" for each; nothing if no frames of the burst differ in exposure.
        """
        if not self.brightness.mixed:
            return []
        return [exposure.show(self.infos[index]) for index in used]


def load_burst(
    files: Sequence[Path],
    options: Options,
    options_digest: str,
    *,
    alike_digest: str = "",
    read: Reader = read_packed,
    read_notes: NotesReader = read_camera_notes,
    should_stop: Callable[[], bool] = lambda: False,
    on_first: Callable[[], object] = lambda: None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
) -> Loaded | Result:
    """Read a burst, unless all its outputs exist.

    Damaged frames are dropped, and copies of other frames: files of equal bytes before they are
    read, and those of equal pixels, or nearly equal ones, after that. The maker's notes are read
    of the reference, and of frames whose standard tags do not state the ISO.

    Where frames differ in exposure, those are dropped that show nothing, and those more than 4 EV
    from the reference.

    Args:
        files: of one burst.
        options: how to denoise; `options.output` is the folder of this burst's outputs, and
            `options.name` is filled in (`names.for_burst`).
        options_digest: from `fingerprint.options_digest`.
        alike_digest: from `fingerprint.alike_digest`, if that may be another one.
        read: reads a file.
        read_notes: reads the maker's notes of a file.
        should_stop: called before each frame; True ends reading with an error.
        on_first: called when the first frame was read: the burst is not finished yet.
        on_stage: called with the progress.

    Returns:
        The burst; or its result if all outputs exist.

    Raises:
        KpnError: if no frame is usable, the frames are no burst, or another file has the name of
            an output; a `BracketError` if they look like a bracket, which is not wanted.
    """
    clock = Clock()
    threads = _reading_threads(files)
    digests = _digests(files, threads)
    fingerprint = burst_fingerprint(list(digests.values()), options_digest)
    finished = _finished(files, options, fingerprint)
    if finished is not None:
        return finished
    loaded, dropped = _read_all(
        files,
        digests,
        read,
        threads=threads,
        should_stop=should_stop,
        on_first=on_first,
        on_stage=on_stage,
    )
    infos, completed = _complete_iso([info for info, _ in loaded], read_notes)
    loaded = [(info, planes) for info, (_, planes) in zip(infos, loaded, strict=True)]
    reference.check_same_settings(infos, options.exposures)
    loaded = _without_near_copies(loaded, options, dropped)
    infos = reference.sort_by_time([info for info, _ in loaded])
    planes = {info.frame: planes for info, planes in loaded}
    if options.exposures != "mixed":
        _check_brightness(infos, planes)
    everything = _Frames(
        infos,
        brightness.brightness(
            infos,
            [planes[info.frame] for info in infos],
            any_exposure=options.exposures == "mixed",
        ),
    )
    if options.noise is None:
        doubtful = everything.brightness.contradicted(infos)
        everything = everything._replace(infos=replace_odd_profiles(infos, doubtful))
    infos = _without_blank(everything, planes, dropped)
    # Copies change nothing: a burst stays finished when they appear or are removed. So does one of
    # equal exposures with and without --headroom.
    left = [path for path in files if not _is_copy(path, infos, dropped)]
    relevant = options_digest if everything.brightness.mixed else alike_digest or options_digest
    of_picture = burst_fingerprint([digests[path] for path in left], relevant)
    if of_picture != fingerprint:
        fingerprint = of_picture
        finished = _finished([path for path in left if path not in dropped], options, fingerprint)
        if finished is not None:
            return replace(finished, dropped=dict(dropped))
    with ThreadPoolExecutor(threads, "sharpness") as pool:
        frames, lift = _reference_first(everything, planes, options.reference, dropped, pool)
    frames = _near_in_exposure(frames, dropped)
    infos = frames.infos
    if infos[0].path not in completed:
        infos[0] = complete(infos[0], read_notes)
    paths = outputs.output_paths(infos[0].path, options.output, options.formats, options.name)
    outputs.Inputs(frozenset(path.resolve() for path in files)).check(list(paths.values()))
    clock.end_stage("read")
    return Loaded(
        fingerprint=fingerprint,
        infos=infos,
        planes=[planes[info.frame] for info in infos],
        dropped=dict(dropped),
        outputs=paths,
        missing=paths if options.overwrite else outputs.missing_outputs(paths, fingerprint),
        timings=clock.timings,
        lift=lift,
        brightness=frames.brightness,
    )


def is_finished(files: Sequence[Path], options: Options, options_digests: Sequence[str]) -> bool:
    """Whether a burst has all outputs of these options, as far as the bytes of its files tell.

    With copies among the files, the answer may be no although it has them: they show only when
    the files are decoded. Nothing is written.

    Args:
        files, options: as for `load_burst`.
        options_digests: any of which the outputs may be made with.

    Raises:
        KpnError: if the only file, or the folder of the files, cannot be read.
    """
    frames = list(_digests(files, _reading_threads(files)).values())
    find = partial(outputs.find_finished, files, options.output, options.formats, name=options.name)
    return any(
        find(fingerprint=burst_fingerprint(frames, digest)) is not None
        for digest in options_digests
    )


class _Frames(NamedTuple):
    """Frames of a burst, and how bright they are."""

    infos: list[RawInfo]
    brightness: Brightness

    def of(self, kept: Sequence[int]) -> _Frames:
        """Return some of the frames, by their indices."""
        return _Frames([self.infos[n] for n in kept], self.brightness.of(kept))


def _check_brightness(infos: Sequence[RawInfo], planes: dict[Path, np.ndarray]) -> None:
    """Check that frames which state no exposure time do not look like a bracket.

    Raises:
        BracketError: if they do.
    """
    if any(info.exposure_time for info in infos):
        return
    signals = [max(tones.mean_signal(info, planes[info.frame]), _DARK) for info in infos]
    if brackets.is_sequence([math.log2(signal) for signal in signals]):
        raise BracketError(
            f"{listed([info.frame.name for info in infos])} in {infos[0].path.parent} look like an "
            "exposure bracket by their brightness, though they state no exposure times; "
            f"{MERGE_BRACKETS}"
        )


def _without_blank(
    frames: _Frames, planes: dict[Path, np.ndarray], dropped: _Dropped
) -> list[RawInfo]:
    """Return the frames without those that show nothing, if they differ in exposure.

    Too short or too long an exposure says nothing about the scene. If no frame shows anything,
    all stay.
    """
    infos = frames.infos
    if not frames.brightness.mixed:
        return infos
    shown = {info.frame: tones.blank(info, planes[info.frame]) for info in infos}
    kept = [info for info in infos if not shown[info.frame]]
    if not kept:
        return infos
    for info in infos:
        if shown[info.frame]:
            settings = exposure.show(info)
            dropped[info.frame] = f"the picture is wholly {shown[info.frame]} ({settings})"
    return kept


def _reference_first(
    everything: _Frames,
    planes: dict[Path, np.ndarray],
    wanted: str,
    dropped: _Dropped,
    pool: ThreadPoolExecutor,
) -> tuple[_Frames, float]:
    """Return the frames with the reference first, and the `Loaded.lift` of its exposure.

    Args:
        everything: the frames in order of time, also those that were dropped as blank.
        planes: of each frame.
        wanted: the user's choice.
        dropped: what is left out.
        pool: for the work.
    """
    shown = [n for n, info in enumerate(everything.infos) if info.frame not in dropped]
    blank = [n for n, info in enumerate(everything.infos) if info.frame in dropped]
    infos = [everything.infos[n] for n in shown]
    sharp = list(pool.map(lambda info: reference.frame_sharpness(planes[info.frame]), infos))
    clipped = None
    light = everything.brightness
    unread: list[Exposed] = []
    if light.mixed:
        unread = _settings_of_unread(everything.infos, dropped)
        light = light.with_unseen(everything.infos, unread)
        clipped = [tones.clipped_share(info, planes[info.frame]) for info in infos]
    taken = [*everything.infos, *unread]
    wanted, note = _original_of_reference(wanted, infos, dropped)
    first = reference.pick_reference(
        wanted,
        infos,
        sharp,
        clipped,
        blank=[*(everything.infos[n] for n in blank), *unread],
        stops=light.of([*shown, *blank, *range(len(everything.infos), len(taken))]).stops,
    )
    lift = 0.0
    if light.mixed:
        lift = max(light.over(taken, shown[first], brightness.middle(taken, light.stops)), 0.0)
    ordered = everything.of([shown[first], *shown[:first], *shown[first + 1 :]])
    if note:
        reference_info = ordered.infos[0]
        ordered.infos[0] = replace(reference_info, notes=(*reference_info.notes, note))
    return ordered, lift


@dataclass(frozen=True)
class _Settings:
    """The exposure of a frame that cannot be read, as an all-white one; see `exposure.Exposed`."""

    iso: float | None
    exposure_time: float | None
    f_number: float | None


def _settings_of_unread(infos: Sequence[RawInfo], dropped: _Dropped) -> list[Exposed]:
    """Return the exposures of the files that were left out before anything was known of them.

    Copies are left out, and so are exposures that cannot be compared: those without a time, and
    all of them if no frame states one.
    """
    if all(info.exposure_time is None for info in infos):
        return []
    known = {info.frame for info in infos}
    found: list[Exposed] = []
    for path in sorted(dropped):
        if path in known or path in dropped.originals:
            continue
        with suppress(KpnError):
            metadata = read_metadata(path)
            time = exif.tag_or_libraw(metadata, Tag.EXPOSURE_TIME, 0)
            aperture = exif.tag_or_libraw(metadata, Tag.F_NUMBER, 0)
            if time is not None:
                found.append(_Settings(exif.iso(metadata, 0), time, aperture))
    return found


def _near_in_exposure(frames: _Frames, dropped: _Dropped) -> _Frames:
    """Return the frames whose exposure is near enough to that of the first, the reference."""
    kept = []
    for n, info in enumerate(frames.infos):
        stops = frames.brightness.over(frames.infos, 0, n)
        if abs(stops) <= exposure.MAX_EV:
            kept.append(n)
        else:
            dropped[info.frame] = (
                f"{exposure.show_stops(stops)} to the reference ({exposure.show(info)}): more than "
                "the 4 EV that can be merged"
            )
    return frames.of(kept)


def _finished(files: Sequence[Path], options: Options, fingerprint: bytes) -> Result | None:
    """Return the result of a burst whose outputs all exist, with its missing sidecars written."""
    if options.overwrite:
        return None
    named_after = outputs.find_finished(
        files, options.output, options.formats, fingerprint, options.name
    )
    if named_after is None:
        return None
    paths = outputs.output_paths(named_after, options.output, options.formats, options.name)
    frames = [named_after, *(path for path in files if path != named_after)]
    notes = outputs.complete_sidecars(named_after, paths, fingerprint, options.strength)
    return Result(named_after, frames, paths, notes=notes, skipped=True, fingerprint=fingerprint)


def _is_copy(path: Path, infos: Sequence[RawInfo], dropped: _Dropped) -> bool:
    """Whether all frames of a file are copies of frames in other files."""
    if any(info.path == path for info in infos):
        return False
    frames = re.compile(re.escape(str(path)) + r"(#\d+)?")
    names = {name for name in dropped if frames.fullmatch(str(name))}
    return bool(names) and names <= dropped.originals.keys()


def _original_of_reference(
    wanted: str, infos: Sequence[RawInfo], dropped: _Dropped
) -> tuple[str, str]:
    """Return the user's choice of the reference, and a note if it is a copy of that frame.

    Raises:
        KpnError: if it is left out for another reason.
    """
    if any(wanted in (info.frame.name, str(info.frame)) for info in infos):
        return wanted, ""
    originals = {
        dropped.original_of(copy) for copy in dropped.originals if wanted in (copy.name, str(copy))
    }
    if len(originals) != 1:
        for frame, why in dropped.items():
            if wanted in (frame.name, str(frame)) and frame not in dropped.originals:
                raise KpnError(f"--reference {wanted}: left out, {why}; choose another frame")
        return wanted, ""
    (original,) = originals
    return str(original), f"--reference {wanted}: a copy of {original.name}, which is used"


def _digests(files: Sequence[Path], threads: int) -> dict[Path, str]:
    """Return the digest of each file."""
    with ThreadPoolExecutor(threads, "digest") as pool:
        return dict(zip(files, pool.map(lambda path: _digest(path, files), files), strict=True))


def _digest(path: Path, files: Sequence[Path]) -> str:
    """Return the digest of a file; of an unreadable file among others, a text with its name."""
    try:
        check_file(path)
        return file_digest(path)
    except KpnError:
        _check_there(path, files)
        if len(files) == 1:
            raise
        return f"unreadable: {path.name}"


def _check_there(path: Path, files: Sequence[Path]) -> None:
    """Check that a frame that could not be read is not out of reach with its whole folder.

    Without a frame that is only out of reach, the picture would be another one at the next run.

    Args:
        path: the frame.
        files: of the burst.

    Raises:
        TransientError: if its folder is gone, or all of the burst, as when a shared disk vanishes.
    """
    if not os.path.lexists(path.parent) or not any(map(os.path.lexists, files)):
        raise TransientError(
            f"{path.name}: no such file any more: {path.parent} has vanished since kpn found it; "
            "is its disk still there? Then start again"
        )


def _reading_threads(files: Sequence[Path]) -> int:
    """Return how many files of a burst are read at a time."""
    size = 0
    for path in files:
        with suppress(OSError, ValueError):  # reading it tells what is wrong
            size += path.stat().st_size
    return 1 if size < _SMALL_BURST else min(usable_cores(), READERS, len(files))


def _read_all(
    files: Sequence[Path],
    digests: dict[Path, str],
    read: Reader,
    *,
    threads: int,
    should_stop: Callable[[], bool],
    on_first: Callable[[], object],
    on_stage: Callable[[Stage], None],
) -> tuple[list[tuple[RawInfo, np.ndarray]], _Dropped]:
    """Return the readable frames; the other files -> reason."""
    frames: dict[str, _Read] = {}  # by the digest of their pixels
    dropped = _Dropped()
    originals: dict[str, Path] = {}
    # Of files with equal bytes the first one stays: the one that has a sidecar.
    paths = sorted(dict.fromkeys(files), key=lambda path: not sidecars_of(path))
    for path in paths:
        originals.setdefault(digests[path], path)
    with closing(work_ahead(partial(_read, read), originals.values(), threads)) as reading:
        for number, path in enumerate(paths):
            on_stage(Stage("reading", number, len(files)))
            if should_stop():
                raise KpnError("stopped")
            # The noise of two copies is the same: it would be taken for detail.
            original = originals[digests[path]]
            if original != path:
                dropped.add_copy(path, original)
                continue
            try:
                frame = next(reading).result()
                if not frames:
                    _check_memory(frame.planes.nbytes, len(files) * frame.info.images)
                    on_first()
                _add(frame, frames, dropped)
            except TransientError:  # without this frame, the next run would give another picture
                raise
            except KpnError as error:
                _check_there(path, files)
                if len(files) == 1:
                    raise
                dropped[path] = str(error).removeprefix(f"{path.name}: ")
                continue
            for image in range(1, frame.info.images):
                if should_stop():
                    raise KpnError("stopped")
                _add_image(path, image, frame, read, frames, dropped)
    if not frames:
        path, reason = next(iter(dropped.items()))
        raise KpnError(f"{path.name}: {reason} No other frame can be read either.")
    return [(frame.info, frame.planes) for frame in frames.values()], dropped


@dataclass(frozen=True)
class _Read:
    """A frame as it was read; `digest` of its pixels."""

    info: RawInfo
    planes: np.ndarray
    digest: str


def _read(read: Reader, path: Path, image: int = 0) -> _Read:
    info, planes = read(path, image) if image else read(path)
    return _Read(info, planes, copies.pixel_digest(planes))


def _add(frame: _Read, frames: dict[str, _Read], dropped: _Dropped) -> None:
    """Add a frame to those that were read, unless it is a copy; or in place of its copy."""
    twin = frames.get(frame.digest)
    if twin is None:
        frames[frame.digest] = frame
        return
    original, copy = _original_first([frame.info, twin.info])
    if original is frame.info:
        frames[frame.digest] = frame
    dropped.add_copy(copy.frame, original.frame, ": the same pixels")


def _add_image(
    path: Path,
    image: int,
    first: _Read,
    read: Reader,
    frames: dict[str, _Read],
    dropped: _Dropped,
) -> None:
    """Add a further image of a file, unless it is unreadable or of another exposure.

    A file states one exposure for all of its images. Their brightness tells the frames of an
    in-camera bracket, and the half of the light that the second image of dual pixels has. That
    half is part of the first image's light, noise included, and nothing tells it from a bracket:
    so neither is merged, whatever exposures are wanted.
    """
    name = frame_path(path, image)
    try:
        frame = _read(read, path, image)
    except TransientError:
        raise
    except KpnError as error:
        _check_there(path, [path])
        dropped[name] = str(error).removeprefix(f"{path.name}: ")
        return
    first_mean, mean = (tones.mean_signal(each.info, each.planes) for each in (first, frame))
    ratio = max(mean, _DARK) / max(first_mean, _DARK)
    if abs(math.log2(ratio)) < exposure.ANOTHER_EV:
        _add(frame, frames, dropped)
    else:
        first_name = frame_path(path, 0).name
        dropped[name] = f"{ratio:.2g} times as bright as {first_name}: another exposure"


def _without_near_copies(
    frames: list[tuple[RawInfo, np.ndarray]], options: Options, dropped: _Dropped
) -> list[tuple[RawInfo, np.ndarray]]:
    """Return the frames without those that are another one stored again with small losses."""
    # Imported after the files were read: until then, another thread may have imported PyTorch.
    import torch

    from ..burst.frame import Frame
    from ..noise import near_copies
    from ..noise.selection import stated_noise

    first = replace_odd_profiles([info for info, _ in frames])[0]
    stated = stated_noise(first, options.noise)
    if stated is None:
        return frames
    samples = [Frame(torch.from_numpy(p), info.black, info.white) for info, p in frames]
    left_out: set[Path] = set()
    for pair in near_copies.find_near_copies(samples, stated):
        original, copy = _original_first([frames[index][0] for index in pair])
        if not left_out & {original.frame, copy.frame}:
            left_out.add(copy.frame)
            dropped.add_copy(
                copy.frame,
                original.frame,
                ", stored again with losses: they differ by next to no noise",
            )
    return [frame for frame in frames if frame[0].frame not in left_out]


def _original_first(infos: Sequence[RawInfo]) -> list[RawInfo]:
    """Return copies of one photo, the one that the camera wrote first."""
    return sorted(
        infos,
        key=lambda info: copies.distance_from_camera(read_metadata(info.path), info.frame.name),
    )


def _complete_iso(
    infos: Sequence[RawInfo], read_notes: NotesReader
) -> tuple[list[RawInfo], set[Path]]:
    """Complete the frames whose standard tags do not state the ISO.

    Returns:
        All frames; the files of those completed. If one has no ISO in its notes either, its ISO
        is that of all others, if these agree: the burst must not fail for it.
    """
    paths = {info.path for info in infos if lacks_iso(info)}
    infos = [complete(info, read_notes) if info.path in paths else info for info in infos]
    found = [info.iso for info in infos if info.iso and not lacks_iso(info)]
    if not found or math.log2(max(found) / min(found)) > exposure.SAME_EV:
        return infos, paths
    iso = found[len(found) // 2]
    line = f"its ISO is taken to be {iso:g}, as in the other frames"
    return [
        replace(info, iso=iso, iso_source="other frames", notes=(*info.notes, line))
        if lacks_iso(info) and info.iso != iso and _may_have(info, iso)
        else info
        for info in infos
    ], paths


def _may_have(info: RawInfo, iso: float) -> bool:
    """Whether an ISO contradicts nothing that a frame says: LibRaw's ISO, or an overflow."""
    if info.iso is None:
        return True
    return info.iso_source == exif.ISO_NAME and iso > exif.ISO_OVERFLOW


def _check_memory(frame_bytes: int, count: int) -> None:
    """Check that the frames of a long burst fit into the free memory."""
    free = free_memory()
    if count > 8 and frame_bytes * (count - 1) > free:
        raise TransientError(
            f"its {count} frames need {frame_bytes * count / 2**30:.1f} GiB of memory, but only "
            f"{free / 2**30:.1f} GiB are free; make smaller bursts with --burst-size"
        )
