"""What the pipeline reports: a burst's result or failure, its progress and its timings."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import MERGE_BRACKETS
from ..defects.repaired import Repaired
from ..raw import exposure

if TYPE_CHECKING:  # reading a burst must not wait for PyTorch
    from ..noise.selection import NoiseReport


#: Frames of a burst that a message names one by one.
_NAMED_FRAMES = 3
#: What a fallback means, for the user (`merge/guard.py`).
_OF_FALLBACK = (
    "which keeps one frame's noise there. This is no error: merging would have blurred what moves, "
    "or fine detail at low ISO. If neither is there, try another --reference; kpn inspect shows "
    "where"
)
#: The same for a single frame, with which nothing was merged.
_OF_FALLBACK_OF_ONE = (
    "which keeps its noise there. This is no error: denoising would have blurred fine detail; kpn "
    "inspect shows where"
)
#: Least brightness that is shown in EV.
_DARKEST = 1e-6


def stops_of(exposure: Sequence[float]) -> list[float]:
    """Return the brightness of frames over the reference's in EV, from their ratios."""
    return [math.log2(max(ratio, _DARKEST)) for ratio in exposure]


@dataclass(frozen=True)
class Result:
    """What was made from a burst, and how.

    Attributes:
        reference: file of the reference frame, after which outputs are named.
        frames: files of the merged frames, the reference first; `FILE#1` for the second raw image
            of a file with several.
        dropped: files that were not merged -> reason, such as damage or another subject.
        notes: what is odd in the files and how it was treated, a line for the user each.
        outputs: format -> file; XMP sidecars have the keys of `choices.SIDECARS`.
        noise: noise model of the reference and its source; None if skipped.
        repaired: the defects that were repaired.
        shifts: median shift of each merged frame, (row, column) in sensor pixels, in the
            orientation of the sensor.
        orientation: Exif orientation of the reference, 1-8.
        agreement: of each merged frame with the reference, from 0 to 1.
        exposure: brightness of each merged frame relative to the reference, before matching.
        settings: exposure of each merged frame as text, such as "1/60 s, f/1.8, ISO 800"; empty
            if all frames have the same.
        rejected: share of each merged frame's tiles that show something else, from 0 to 1.
        noise_left: variance of the residual noise over that of the reference, from 0 to 1;
            None if it was not measured. Without the noise that `grain` has given back.
        grain: share of the reference's luminance noise that was given back, from 0 to 1.
        fallback_share: share of the picture that was taken from the reference, from 0 to 1
            (`merge/guard.py`); None if it was not measured.
        headroom: by how many EV the DNG goes beyond the reference's white; None if that was not
            asked for.
        device: device of the network, as torch names it.
        precision, precision_reason: arithmetic of the network, and why it was chosen.
        seconds: processing time of the burst.
        timings: stage -> its seconds.
        skipped: whether all outputs existed already.
        fingerprint: of the outputs, 16 bytes (`pipeline/fingerprint.py`).
    """

    reference: Path
    frames: list[Path]
    outputs: dict[str, Path]
    _: KW_ONLY
    dropped: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    noise: NoiseReport | None = None
    repaired: Repaired = field(default_factory=Repaired)
    shifts: list[tuple[int, int]] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    fallback_share: float | None = 0.0
    noise_left: float | None = None
    headroom: float | None = None
    grain: float = 0.0
    device: str = ""
    precision: str = ""
    precision_reason: str = ""
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    orientation: int = 1
    fingerprint: bytes = b""

    @property
    def stops(self) -> list[float]:
        """Brightness of each merged frame over the reference's, in EV, before matching."""
        return stops_of(self.exposure)

    def exposures(self) -> list[str]:
        """Return a line for each exposure of a burst of several: its settings, EV and frames.

        The EV are the mean over the frames but the reference, whose 0 EV are no measurement.
        """
        stops = self.stops
        alike: list[list[int]] = []
        for index, settings in enumerate(self.settings):
            for group in alike:
                near = abs(stops[index] - stops[group[0]]) < exposure.ANOTHER_EV
                if settings == self.settings[group[0]] and near:
                    group.append(index)
                    break
            else:
                alike.append([index])
        lines = []
        for group in alike:
            others = [stops[n] for n in group if n] or [0.0]
            mean = exposure.show_stops(sum(others) / len(others))
            names = ", ".join(self.frames[n].name for n in group)
            lines.append(f"{self.settings[group[0]]} ({mean}): {names}")
        return lines

    def remarks(self) -> list[tuple[str, str]]:
        """Return remarks for the user: their kind and a line of text each.

        The kinds are `exposure`, `dropped`, `note` and `warning`.
        """
        lines = [("exposure", line) for line in self.exposures()]
        lines += [("dropped", f"{path.name}: {why}") for path, why in self.dropped.items()]
        lines += [("note", note) for note in self.notes]
        if not self.settings:
            lines += [
                ("note", f"{path.name} is {ratio:.3f} times as bright as the reference; matched")
                for path, ratio in zip(self.frames, self.exposure, strict=False)
                if abs(ratio - 1) > 0.02
            ]
        if self.repaired:
            lines.append(("note", f"repaired {self.repaired.in_words()}"))
        if self.fallback_share is not None and self.fallback_share > 0.02:
            share = f"{self.fallback_share:.0%} of the picture"
            what = _OF_FALLBACK if len(self.frames) > 1 else _OF_FALLBACK_OF_ONE
            lines.append(("note", f"fell back to the reference in {share}, {what}"))
        if self.noise is not None and self.noise.warning:
            lines.append(("warning", self.noise.warning))
        return lines


