"""What the maker's notes and the full Exif add to a photo: ISO, gain, drive mode, lens.

The tags come from exifread (`full_exif.py`), under its names. This module knows what they mean;
it reads no files. Sources: Exif 2.32, 4.6.5; for the notes of each maker, ExifTool's tag tables
(https://exiftool.org/TagNames/), which also say how numbers are coded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from . import exif
from .exposure import show_iso
from .info import RawInfo

#: The values of the tags by exifread's names: a text, or all numbers of the tag.
Tags = Mapping[str, "str | tuple[float, ...]"]

SINGLE, CONTINUOUS, BRACKETING = "single", "continuous", "bracketing"
#: Fujifilm's tag does not tell them apart.
CONTINUOUS_OR_BRACKETING = "continuous or bracketing"


@dataclass(frozen=True, kw_only=True)
class CameraNotes:
    """What a file's full Exif and maker's notes say; "" and None where they do not.

    Attributes:
        iso: ISO 12232 sensitivity by the maker's notes, at least 1.
        iso_source: the tag that it is from, as exifread names it.
        gain: GainControl in words, such as "high gain up".
        drive_mode: "single", "continuous", "bracketing" or "continuous or bracketing".
        lens: name of the lens, or its focal lengths and apertures.
        notes: what is odd and how it was treated, a line for the user each.
        iso_notes: the same about the maker's ISO; of interest only where it is needed.
    """

    iso: float | None = None
    iso_source: str = ""
    gain: str = ""
    drive_mode: str = ""
    lens: str = ""
    notes: tuple[str, ...] = ()
    iso_notes: tuple[str, ...] = ()


def lacks_iso(info: RawInfo) -> bool:
    """Whether no standard tag states the ISO of a file, so that the maker's notes are needed.

    None does if PhotographicSensitivity overflows, that is, says 65535 or more.
    """
    overflows = info.iso == exif.ISO_OVERFLOW and info.iso_source == exif.ISO_NAME
    return info.iso is None or info.iso_source == exif.LIBRAW or overflows


def with_camera_notes(info: RawInfo, notes: CameraNotes) -> RawInfo:
    """Return the facts about a file with what its maker's notes add.

    A standard tag takes precedence over the maker's ISO. LibRaw's ISO, from the same notes, is kept
    too: it knows how each camera writes them, and does not round.

    Args:
        info: of the file.
        notes: of the same file.
    """
    told = info.notes + notes.notes
    iso, source = info.iso, info.iso_source
    if lacks_iso(info):
        told += notes.iso_notes
        if notes.iso is not None:
            iso, source, line = _chosen_iso(info, notes.iso, notes.iso_source)
            told += (line,)
    return replace(
        info,
        iso=iso,
        iso_source=source,
        gain=notes.gain,
        drive_mode=notes.drive_mode,
        lens=notes.lens,
        notes=told,
    )


def _chosen_iso(info: RawInfo, iso: float, source: str) -> tuple[float | None, str, str]:
    """Return the ISO to believe where no standard tag states it, its source, and a line."""
    if info.iso_source == exif.ISO_NAME and iso < exif.ISO_OVERFLOW:
        line = f"{source} says {show_iso(iso)}, but {exif.ISO_NAME} {info.iso:.8g} or more; ignored"
        return info.iso, info.iso_source, line
    if info.iso_source == exif.LIBRAW and info.iso:
        if abs(math.log2(iso / info.iso)) > _SAME_ISO:
            line = f"{source} says {show_iso(iso)}, but LibRaw reads {info.iso:.8g}, which is used"
            return info.iso, info.iso_source, line
        iso = info.iso
    why = "no standard tag states it"
    if info.iso_source == exif.ISO_NAME:
        why = f"{exif.ISO_NAME} says {info.iso:.8g} or more"
    return iso, source, f"{show_iso(iso)} is taken from {source}: {why}"


#: Largest difference of two readings of one ISO, in EV: notes are coded in steps of 1/12 or more.
_SAME_ISO = 0.5


def interpret(tags: Tags) -> CameraNotes:
    """Return what tags say.

    Args:
        tags: of one file, some of `NAMES`.
    """
    notes: list[str] = []
    iso_notes: list[str] = []
    iso, source = _iso(tags, iso_notes)
    return CameraNotes(
        iso=iso,
        iso_source=source,
        gain=_gain(tags, notes),
        drive_mode=_drive_mode(tags, notes),
        lens=_lens(tags, notes),
        notes=tuple(notes),
        iso_notes=tuple(iso_notes),
    )


# --- ISO ------------------------------------------------------------------------------


def _apex(value: float) -> float:
    """Return the ISO of a sensitivity in EV: 5 is ISO 100."""
    return 100 * math.pow(2, value - 5)


def _canon(value: float) -> float:
    """Return an ISO in steps of 1/32 EV; 16-bit numbers may be negative."""
    return 100 * math.pow(2, (value - 65536 if value >= 32768 else value) / 32)


@dataclass(frozen=True)
class _IsoTag:
    """A maker's tag with the ISO: which of its numbers, and the ISO of that number."""

    name: str
    index: int = 0
    decode: Callable[[float], float] = float


