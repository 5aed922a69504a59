"""Parameters of synthetic bursts: chances and ranges that `motion` and `sensor` draw from."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import KpnError
from .photos import PIXELS_PER_CELL


@dataclass(frozen=True)
class SynthConfig:
    """Parameters of synthetic bursts. Shifts are in cells; chances are from 0 to 1.

    The frames are like those that the aligner hands to the network: residual shifts within half
    a cell, sometimes one cell more, a failed alignment or a moving object.

    Attributes:
        cells: side of a patch.
        frames: number of frames of a full burst.
        full: chance that the bursts of a batch are full; otherwise they have 1 to frames - 1.
        static: chance of a tripod: all frames exactly aligned.
        partly: chance that each frame is exactly aligned, without rotation, with chance 1/2.
        rough: chance that residual shifts are within 1.5 cells instead of 0.5.
        turning: chance of camera rotation, up to half a degree.
        off_by_one: chance, for each frame, of an alignment error of one cell.
        failed: chance, for each frame, of an alignment error of up to `failure` cells.
        failure: largest shift of a frame whose alignment failed.
        torn: chance, for each frame, that one side of it is misaligned: alignment fails tile by
            tile.
        softer: chance of a photo enlarged by up to 1/0.6, as soft as the pixels of real raws.
        moving: chance of a moving object.
        parallax: chance of a near layer that shifts against the far one; not on a tripod.
        mixed: chance of a camera with other primaries than the photo's.
        shot_range: log10 of the range of S, from base ISO to a little above the protocol's
            gain 8.
        noise_levels: pairs (S, O) of one camera, to train for this camera alone: S is drawn
            between the lowest and the highest, O interpolated in log-log; () for all cameras.
        noisy, noisy_from: chance that log10 S is drawn above `noisy_from` only, where the
            network has most to learn.
        clipped: chance that frames are clipped at white.
        quantised: chance that frames are quantised to 10-14 bits.
        row_noise: chance of a random offset for each row.
        defects: chance of a few hot and dead samples, as a repair of defects leaves them.
        bracket: chance that frames differ in exposure, by factors of up to 16 either way.
        uneven: chance that frames differ in exposure by a few per cent.
        misjudged: chance that the network assumes another sigma than the true one, up to
            four times off either way; see `strength_target`.
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
        """Smallest side of a photo to cut patches from, in photo pixels."""
        return PIXELS_PER_CELL * (self.cells + 4)
