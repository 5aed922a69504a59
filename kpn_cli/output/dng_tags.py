"""The tags of a DNG that describe its mosaic: camera, colour, levels, noise, exposure.

DNG specification 1.7.1 (Adobe, 2023), chapter 4; TIFF 6.0, section 8; Exif 2.3 (CIPA DC-008),
section 4.6.5.
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
from .camera_names import unique_camera_model

if TYPE_CHECKING:
    from ..raw.info import RawInfo

#: CFAPattern's numbers (TIFF/EP) for the planes R, G1, G2, B.
_CFA_COLOUR = (0, 1, 1, 2)

#: XYZ (D65) to linear sRGB, IEC 61966-2-1: for a camera whose colour matrix is unknown.
_XYZ_TO_SRGB = (
    (3.2406, -1.5372, -0.4986),
    (-0.9689, 1.8758, 0.0415),
    (0.0557, -0.2040, 1.0570),
)

_D65 = 21  # CalibrationIlluminant1, numbered as Exif's LightSource

#: DNGVersion: NewRawImageDigest (51111) came with DNG 1.4, after all other tags that kpn writes.
VERSION = (1, 4, 0, 0)
#: DNGBackwardVersion: the oldest version whose readers show the picture correctly. Not 1.0:
#: its lossless JPEG has 16 extra bits after a difference of 2^15 (DNG 1.4, appendix A).
BACKWARD_VERSION = (1, 1, 0, 0)


@dataclass(frozen=True)
class DngTags:
    """What the tags of a DNG say about its mosaic. None leaves a tag out.

    Attributes:
        phase: CFA phase of the mosaic's first 2x2 block, one of `bayer.PHASES`.
        black: black level in DN of the planes R, G1, G2, B.
        white: saturation level in DN, the same for all planes.
        make, model: camera, as in the source's Make and Model.
        color_matrix: 3x3, XYZ (D65) to camera, row by row; None for that of linear sRGB.
        as_shot_neutral: camera RGB of a neutral surface: 1 / white balance gains. None where they
            are only an estimate from the picture: the tag is the camera's word.
        baseline_exposure: EV by which readers should change the brightness.
        noise: for samples from 0 (black) to 1 (white); G1 and G2 are averaged, as
            NoiseProfile has one pair for each colour.
        iso, exposure_time (s), f_number, focal_length (mm), captured: the exposure.
        orientation: Exif orientation, 1-8.
        software: the program that made the file.
        document: DocumentName (269; TIFF 6.0, section 12): the reference's file; "" for none.
        original_raw_file_name: name of the source file.
        unique_camera_model: None for make and model as `camera_names` spells them.
    """

    phase: str
    black: tuple[float, float, float, float]
    white: float
    _: KW_ONLY
    make: str = ""
    model: str = ""
    color_matrix: tuple[tuple[float, ...], ...] | None = None
    as_shot_neutral: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    baseline_exposure: float | None = None
    noise: NoiseModel | None = None
    iso: float | None = None
    exposure_time: float | None = None
    f_number: float | None = None
    focal_length: float | None = None
    captured: datetime | None = None
    orientation: int = 1
    software: str = f"kpn {__version__}"
    document: str = ""
    original_raw_file_name: str | None = None
    unique_camera_model: str | None = None


def tags_of(
    info: RawInfo,
    *,
    black: tuple[float, float, float, float] | float | None = None,
    white: float | None = None,
    noise: NoiseModel | None = None,
) -> DngTags:
    """Return the tags for a mosaic that replaces the raw frame `info`.

    Args:
        info: the frame.
        black: levels of the new mosaic in DN, one or four (R, G1, G2, B); None for the frame's.
        white: level of the new mosaic in DN; None for the frame's.
        noise: of the new mosaic. Not the frame's, unless the mosaic is as noisy: editors set
            their noise reduction by it.
    """
    levels = np.broadcast_to(np.asarray(info.black if black is None else black, float), 4)
    red, green1, green2, blue = levels.tolist()
    gain_r, gain_g, gain_b = info.white_balance
    return DngTags(
        phase=info.phase,
        black=(red, green1, green2, blue),
        white=info.white if white is None else float(white),
        make=info.make,
        model=info.model,
        color_matrix=info.color_matrix,
        as_shot_neutral=(1 / gain_r, 1 / gain_g, 1 / gain_b),
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
    """Return the tags for the samples of the mosaic: colour filters, levels, noise.

    They belong to the directory of the mosaic (DNG 1.4, chapter 4).
    """
    order = plane_order(tags.phase)
    result = [
        fields.integer_field(33421, 2, 2),  # CFARepeatPatternDim
        fields.byte_field(33422, bytes(_CFA_COLOUR[plane] for plane in order)),  # CFAPattern
        fields.byte_field(50710, bytes((0, 1, 2))),  # CFAPlaneColor: red, green, blue
        fields.integer_field(50711, 1),  # CFALayout: rectangular
        fields.integer_field(50713, 2, 2),  # BlackLevelRepeatDim
        _black_level([tags.black[plane] for plane in order]),
        fields.integer_field(50717, round(tags.white)),  # WhiteLevel
    ]
    if tags.noise and _is_valid(tags.noise):
        result.append(fields.double_field(51041, *_noise_profile(tags.noise)))  # NoiseProfile
    return result


def _black_level(levels: list[float]) -> fields.Field:
    """BlackLevel (50714) of the pixels of the repeated 2x2 block; SHORT if they are integers."""
    if all(float(level).is_integer() for level in levels):
        return fields.integer_field(50714, *map(int, levels))
    return fields.rational_field(50714, *levels)


def camera_tags(tags: DngTags) -> list[fields.Field]:
    """Return the tags of IFD 0 about camera, colour and file."""
    # DNG requires UniqueCameraModel and ColorMatrix1, and some editors refuse a file without
    # them. An unknown camera is named "kpn"; an unknown matrix is sRGB's, as LibRaw assumes.
    unique = tags.unique_camera_model or unique_camera_model(tags.make, tags.model) or "kpn"
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
        fields.integer_field(50778, _D65),  # CalibrationIlluminant1
    ]
    if tags.as_shot_neutral is not None:
        result.append(fields.rational_field(50728, *tags.as_shot_neutral))  # AsShotNeutral
    if tags.baseline_exposure is not None:
        exposure = fields.signed_rational_field(50730, tags.baseline_exposure)  # BaselineExposure
        result.append(exposure)
    if tags.captured:
        result.append(fields.ascii_field(306, _exif_time(tags.captured)))  # DateTime
    if tags.original_raw_file_name:
        # As BYTE, which DNG allows here for UTF-8: names are not always ASCII.
        name = tags.original_raw_file_name.encode("utf-8", "replace") + b"\0"
        result.append(fields.byte_field(50827, name))  # OriginalRawFileName
    return result


def exif_tags(tags: DngTags) -> list[fields.Field]:
    """Return the Exif directory: version, exposure and time."""
    result = [fields.undefined_field(36864, b"0230")]  # ExifVersion
    for code, value in (
        (33434, tags.exposure_time),
        (33437, tags.f_number),
        (37386, tags.focal_length),
    ):
        if value and 0 < value < np.inf:  # manual lenses report f/0, some programs zeros
            result.append(fields.rational_field(code, value))
    if tags.iso and 0 < tags.iso < 1 << 32:
        result += _iso_tags(round(tags.iso))
    if tags.captured:
        result += time_tags(tags.captured)
    return result


def time_tags(captured: datetime) -> list[fields.Field]:
    """Return the Exif tags for the time of the exposure, with its fraction unless it is 0."""
    result = [fields.ascii_field(36867, _exif_time(captured))]  # DateTimeOriginal
    if captured.microsecond:
        result.append(fields.ascii_field(37521, f"{captured:%f}"))  # SubSecTimeOriginal
    return result


def _iso_tags(iso: int) -> list[fields.Field]:
    """ISO by Exif 2.3: above 16 bits, the old tag is 65535 and ISOSpeed has the value."""
    if iso < 65535:
        return [fields.integer_field(34855, iso)]  # PhotographicSensitivity
    return [
        fields.integer_field(34855, 65535),
        fields.integer_field(34864, 3),  # SensitivityType: ISO speed
        fields.long_field(34867, iso),  # ISOSpeed
    ]


def _exif_time(time: datetime) -> str:
    return f"{time:%Y:%m:%d %H:%M:%S}"


def _is_valid(noise: NoiseModel) -> bool:
    """Whether noise can be a NoiseProfile: S above 0, O not below, both below white.

    DNG 1.7.1, tag 51041. S = 0 is noise that does not grow with the light, or a picture without
    noise; readers take either for a damaged tag.
    """
    return all(0 < shot < 1 for shot in noise.shot) and all(0 <= read < 1 for read in noise.read)


def _noise_profile(noise: NoiseModel) -> list[float]:
    """NoiseProfile: S and O of red, green and blue, in the order of CFAPlaneColor."""
    pairs = np.array([noise.shot, noise.read]).T
    return [*pairs[0], *pairs[1:3].mean(axis=0), *pairs[3]]
