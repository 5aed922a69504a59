"""The tags of a DNG that say what its mosaic means: camera, colour, levels, exposure.

Tags and their meaning: DNG specification 1.4.0.0 (Adobe, 2012); Exif 2.3 (CIPA DC-008).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..image.bayer import plane_order
from ..image.noise_model import NoiseModel
from ..tiff import fields

if TYPE_CHECKING:
    from ..raw.info import RawInfo

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


def cfa_tags(tags: DngTags) -> list[fields.Field]:
    """Return what the numbers of the mosaic mean: filters, levels, noise."""
    order = plane_order(tags.phase)
    black = [tags.black[plane] for plane in order]
    black_tag = fields.rational_field
    if all(float(level).is_integer() for level in black):
        black, black_tag = [int(level) for level in black], fields.integer_field
    result = [
        fields.integer_field(33421, 2, 2),  # CFARepeatPatternDim
        fields.byte_field(33422, bytes(_CFA_COLOUR[plane] for plane in order)),  # CFAPattern
        fields.byte_field(50710, bytes((0, 1, 2))),  # CFAPlaneColor: red, green, blue
        fields.integer_field(50711, 1),  # CFALayout: rectangular
        fields.integer_field(50713, 2, 2),  # BlackLevelRepeatDim
        black_tag(50714, *black),  # BlackLevel
        fields.integer_field(50717, round(tags.white)),  # WhiteLevel
    ]
    if tags.noise:
        result.append(fields.double_field(51041, *_noise_profile(tags.noise)))  # NoiseProfile
    return result


def camera_tags(tags: DngTags) -> list[fields.Field]:
    """Return what IFD 0 says of camera, colour and file."""
    # DNG demands both, and some editors refuse a file without: a camera without a name
    # gets ours, one without a matrix sRGB's, which is also what LibRaw assumes.
    unique = tags.unique_camera_model or _full_name(tags.make, tags.model) or "kpn"
    matrix = np.asarray(_XYZ_TO_SRGB if tags.color_matrix is None else tags.color_matrix, float)
    result = [
        fields.ascii_field(271, tags.make),
        fields.ascii_field(272, tags.model),
        fields.integer_field(274, tags.orientation),
        fields.ascii_field(305, tags.software),
        fields.byte_field(50706, bytes(VERSION)),  # DNGVersion
        fields.byte_field(50707, bytes(BACKWARD_VERSION)),  # DNGBackwardVersion
        fields.ascii_field(50708, unique),  # UniqueCameraModel
        fields.signed_rational_field(50721, *matrix.ravel()),  # ColorMatrix1
        fields.rational_field(50728, *tags.as_shot_neutral),  # AsShotNeutral
        fields.integer_field(50778, _D65),  # CalibrationIlluminant1
    ]
    if tags.captured:
        result.append(fields.ascii_field(306, _exif_time(tags.captured)))  # DateTime
    if tags.original_raw_file_name:
        # BYTE holds UTF-8, as DNG allows here; names are not always ASCII.
        name = tags.original_raw_file_name.encode("utf-8", "replace") + b"\0"
        result.append(fields.byte_field(50827, name))  # OriginalRawFileName
    return result


def _full_name(make: str, model: str) -> str:
    """Make and model, without the make twice: "Canon EOS 6D", "Raspberry Pi imx296"."""
    brand = make.split()[:1]
    if brand and model.lower().startswith(brand[0].lower()):
        return model
    return f"{make} {model}".strip()


def exif_tags(tags: DngTags) -> list[fields.Field]:
    """Return the Exif directory: the exposure."""
    result = [fields.undefined_field(36864, b"0230")]  # ExifVersion
    for code, value in (
        (33434, tags.exposure_time),
        (33437, tags.f_number),
        (37386, tags.focal_length),
    ):
        if value and 0 < value < np.inf:  # manual lenses have f/0, as have careless writers
            result.append(fields.rational_field(code, value))
    if tags.iso and 0 < tags.iso < 1 << 32:
        result += _iso_tags(round(tags.iso))
    if tags.captured:
        result += time_tags(tags.captured)
    return result


def time_tags(captured: datetime) -> list[fields.Field]:
    """Return what Exif says of the time of the exposure; of its fraction, if there is one."""
    result = [fields.ascii_field(36867, _exif_time(captured))]  # DateTimeOriginal
    if captured.microsecond:
        result.append(fields.ascii_field(37521, f"{captured:%f}"))  # SubSecTimeOriginal
    return result


def _iso_tags(iso: int) -> list[fields.Field]:
    """Exif 2.3: the old tag has 16 bits; above them it says 65535 and a new one the value."""
    if iso < 65535:
        return [fields.integer_field(34855, iso)]
    return [
        fields.integer_field(34855, 65535),
        fields.integer_field(34864, 3),  # SensitivityType: ISO speed
        fields.long_field(34867, iso),
    ]


def _exif_time(time: datetime) -> str:
    return f"{time:%Y:%m:%d %H:%M:%S}"


def _noise_profile(noise: NoiseModel) -> list[float]:
    """(S, O) of red, green, blue, the planes of CFAPlaneColor."""
    pairs = np.array([noise.shot, noise.read]).T
    return [*pairs[0], *pairs[1:3].mean(axis=0), *pairs[3]]
