"""The facts about a raw file: `RawInfo` after decoding, `Capture` before, for grouping."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..image.noise_model import NoiseModel

#: 3x3, row by row.
Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class RawInfo:
    """Everything about a raw file except its pixels.

    Attributes:
        path: the file.
        make, model: of the camera; "" when unknown.
        phase: CFA phase at the origin of the visible area, one of `bayer.PHASES`.
        height, width: of the visible mosaic, in sensor pixels.
        black: black levels of the planes R, G1, G2, B, in DN; fractional in some DNGs. Where the
            level differs between rows or columns, the highest, to which samples are raised.
        white: the level that becomes 1, in DN: a DNG's WhiteLevel, else LibRaw's `maximum`.
        iso: sensitivity; None when absent or 0.
        exposure_time: seconds; None when absent or 0.
        f_number: None when absent or 0.
        focal_length: millimetres; None when absent or 0.
        captured: local time of the exposure with its fraction of a second, no zone.
        orientation: Exif orientation, 1 to 8.
        white_balance: gains R, G, B with G == 1: as shot, else daylight's, else an estimate.
        color_matrix: XYZ (D65 where the file has it) -> camera, 3x3; None when unknown.
        noise_profile: the DNG's NoiseProfile (tag 51041); None when absent or invalid.
        iso_source: the tag that `iso` is from: its name in Exif 2.32, or "MakerNote ..." as
            exifread names it; "LibRaw" where only LibRaw knows it; "" when unknown.
        gain: GainControl in words, such as "high gain up"; "" when unknown.
        drive_mode: "single", "continuous", "bracketing" or "continuous or bracketing"; "" when
            unknown.
        lens: its name, or focal lengths and apertures; "" when unknown. Gain, drive mode and lens
            are known after `camera_notes.with_camera_notes` only.
        origin: row and column of the visible area in the whole frame, sensor pixels.
        saturation: DN from which on samples are clipped, where the picture shows that this is not
            `white` (`saturation.saturation`); None where it is.
        balance_is_estimated: whether `white_balance` is from the picture: the file states none.
        crop: top, left, height and width of the picture that the camera means, in pixels of the
            visible area; None where unknown, and in a DNG, which has tags for it.
        pixel_aspect: width of a pixel over its height; 1 in a DNG, which has a tag for it.
        marked: rows and columns of the pixels that the file marks as defective, in the visible
            mosaic (`marked_pixels`).
        ignored_marks: which opcodes of OpcodeList1, from 0, mark others (`marked_pixels.Marks`).
        notes: what is odd in the file and how it was treated, a line for the user each.
        images: raw images of the file that are frames of one burst; 1 for nearly all files.
        image: number of this image among them, from 0; 0 for nearly all files.
        shot: LibRaw's number of this image, which also counts images that are no frames.
    """

    path: Path
    make: str
    model: str
    phase: str
    height: int
    width: int
    black: tuple[float, float, float, float]
    white: float
    iso: float | None
    exposure_time: float | None
    f_number: float | None
    focal_length: float | None
    captured: datetime | None
    orientation: int
    white_balance: tuple[float, float, float]
    color_matrix: Matrix | None
    noise_profile: NoiseModel | None
    iso_source: str = ""
    gain: str = ""
    drive_mode: str = ""
    lens: str = ""
    origin: tuple[int, int] = (0, 0)
    saturation: float | None = None
    balance_is_estimated: bool = False
    crop: tuple[int, int, int, int] | None = None
    pixel_aspect: float = 1.0
    marked: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    ignored_marks: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    images: int = 1
    image: int = 0
    shot: int = 0

    @property
    def frame(self) -> Path:
        """The path that names the frame to users: of the file, with `#1` for its second image."""
        return frame_path(self.path, self.image) if self.images > 1 else self.path

    @property
    def clipped_from(self) -> float:
        """From which level on a colour is clipped, in DN: `saturation`, or else `white`."""
        return self.white if self.saturation is None else self.saturation

    @property
    def clipped_share(self) -> float:
        """Where `clipped_from` lies: 0 is the highest black level, 1 is white."""
        black = max(self.black)
        return (self.clipped_from - black) / (self.white - black)

    @property
    def highest(self) -> float:
        """The highest level that a sample can be believed to have, in DN."""
        return max(self.white, self.clipped_from)


def frame_path(path: Path, image: int) -> Path:
    """Return the path that names an image of a file with several of them to users."""
    return path.with_name(f"{path.name}#{image}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """The facts about a raw file that are known without decoding it; bursts are found by them.

    Attributes:
        path, make, model, height, width, iso, exposure_time, f_number, captured: as in
            `RawInfo`; where LibRaw rounds, the size can be a line larger.
        serial: of the camera body; "" when unknown.
        burst_id: the burst's name, the same in all of its frames; "" when unknown.
        number: of the frame in its burst, from 1; None when unknown.
        bracketed: whether the camera was in auto-bracketing mode.
        by_kpn: whether it is an output of kpn, and no photo; then all else is unknown.
    """

    path: Path
    make: str
    model: str
    serial: str
    height: int
    width: int
    iso: float | None
    exposure_time: float | None
    f_number: float | None
    captured: datetime | None
    burst_id: str = ""
    number: int | None = None
    bracketed: bool = False
    by_kpn: bool = False
