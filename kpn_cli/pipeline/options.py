"""The options of denoising, as the library takes them and the command line fills them in."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from ..choices import COMPRESSIONS, DEFAULT_FORMATS, FORMATS, MAX_STRENGTH, MIN_TILE
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..noise.calibration import Calibration


@dataclass(frozen=True)
class Options:
    """How to denoise; the defaults are those of the command line.

    Attributes:
        output: folder of the outputs; created if it does not exist.
        formats: names from `choices.FORMATS`, at least one.
        reference: `auto`, `first`, an index from 0 or a file name.
        strength: factor of the noise sigma that the network assumes, from 0 to
            `choices.MAX_STRENGTH`; 0 returns the reference unchanged.
        noise: the user's noise model, or a camera's calibration by ISO; replaces the file's
            profile and the estimate. None for these.
        device, precision: one of `choices.DEVICES`, one of `choices.PRECISIONS`.
        tile: side of a tile in sensor pixels, at least `choices.MIN_TILE`; None to choose by
            the free memory.
        weights: a weight file; None for the bundled network.
        overwrite: whether to replace finished outputs; otherwise they are kept.
        compression: of the DNG's mosaic, one of `choices.COMPRESSIONS`.
        report: whether to write an HTML report (`batch/report.py`).

    Raises:
        KpnError: if a value is outside its range.
    """

    output: Path = Path("denoised")
    _: KW_ONLY
    formats: tuple[str, ...] = DEFAULT_FORMATS
    reference: str = "auto"
    strength: float = 1.0
    noise: NoiseModel | Calibration | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    weights: Path | None = None
    overwrite: bool = False
    compression: str = COMPRESSIONS[0]
    report: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise KpnError(f"--format {','.join(unknown)}: choose among {', '.join(FORMATS)}")
        if not 0 <= self.strength <= MAX_STRENGTH:
            raise KpnError(f"--strength {self.strength:g}: give a number from 0 to {MAX_STRENGTH}")
        if self.compression not in COMPRESSIONS:
            raise KpnError(
                f"--compression {self.compression}: choose among {', '.join(COMPRESSIONS)}"
            )
        if self.tile is not None and self.tile < MIN_TILE:
            raise KpnError(f"--tile {self.tile}: give at least {MIN_TILE} pixels")
