"""How bright readers shall show a DNG, and whether its white level can be moved.

DNG 1.7.1, chapter 4: BaselineExposure (tag 50730, IFD 0) is in EV; positive values make the default
picture brighter. A camera profile's BaselineExposureOffset (51109) is added to it, so profiles stay
as they are.

Where shorter exposures know more than the reference's white, the mosaic is scaled by 1/headroom and
BaselineExposure by its inverse. Readers apply tone curves, look tables and ProfileGainTableMap
after BaselineExposure (or allow for it), so these do not change. What is a fraction of the file's
own range stays true: LinearResponseLimit (50734) is about the white of the shorter exposure now.
"""

from __future__ import annotations

import math

from ..tiff.fields import Field, Ifd, merge, signed_rational_field
from ..tiff.reader import integers, numbers
from . import dng_opcodes

_BASELINE_EXPOSURE = 50730
#: More EV than any sensor's range, so no maker means it.
_LARGEST = 16.0
_OPCODE_LISTS = {51009: "OpcodeList2", 51022: "OpcodeList3"}
_HUE_SAT_MAP_DIMS = 50937


def with_exposure(ifd: Ifd, change: float, *, required: bool) -> tuple[Ifd, tuple[str, ...]]:
    """Return a directory whose BaselineExposure is larger by `change`.

    Args:
        ifd: a directory of the source.
        change: in EV; with 0, nothing changes.
        required: whether to add the tag, whose default is 0, if it is absent.

    Returns:
        The directory; a line if its BaselineExposure is damaged or absurd and counts as 0.
    """
    found = [field for field in ifd if field.code == _BASELINE_EXPOSURE]
    if change == 0 or not (found or required):
        return ifd, ()
    exposure = _exposure(found[0]) if found else 0.0
    notes: tuple[str, ...] = ()
    if exposure is None:
        notes = ("its BaselineExposure is damaged or absurd; the DNG's starts from 0 EV",)
    # Replaced at its place; tags are sorted when they are written.
    return merge(
        ifd, [signed_rational_field(_BASELINE_EXPOSURE, (exposure or 0.0) + change)]
    ), notes


def _exposure(field: Field) -> float | None:
    values = numbers(field)
    if len(values) != 1 or not math.isfinite(values[0]) or abs(values[0]) > _LARGEST:
        return None
    return float(values[0])


def bound_to_white(main: Ifd, mosaic: Ifd) -> str | None:
    """Return the name of a tag of a DNG that holds for its present white level only.

    Opcodes of OpcodeList2 and OpcodeList3 work on values from 0 (black) to 1 (white): polynomials,
    tables and offsets are undefined above, gains are not. ProfileHueSatMapData is applied before
    BaselineExposure (DNG 1.7.1, chapter 6); with divisions of value it depends on brightness.

    Args:
        main: tags of IFD 0.
        mosaic: tags of the directory of the mosaic.

    Returns:
        The first name found; None if the mosaic may be scaled.
    """
    for field in mosaic:
        name = _OPCODE_LISTS.get(field.code)
        if name and not (isinstance(field.data, bytes) and dng_opcodes.are_scale_free(field.data)):
            return name
    if any(divisions > 1 for divisions in integers(main, _HUE_SAT_MAP_DIMS)[2:]):
        return "ProfileHueSatMapData"
    return None
