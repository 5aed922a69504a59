"""Planes -> CFA mosaic -> DNG: a raw file that photo editors open like the camera's own.

Tags and their meaning: DNG specification 1.4.0.0 (Adobe, 2012); Exif 2.3 (CIPA DC-008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import __version__, tiff
from .bayer import plane_order, unpack
from .dng_pictures import mosaic_ifd
from .errors import KpnError
from .noise import NoiseModel
from .write import atomic

if TYPE_CHECKING:
    from .raw import RawInfo

#: Levels of kpn's own 16-bit mosaics, in DN. Denoised shadows still scatter around black,
#: and clipping them there would tint them: the pedestal keeps values down to -0.067 of white,
#: which is 67 sigmas of a read noise of 0.001 of white. The steps left, 61439, are finer
#: than 14 bits'.
OUTPUT_BLACK = 4096
OUTPUT_WHITE = 65535

#: CFAPattern's numbers for the planes R, G1, G2, B.
_CFA_COLOUR = (0, 1, 1, 2)

#: XYZ (D65) to linear sRGB, IEC 61966-2-1: the camera "is" sRGB when nobody knows better.
_XYZ_TO_SRGB = (
    (3.2406, -1.5372, -0.4986),
    (-0.9689, 1.8758, 0.0415),
    (0.0557, -0.2040, 1.0570),
)

_D65 = 21  # CalibrationIlluminant1, numbered as Exif's LightSource

#: NoiseProfile came with DNG 1.3, the newest of the tags that every DNG of ours has.
VERSION = (1, 3, 0, 0)
#: The oldest reader that gets the picture right; what came later, it may ignore. In version
#: 1.0, lossless JPEG wrote 16 needless bits with a difference of 2^15.
BACKWARD_VERSION = (1, 1, 0, 0)


@dataclass(frozen=True)
class DngTags:
    """What a DNG says about its mosaic. None leaves a tag out.

    Attributes:
        phase: CFA phase of the mosaic's first 2x2 block, one of `bayer.PHASES`.
        black: black level in DN of the planes R, G1, G2, B.
        white: saturation level in DN, the same for all planes.
        make, model: camera, as in the source's Make and Model.
        color_matrix: XYZ (D65) to camera, row by row; None for a camera like sRGB.
        as_shot_neutral: camera RGB of a neutral surface: 1 / white balance gains.
        noise: in units of `white - black`; G1 and G2 are averaged (one pair per colour).
        iso, exposure_time (s), f_number, focal_length (mm), captured: the exposure.
        orientation: Exif orientation, 1-8.
        software: what made the file.
        original_raw_file_name: name of the file it came from.
        unique_camera_model: None for make and model together.
    """

    phase: str
    black: tuple[float, float, float, float]
    white: float
    _: KW_ONLY
    make: str = ""
    model: str = ""
    color_matrix: tuple[tuple[float, ...], ...] | None = None
    as_shot_neutral: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: NoiseModel | None = None
    iso: float | None = None
    exposure_time: float | None = None
    f_number: float | None = None
    focal_length: float | None = None
    captured: datetime | None = None
    orientation: int = 1
    software: str = f"kpn {__version__}"
    original_raw_file_name: str | None = None
    unique_camera_model: str | None = None


def encode_planes(
    planes: np.ndarray, phase: str, height: int, width: int
) -> tuple[np.ndarray, int, int]:
    """Return the 16-bit mosaic of clean planes, with its black and white levels.

    Args:
        planes: `(4, cell_rows, cell_columns)` float, R, G1, G2, B; 0 is black, 1 is white.
        phase: CFA phase of the mosaic, one of `bayer.PHASES`.
        height, width: size of the mosaic in pixels, odd or even.

    Returns:
        `(height, width)` uint16, rounded to nearest and clipped at white, `OUTPUT_BLACK`
        and `OUTPUT_WHITE`; reading them back gives the planes within half a step.
    """
    mosaic = unpack(planes, phase, height, width) * np.float32(OUTPUT_WHITE - OUTPUT_BLACK)
    mosaic += np.float32(OUTPUT_BLACK)
    np.clip(np.rint(mosaic, out=mosaic), 0, OUTPUT_WHITE, out=mosaic)
    return mosaic.astype(np.uint16), OUTPUT_BLACK, OUTPUT_WHITE


def tags_of(
    info: RawInfo,
    *,
    black: tuple[float, float, float, float] | float | None = None,
    white: float | None = None,
    noise: NoiseModel | None = None,
) -> DngTags:
    """Return the tags for a mosaic that takes the place of the raw frame `info`.

    Args:
        info: the frame.
        black: levels of the new mosaic in DN, one or four (R, G1, G2, B); None for the frame's.
        white: level of the new mosaic in DN; None for the frame's.
        noise: what is left in the new mosaic. Never the frame's own unless it is as noisy:
            editors choose their noise reduction by it.
    """
    levels = info.black if black is None else np.broadcast_to(black, 4)
    return DngTags(
        phase=info.phase,
        black=tuple(float(level) for level in levels),
        white=info.white if white is None else float(white),
        make=info.make,
        model=info.model,
        color_matrix=info.color_matrix,
        as_shot_neutral=tuple(1 / gain for gain in info.white_balance),
        noise=noise,
        iso=info.iso,
        exposure_time=info.exposure_time,
        f_number=info.f_number,
        focal_length=info.focal_length,
        captured=info.captured,
        orientation=info.orientation,
        original_raw_file_name=Path(info.path).name,
    )


def write_cfa_dng(path: Path | str, mosaic: np.ndarray, tags: DngTags) -> None:
    """Write a Bayer mosaic as an uncompressed DNG. The same input gives the same bytes.

    The mosaic is in IFD 0 itself: there is no preview that could disagree with it.

    Args:
        path: the file to create or replace, atomically.
        mosaic: `(height, width)` uint16, in DN, at least 2x2; odd sizes are fine.
        tags: what it means.

    Raises:
        KpnError: if the mosaic or the levels cannot be a DNG, or the disk refuses the file.
    """
    check_mosaic(path, mosaic, tags)
    exif = tiff.ifd_tag(34665, exif_tags(tags))
    picture = mosaic_ifd(mosaic, "none")
    write_tree(path, [tiff.merge(picture, cfa_tags(tags), camera_tags(tags), (exif,))])


def write_tree(
    path: Path | str, ifds: Sequence[tiff.Ifd], order: str = "<", *, replace: bool = True
) -> None:
    """Write a TIFF tree to a file, atomically; see `write.atomic` for `replace`.

    Raises:
        KpnError: if the disk refuses the file, or it would exceed 4 GB.
    """
    with atomic(path, replace=replace) as temporary, temporary.open("wb") as stream:
        tiff.write(stream, ifds, order)


def check_mosaic(path: Path | str, mosaic: np.ndarray, tags: DngTags) -> None:
    """Refuse what can't be written.

    Raises:
        KpnError: for a mosaic of another kind, or levels outside of 16 bits.
    """
    if mosaic.dtype != np.uint16 or mosaic.ndim != 2 or min(mosaic.shape) < 2:
        raise KpnError(
            f"{path}: a mosaic is (height, width) uint16 of at least 2x2, "
            f"not {mosaic.shape} {mosaic.dtype}"
        )
    if not 0 <= min(tags.black) <= max(tags.black) < tags.white <= 65535:
        raise KpnError(
            f"{path}: black levels {tags.black} and white level {tags.white} do not fit: "
            "0 <= black < white <= 65535"
        )


def cfa_tags(tags: DngTags) -> list[tiff.Tag]:
    """Return what the numbers of the mosaic mean: filters, levels, noise."""
    order = plane_order(tags.phase)
    black = [tags.black[plane] for plane in order]
    black_tag = tiff.rational_tag
    if all(float(level).is_integer() for level in black):
        black, black_tag = [int(level) for level in black], tiff.integer_tag
    result = [
        tiff.integer_tag(33421, 2, 2),  # CFARepeatPatternDim
        tiff.byte_tag(33422, bytes(_CFA_COLOUR[plane] for plane in order)),  # CFAPattern
        tiff.byte_tag(50710, bytes((0, 1, 2))),  # CFAPlaneColor: red, green, blue
        tiff.integer_tag(50711, 1),  # CFALayout: rectangular
        tiff.integer_tag(50713, 2, 2),  # BlackLevelRepeatDim
        black_tag(50714, *black),  # BlackLevel
        tiff.integer_tag(50717, round(tags.white)),  # WhiteLevel
    ]
    if tags.noise:
        result.append(tiff.double_tag(51041, *_noise_profile(tags.noise)))  # NoiseProfile
    return result


def camera_tags(tags: DngTags) -> list[tiff.Tag]:
    """Return what IFD 0 says of camera, colour and file."""
    # DNG demands both, and some editors refuse a file without: a camera without a name
    # gets ours, one without a matrix sRGB's, which is also what LibRaw assumes.
    unique = tags.unique_camera_model or _full_name(tags.make, tags.model) or "kpn"
    matrix = np.asarray(_XYZ_TO_SRGB if tags.color_matrix is None else tags.color_matrix, float)
    result = [
        tiff.ascii_tag(271, tags.make),
        tiff.ascii_tag(272, tags.model),
        tiff.integer_tag(274, tags.orientation),
        tiff.ascii_tag(305, tags.software),
        tiff.byte_tag(50706, bytes(VERSION)),  # DNGVersion
        tiff.byte_tag(50707, bytes(BACKWARD_VERSION)),  # DNGBackwardVersion
        tiff.ascii_tag(50708, unique),  # UniqueCameraModel
        tiff.signed_rational_tag(50721, *matrix.ravel()),  # ColorMatrix1
        tiff.rational_tag(50728, *tags.as_shot_neutral),  # AsShotNeutral
        tiff.integer_tag(50778, _D65),  # CalibrationIlluminant1
    ]
    if tags.captured:
        result.append(tiff.ascii_tag(306, _exif_time(tags.captured)))  # DateTime
    if tags.original_raw_file_name:
        # BYTE holds UTF-8, as DNG allows here; names are not always ASCII.
        name = tags.original_raw_file_name.encode("utf-8", "replace") + b"\0"
        result.append(tiff.byte_tag(50827, name))  # OriginalRawFileName
    return result


def _full_name(make: str, model: str) -> str:
    """Make and model, without the make twice: "Canon EOS 6D", "Raspberry Pi imx296"."""
    brand = make.split()[:1]
    if brand and model.lower().startswith(brand[0].lower()):
        return model
    return f"{make} {model}".strip()


def exif_tags(tags: DngTags) -> list[tiff.Tag]:
    """Return the Exif directory: the exposure."""
    result = [tiff.undefined_tag(36864, b"0230")]  # ExifVersion
    for code, value in (
        (33434, tags.exposure_time),
        (33437, tags.f_number),
        (37386, tags.focal_length),
    ):
        if value and 0 < value < np.inf:  # manual lenses have f/0, as have careless writers
            result.append(tiff.rational_tag(code, value))
    if tags.iso and 0 < tags.iso < 1 << 32:
        result += _iso_tags(round(tags.iso))
    if tags.captured:
        result += time_tags(tags.captured)
    return result


def time_tags(captured: datetime) -> list[tiff.Tag]:
    """Return what Exif says of the time of the exposure; of its fraction, if there is one."""
    result = [tiff.ascii_tag(36867, _exif_time(captured))]  # DateTimeOriginal
    if captured.microsecond:
        result.append(tiff.ascii_tag(37521, f"{captured:%f}"))  # SubSecTimeOriginal
    return result


def _iso_tags(iso: int) -> list[tiff.Tag]:
    """Exif 2.3: the old tag has 16 bits; above them it says 65535 and a new one the value."""
    if iso < 65535:
        return [tiff.integer_tag(34855, iso)]
    return [
        tiff.integer_tag(34855, 65535),
        tiff.integer_tag(34864, 3),  # SensitivityType: ISO speed
        tiff.long_tag(34867, iso),
    ]


def _exif_time(time: datetime) -> str:
    return f"{time:%Y:%m:%d %H:%M:%S}"


def _noise_profile(noise: NoiseModel) -> list[float]:
    """(S, O) of red, green, blue, the planes of CFAPlaneColor."""
    pairs = np.array([noise.shot, noise.read]).T
    return [*pairs[0], *pairs[1:3].mean(axis=0), *pairs[3]]
