"""What a run will take before it starts: time, and space on the disks of its outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..choices import FORMATS
from ..errors import KpnError
from ..pipeline.fingerprint import alike_digest, options_digest
from ..pipeline.loading import is_finished
from ..pipeline.names import output_name
from ..pipeline.options import Options
from .plan import Job
from .read_ahead import options_of
from .speed import Speed, speed_for, work

#: Bytes of an output for each pixel, of a picture with much detail; of smooth pictures it is less
#: than half. Measured on photos of 0.5 and 1.6 megapixels.
_BYTES = {"dng": 1.5, "linear": 5.0, "srgb": 5.0, "jpeg": 0.5}
#: The same for a DNG whose mosaic is not compressed; it holds a small preview too.
_UNCOMPRESSED_DNG = 2.2
#: Bytes of photos that a dry run reads to compare them with their outputs, at most: a few seconds.
_COMPARED_BYTES = 512 << 20


@dataclass(frozen=True)
class Disk:
    """A disk that takes outputs.

    Attributes:
        folder: a folder of outputs on it.
        needed: bytes of its outputs, about.
        free: bytes that are free.
    """

    folder: Path
    needed: int
    free: int


@dataclass(frozen=True)
class Outlook:
    """What a run will take.

    Attributes:
        disks: that take the outputs.
        unsized: bursts whose size is not known; they are not part of `disks` and `seconds`.
        finished: bursts whose outputs exist already, which are skipped or replaced.
        replaced: whether they are replaced.
        seconds: None if that is not known.
        source: how the seconds are known, or why they are not, for the user.
        compared: bursts whose outputs exist that were compared with the photos and the options.
        others: those of them whose outputs are of other frames or made with other options.
    """

    disks: tuple[Disk, ...]
    unsized: int = 0
    finished: int = 0
    replaced: bool = False
    seconds: float | None = None
    source: str = ""
    compared: int = 0
    others: int = 0

    @property
    def needed(self) -> int:
        """Bytes of all outputs, about."""
        return sum(disk.needed for disk in self.disks)

    def time_text(self) -> str:
        """Return the time for the user."""
        if self.seconds is None:
            return f"not known: {self.source}"
        return f"{duration_text(self.seconds)}{self._without()}, {self.source}"

    def space_text(self) -> str:
        """Return the space for the user."""
        if not self.needed:
            return f"not known{self._without()}" if self.unsized else "none"
        disks = ", ".join(f"{size_text(disk.free)} free for {disk.folder}" for disk in self.disks)
        return f"about {size_text(self.needed)} for the results{self._without()}; {disks}"

    def _without(self) -> str:
        """What is left out of time and space."""
        parts = []
        if self.finished and not self.replaced:
            parts.append(f"{self.finished} whose outputs exist")
        if self.unsized:
            parts.append(f"{self.unsized} of unknown size")
        return f" without {' and '.join(parts)}" if parts else ""

    def warnings(self) -> list[str]:
        """Return a line for each disk that is too small, and for outputs that are in the way."""
        lines = [
            f"{disk.folder}: the results need about {size_text(disk.needed)}, and only "
            f"{size_text(disk.free)} are free there; free some space, choose another folder with "
            "-o, or fewer formats with --format"
            for disk in self.disks
            if disk.needed > disk.free
        ]
        if self.others:
            lines.append(
                "some outputs that exist seem to be of other frames or made with other options "
                f"({self.others} of {self.compared} bursts compared); replace them with "
                "--overwrite, or choose another folder with -o"
            )
        return lines


def look_at_space(jobs: Sequence[Job], options: Options) -> Outlook:
    """Return the space that bursts need, without the time.

    Args:
        jobs: the bursts.
        options: of the run.
    """
    return _space(jobs, options, _finished(jobs, options))


def _space(jobs: Sequence[Job], options: Options, exist: Sequence[bool]) -> Outlook:
    new = [job for job, there in zip(jobs, exist, strict=True) if not there]
    unsized = sum(not job.pixels for job in new)
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    devices: dict[Path, int | None] = {}
    whole = _device(options.output)
    # Outputs that are replaced need the space of one burst at a time.
    for job in new or jobs[: int(options.overwrite)]:
        if job.folder not in devices:
            devices[job.folder] = _device(job.folder)
        device = devices[job.folder]
        if device is None:
            continue
        # Another disk may be mounted below the folder of all outputs.
        folders.setdefault(device, options.output if device == whole else job.folder)
        needed[device] = needed.get(device, 0) + output_bytes(job, options)
    disks = []
    for device, folder in folders.items():
        try:
            free = shutil.disk_usage(_existing(folder)).free
        except OSError:  # what cannot be reached is told when it is written to
            continue
        disks.append(Disk(folder, needed[device], free))
    return Outlook(tuple(disks), unsized, sum(exist), options.overwrite)


def look_ahead(jobs: Sequence[Job], options: Options) -> Outlook:
    """Return the time and the space that bursts need, and whether outputs are in the way.

    The time is that of the last run's speed, or measured, which takes a few seconds.

    Args:
        jobs: the bursts.
        options: of the run.
    """
    exist = _finished(jobs, options)
    outlook = _space(jobs, options, exist)
    if not options.overwrite:
        there = [job for job, exists in zip(jobs, exist, strict=True) if exists]
        compared, others = _compare(there, options)
        outlook = replace(outlook, compared=compared, others=others)
    to_do = [job for job, there in zip(jobs, exist, strict=True) if options.overwrite or not there]
    units = sum(map(work, to_do))
    if not units:
        known = Speed(0.0, "nothing to do") if not to_do else None
        return _timed(outlook, 0, known, "the size of the pictures is unknown")
    try:
        return _timed(outlook, units, speed_for(units, options), "")
    except KpnError as error:
        return _timed(outlook, units, None, str(error))


def _timed(outlook: Outlook, units: float, speed: Speed | None, unknown: str) -> Outlook:
    return replace(
        outlook,
        seconds=None if speed is None else units * speed.seconds,
        source=unknown if speed is None else speed.source,
    )


def _compare(jobs: Sequence[Job], options: Options) -> tuple[int, int]:
    """Compare outputs that exist with the photos and the options, of the first bursts only.

    Returns:
        The number of bursts that were compared, and of those with other outputs.
    """
    compared = others = 0
    left = _COMPARED_BYTES
    with suppress(KpnError, OSError, ValueError):  # what cannot be read is told by the run
        digests = options_digest(options), alike_digest(options)
        for job in jobs:
            left -= sum(os.stat(path).st_size for path in job.files)
            if left < 0:
                break
            possible = digests[:1] if job.settings else digests
            others += not is_finished(job.files, options_of(job, options), possible)
            compared += 1
    return compared, others


def output_bytes(job: Job, options: Options) -> int:
    """Return about how many bytes the outputs of a burst will have; 0 if its size is not known."""
    sizes = _BYTES if options.compression != "none" else _BYTES | {"dng": _UNCOMPRESSED_DNG}
    return round(job.pixels * sum(sizes[name] for name in options.formats))


def _finished(jobs: Sequence[Job], options: Options) -> list[bool]:
    """Return of each burst whether all of its outputs exist, whatever they are made of."""
    there: dict[Path, bool] = {}
    for job in jobs:
        if job.folder not in there:
            there[job.folder] = os.path.lexists(job.folder)
    return [there[job.folder] and _has_outputs(job, options) for job in jobs]


def _has_outputs(job: Job, options: Options) -> bool:
    template, folder = job.name or options.name, str(job.folder)
    return any(
        all(
            os.path.lexists(os.path.join(folder, output_name(template, file, FORMATS[each])))
            for each in options.formats
        )
        for file in job.files
    )


def _device(folder: Path) -> int | None:
    """Return the disk that a folder is or will be on; None if it cannot be reached."""
    try:
        return _existing(folder).stat().st_dev
    except OSError:
        return None


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists.

    Raises:
        OSError: if it is relative, and the current folder is gone.
    """
    place = folder.absolute()
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    return place


# --- for people -----------------------------------------------------------------------


def duration_text(seconds: float) -> str:
    """Return an estimate for people: "a minute or less", "about 12 minutes", "about 3 h 20 min"."""
    minutes = round(seconds / 60)
    if not seconds:
        return "none"
    if seconds <= 60:
        return "a minute or less"
    if minutes < 60:
        return f"about {minutes} minute" + "s" * (minutes > 1)
    if minutes < 600:
        return f"about {minutes // 60} h {minutes % 60} min"
    return f"about {round(minutes / 60)} hours"


def size_text(size: float) -> str:
    """Return a number of bytes for people, in the decimal units of disks: "340 MB", "1.2 TB"."""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.2g} {unit}" if size < 10 else f"{size:.0f} {unit}"
    return f"{size / 1000:.2g} TB"
