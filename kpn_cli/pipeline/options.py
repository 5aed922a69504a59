"""How to denoise: what the command line's options become."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from ..choices import COMPRESSIONS, DEFAULT_FORMATS, FORMATS, MAX_STRENGTH, MIN_TILE
from ..errors import KpnError
from ..image.noise_model import NoiseModel
from ..noise.calibration import Calibration


@dataclass(frozen=True)
class Options:
    """How to denoise; the defaults of the command line.

    Attributes:
        output: folder of the results; made when it isn't there.
        formats: of `choices.FORMATS`.
        reference: `auto`, `first`, an index from 0 or a file name.
        strength: multiplies the sigma the network is told; 0 gives the reference itself.
        noise: the user's model, or a camera's by ISO, which overrules all others.
        device, precision: of `choices.DEVICES` and `choices.PRECISIONS`.
        tile: side of a tile in sensor pixels; None to choose by the memory there is.
        weights: a weight file; None for the network that ships.
        overwrite: replace finished outputs instead of keeping them.
        compression: of the DNG's mosaic, of `choices.COMPRESSIONS`.
        report: whether a page shows what was done (`batch/report.py`).
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
