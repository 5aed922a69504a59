"""What became of a burst, or why it could not be done; how far the work is, how long it took."""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from ..noise.selection import NoiseReport


@dataclass(frozen=True)
class Result:
    """What became of a burst.

    Attributes:
        reference: the reference frame's file.
        frames: the files used, the reference first.
        dropped: files of the burst that are not used -> why: damaged, of something else.
        outputs: format -> file.
        noise: model and source; None if skipped.
        shifts: median shift of each used frame, (row, column) in sensor pixels, as the
            sensor lies.
        orientation: Exif's, of the reference.
        agreement: of each used frame with the reference, 0 to 1.
        exposure: brightness of each used frame over the reference's, before it was matched.
        rejected: share of each used frame's tiles that show something else than the reference.
        noise_left: share of the noise variance that is left.
        fallen_back: share of the picture that is the reference's (`guard.fall_back_to_reference`).
        device: where the network ran.
        precision, precision_reason: its arithmetic, and why that one.
        seconds: from the first file to the last.
        timings: seconds by stage.
        skipped: whether all outputs were there already.
        mark: fingerprint of the outputs.
    """

    reference: Path
    frames: list[Path]
    outputs: dict[str, Path]
    _: KW_ONLY
    dropped: dict[Path, str] = field(default_factory=dict)
    noise: NoiseReport | None = None
    shifts: list[tuple[int, int]] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    fallen_back: float = 0.0
    noise_left: float | None = None
    device: str = ""
    precision: str = ""
    precision_reason: str = ""
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    orientation: int = 1
    mark: bytes = b""

    def remarks(self) -> list[tuple[str, str]]:
        """Return what the user should know: `dropped`, `note` or `warning`, and a line each."""
        lines = [("dropped", f"{path.name}: {why}") for path, why in self.dropped.items()]
        lines += [
            ("note", f"{path.name} is {exposure:.3f} times as bright; matched")
            for path, exposure in zip(self.frames, self.exposure, strict=False)
            if abs(exposure - 1) > 0.02
        ]
        if self.fallen_back > 0.02:
            lines.append(
                ("note", f"{self.fallen_back:.0%} of the picture is left to the reference")
            )
        if self.noise is not None and self.noise.warning:
            lines.append(("warning", self.noise.warning))
        return lines


@dataclass(frozen=True)
class Failure:
    """What could not be done.

    Attributes:
        files: of a burst, or a path.
        error: why, and what the user can do.
    """

    files: tuple[Path, ...]
    error: str

    def with_path(self) -> str:
        """Return the error, with the path of the file where it has but its name."""
        for path in self.files:
            if self.error.startswith(f"{path.name}: "):
                return f"{path.parent / self.error}"
        return self.error


@dataclass(frozen=True)
class Stage:
    """Progress: what is being done, and how much of it.

    Attributes:
        name: for the user, such as "aligning".
        done, total: in steps.
    """

    name: str
    done: int
    total: int


class Clock:
    """Tells how long each stage took."""

    def __init__(self, timings: dict[str, float] | None = None) -> None:
        self.timings = dict(timings or {})
        self._last = time.monotonic()

    def stop(self, stage: str) -> None:
        """End a stage; the next one begins."""
        now = time.monotonic()
        self.timings[stage] = round(now - self._last, 3)
        self._last = now