_AUTO_ISO = "MakerNote AutoISO"

#: The makers' tags with the ISO, the most exact first. Panasonic's are in the RW2 itself.
_ISO_TAGS = (
    _IsoTag("MakerNote ISOInfo", 0, lambda value: _apex(value / 12)),  # Nikon
    _IsoTag("MakerNote BaseISO", 0, lambda value: _canon(value) / 32),  # Canon; times AutoISO / 100
    _IsoTag("MakerNote ISO"),  # Canon, as a text
    _IsoTag("MakerNote ISOSetting", 1),  # Nikon: what was set
    _IsoTag("MakerNote ISOSpeedRequested", 1),  # Nikon
    _IsoTag("MakerNote ISOValue", 0, _apex),  # Olympus
    _IsoTag("Image Tag 0x0037"),  # Panasonic, 32 bits
    _IsoTag("Image Tag 0x0017"),  # Panasonic, 16 bits
)

#: Texts of exifread for "the standard tag says it" and for values that it does not know.
_NO_ISO_TEXTS = {"", "auto", "unknown", "n/a", "see isospeedratings tag"}


def _iso(tags: Tags, notes: list[str]) -> tuple[float | None, str]:
    """Return the first ISO that can be one, and its tag; tell which were ignored."""
    for tag in _ISO_TAGS:
        value = tags.get(tag.name, ())
        if isinstance(value, str):
            if value.strip().lower() in _NO_ISO_TEXTS:
                continue
            try:
                number = float(value)
            except ValueError:
                notes.append(f"{tag.name} {_shown(value)!r} is no number and is ignored")
                continue
        elif not value:
            continue
        elif len(value) <= tag.index:
            notes.append(f"{tag.name} has too few numbers and is ignored")
            continue
        else:
            number = value[tag.index]
        iso = _decoded(tags, tag, number)
        if number and exif.plausible_iso(iso):
            return float(round(iso)), tag.name
        notes.append(f"{tag.name} {number:g} is no ISO and is ignored")
    return None, ""


def _decoded(tags: Tags, tag: _IsoTag, number: float) -> float:
    """Return the ISO of a tag's number; nan where it is too large to compute."""
    try:
        iso = tag.decode(number)
        auto = tags.get(_AUTO_ISO)
        if tag.name == "MakerNote BaseISO" and isinstance(auto, tuple) and auto:
            iso *= _canon(auto[0]) / 100
        return iso
    except OverflowError:
        return math.nan


# --- gain -----------------------------------------------------------------------------

_GAIN = "EXIF GainControl"
#: GainControl (41991; Exif 2.32, 4.6.5).
_GAINS: Mapping[float, str] = {
    0: "none",
    1: "low gain up",
    2: "high gain up",
    3: "low gain down",
    4: "high gain down",
}


def _gain(tags: Tags, notes: list[str]) -> str:
    value = tags.get(_GAIN, ())
    if isinstance(value, str) or (value and value[0] not in _GAINS):
        shown = repr(_shown(value)) if isinstance(value, str) else f"{value[0]:g}"
        notes.append(f"GainControl {shown} is not defined and is ignored")
        return ""
    return _GAINS[value[0]] if value else ""


# --- drive mode -----------------------------------------------------------------------