@dataclass(frozen=True)
class Failure:
    """A burst or file that could not be processed.

    Attributes:
        files: of the burst, or the one path that failed.
        error: what went wrong, and how to fix it.
    """

    files: tuple[Path, ...]
    error: str

    def message(self) -> str:
        """Return the error with the files that it is about, and their folder."""
        if len(self.files) > 1:
            return f"{burst_in_words(self.files)}: {self.error}"
        for path in self.files:
            if self.error.startswith(f"{path.name}: "):
                return f"{path.parent / self.error}"
            if path.name not in self.error:
                return f"{path}: {self.error}"
        return self.error


def burst_in_words(files: Sequence[Path]) -> str:
    """Return a burst for a message: "IMG_1.dng to IMG_8.dng (8 frames) in /card".

    Args:
        files: its files, in order of time.
    """
    folders = {path.parent for path in files}
    names = [path.name for path in files] if len(folders) == 1 else [str(path) for path in files]
    shown = ", ".join(names)
    if len(names) > _NAMED_FRAMES:
        shown = f"{names[0]} to {names[-1]} ({len(names)} frames)"
    return f"{shown} in {files[0].parent}" if len(folders) == 1 else shown


@dataclass(frozen=True)
class LeftOut:
    """A burst that is not merged, as the user wants it: an exposure bracket, or one of few frames.

    Attributes:
        files: of the burst.
        reason: why; of a bracket also which files these are, and how to merge them: `what` and
            `choices.MERGE_BRACKETS`.
        fewer_than: number of frames that the user wants at least; 0 for a bracket.
    """

    files: tuple[Path, ...]
    reason: str
    fewer_than: int = 0

    @property
    def what(self) -> str:
        """Which files these are, without how to merge them."""
        return self.reason.removesuffix(f"; {MERGE_BRACKETS}")

    @property
    def is_mergeable(self) -> bool:
        """Whether it is a bracket that can be merged."""
        return self.what != self.reason


def left_out_lines(left_out: Sequence[LeftOut]) -> list[tuple[str, tuple[Path, ...]]]:
    """Return a line and the files for each bracket, and one for all bursts of few frames."""
    lines = [(each.what, each.files) for each in left_out if not each.fewer_than]
    few = [each for each in left_out if each.fewer_than]
    if few:
        files = tuple(path for each in few for path in each.files)
        bursts = "1 burst" if len(few) == 1 else f"{len(few)} bursts"
        frames = "1 frame" if len(files) == 1 else f"{len(files)} frames"
        wanted = few[0].fewer_than
        lines.append((f"{bursts} of fewer than {wanted} frames ({frames}; --min-frames)", files))
    return lines


@dataclass(frozen=True)
class Stage:
    """Progress within a stage.

    Attributes:
        name: of the stage, for the user, such as "aligning".
        done, total: completed steps, all steps.
    """

    name: str
    done: int
    total: int


class Clock:
    """Measures how long each stage takes.

    Attributes:
        timings: stage -> its seconds.
    """

    def __init__(self, timings: dict[str, float] | None = None) -> None:
        self.timings = dict(timings or {})
        self._last = time.monotonic()

    def end_stage(self, stage: str) -> None:
        """Record the time since the last stage ended; the next stage starts now."""
        now = time.monotonic()
        self.timings[stage] = round(now - self._last, 3)
        self._last = now
