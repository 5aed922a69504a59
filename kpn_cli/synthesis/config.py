"""What training bursts are like: the chances and ranges that motion and sensor draw from."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import KpnError
from .photos import PIXELS_PER_CELL


@dataclass(frozen=True)
class SynthConfig:
    """What training bursts are like. Shifts are in cells, chances from 0 to 1.

    The frames are those the network meets behind the aligner: residuals within
    half a cell, now and then a cell more, a failure or an object of its own mind.

    Attributes:
        cells: side of a patch.
        frames: the most frames of a burst.
        full: chance that a batch has all frames; else 1 to frames - 1 of them.
        static: chance of a tripod: all frames exactly aligned.
        partly: chance that each frame is exactly aligned, unturned too, with chance 1/2.
        rough: chance that residuals are within 1.5 cells instead of 0.5.
        turning: chance of rotation, up to half a degree about a far point.
        off_by_one, failed: chance, for each frame, of a shift of one cell more, or
            of up to `failure` cells.
        torn: chance, for each frame, that a part of it is such a failure: alignment
            goes wrong tile by tile.
        softer: chance of a photo enlarged by up to 1/0.6, soft as pixels of real raws are.
        moving: chance of an object that moves by itself.
        parallax: chance of a near layer that shifts against the far one; not on a tripod.
        mixed: chance of a camera whose primaries are not the photo's.
        shot_range: log10 of the range of S: from cameras at base ISO to a little above
            the protocol's gain 8.
        noise_levels: pairs (S, O) of one camera, to train for it alone: S is drawn between the
            lowest and the highest, O lies on the line through them; () for all cameras.
        noisy, noisy_from: chance that S is drawn from the upper part of the range only,
            above this log10: there the network has most to learn.
        clipped, quantised: chance that frames are clipped at white, or quantised
            to 10-14 bits.
        row_noise: chance of an offset of each row.
        defects: chance of a few hot and dead samples, those that the repair has missed.
        bracket: chance that frames differ in exposure, by factors of up to 16 either way.
        uneven: chance that they differ by a few per cent.
        misjudged: chance that the network is told another sigma than the true one, up to
            `MISJUDGED` times off either way; see `strength_target`.
    """

    cells: int = 64
    frames: int = 8
    full: float = 0.75
    static: float = 0.15
    partly: float = 0.15
    rough: float = 0.1
    turning: float = 0.25
    off_by_one: float = 0.06
    failed: float = 0.04
    failure: float = 12.0
    torn: float = 0.03
    softer: float = 0.25
    moving: float = 0.12
    parallax: float = 0.06
    mixed: float = 0.3
    shot_range: tuple[float, float] = (-6.0, -1.3)
    noise_levels: tuple[tuple[float, float], ...] = ()
    noisy: float = 0.5
    noisy_from: float = -2.6
    clipped: float = 0.3
    quantised: float = 0.3
    row_noise: float = 0.05
    defects: float = 0.25
    bracket: float = 0.15
    uneven: float = 0.1
    misjudged: float = 0.2

    def __post_init__(self) -> None:
        if self.cells < 2 or self.frames < 1:
            raise KpnError(f"synthesis: needs at least 2 cells and 1 frame, not {self}")

    @property
    def photo_pixels(self) -> int:
        """Smallest side of a photo that patches can be cut from."""
        return PIXELS_PER_CELL * (self.cells + 4)