#: Tag -> its value (exifread's text, or the first number) -> drive mode. Other values say nothing.
_DRIVE_MODES: Mapping[str, Mapping[float | str, str]] = {
    "EXIF ExposureMode": {2: BRACKETING},  # 41986: auto bracket
    # Canon
    "MakerNote AutoExposureBracketing": {
        text: BRACKETING for text in ("On", "On (shot 1)", "On (shot 2)", "On (shot 3)")
    },
    "MakerNote BracketMode": {text: BRACKETING for text in ("AEB", "FEB", "ISO", "WB")},
    "MakerNote ContinuousDriveMode": {"Single Or Timer": SINGLE, "Continuous": CONTINUOUS},
    # Sony
    "MakerNote ReleaseMode": {
        0: SINGLE,
        2: CONTINUOUS,
        5: BRACKETING,  # of exposure
        6: BRACKETING,  # of white balance
        8: BRACKETING,  # of dynamic range
    },
    "MakerNote SpecialMode": {0: SINGLE, 2: CONTINUOUS},  # Olympus
    "MakerNote MotorOrBracket": {0: SINGLE, 1: CONTINUOUS_OR_BRACKETING},  # Fujifilm
}
#: Nikon's ShootingMode, a set of bits: bracketing of exposure, white balance, D-Lighting.
_NIKON_MODE = "MakerNote BracketingMode"
_NIKON_CONTINUOUS, _NIKON_BRACKETING = 0x1, 0x10 | 0x40 | 0x100


def _drive_mode(tags: Tags, notes: list[str]) -> str:
    """Return the drive mode; bracketing takes precedence, since it says more."""
    found = set()
    for name, modes in _DRIVE_MODES.items():
        value = tags.get(name, ())
        key = value.strip() if isinstance(value, str) else value[0] if value else ""
        found.add(modes.get(key, ""))
    bits = tags.get(_NIKON_MODE, ())
    if isinstance(bits, str) or (bits and not (math.isfinite(bits[0]) and 0 <= bits[0] < 1 << 32)):
        notes.append(f"{_NIKON_MODE} holds no set of bits and is ignored")
    elif bits and int(bits[0]) & _NIKON_BRACKETING:
        found.add(BRACKETING)
    elif bits:
        found.add(CONTINUOUS if int(bits[0]) & _NIKON_CONTINUOUS else SINGLE)
    order = (BRACKETING, CONTINUOUS, CONTINUOUS_OR_BRACKETING, SINGLE, "")
    return next(mode for mode in order if mode in found)


# --- lens -----------------------------------------------------------------------------

#: Tags with the name of the lens: LensModel (42036), Canon's.
_LENS_NAMES = ("EXIF LensModel", "MakerNote LensModel", "MakerNote LensType")
#: Tags with least and largest focal length in millimetres, and the f-numbers there:
#: LensSpecification (42034), the DNG's LensInfo (50736), Nikon's.
_LENS_RANGES = (
    "EXIF LensSpecification",
    "Image Tag 0xC630",
    "MakerNote LensMinMaxFocalMaxAperture",
)
_LONGEST_LENS_NAME = 100
_NO_LENS_TEXTS = {"", "unknown", "n/a", "none", "no lens"}
#: Placeholders such as "----" and "0.0 mm f/0.0" have neither.
_LENS_TEXT = re.compile(r"[1-9]|[^\W\d_]{3}")


def _lens(tags: Tags, notes: list[str]) -> str:
    for name in _LENS_NAMES:
        value = tags.get(name, ())
        # Numbers under these names are codes.
        text = " ".join(value.split()) if isinstance(value, str) else ""
        if text.lower() in _NO_LENS_TEXTS or not _LENS_TEXT.search(text):
            continue
        if len(text) > _LONGEST_LENS_NAME or not text.isprintable():
            notes.append(f"{name} is no name of a lens and is ignored")
            continue
        return text
    for name in _LENS_RANGES:
        value = tags.get(name, ())
        # Zeros and 0/0 mean unknown.
        if not isinstance(value, str) and any(number > 0 for number in value):
            text = _lens_range(value)
            if text:
                return text
            notes.append(f"{name} describes no lens and is ignored")
    return ""


def _lens_range(values: tuple[float, ...]) -> str:
    """Return such as "18-70 mm f/3.5-4.5"; "" for numbers that describe no lens."""
    if len(values) != 4:
        return ""
    shortest, longest, fastest, slowest = values
    if not 0 < shortest <= longest < 1e5:
        return ""
    text = _range(shortest, longest) + " mm"
    if 0 < fastest <= slowest < 1e3:  # unknown for manual lenses
        text += " f/" + _range(fastest, slowest)
    return text


def _range(low: float, high: float) -> str:
    first, last = (f"{round(value, 1):g}" for value in (low, high))
    return first if first == last else f"{first}-{last}"


def _shown(text: str) -> str:
    return text[:40]


#: exifread's names of all tags that are used.
NAMES = frozenset(
    (
        *(tag.name for tag in _ISO_TAGS),
        _AUTO_ISO,
        _GAIN,
        *_DRIVE_MODES,
        _NIKON_MODE,
        *_LENS_NAMES,
        *_LENS_RANGES,
    )
)
