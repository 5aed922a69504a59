"""The names of outputs: a template with fields, filled in from the files of a burst.

All fields but `{reference}` are known before any file is decoded. So a burst's template is filled
in when the bursts are found, except for `{reference}`: what is left is a template too.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from string import Formatter

from ..burst.grouping import natural_order
from ..choices import DEFAULT_NAME
from ..errors import KpnError
from ..raw.info import Capture
from ..system.names import legal_part, with_dashes

#: Field -> what it is, for the user.
FIELDS = {
    "reference": "name of the reference frame",
    "first": "name of the first frame",
    "last": "name of the last frame",
    "frames": "number of frames",
    "date": "day of the first frame",
    "time": "time of the first frame",
    "camera": "its model",
    "iso": "ISO of the first frame",
    "folder": "folder of the first frame",
}
#: What stands for a fact that the files do not state.
_UNKNOWN = "unknown"

_DATE, _TIME = "%Y-%m-%d", "%H%M%S"
#: Fields whose format is one of `datetime.strftime`, and their own.
_TIMES = {"date": _DATE, "time": _TIME}
#: Fields that may be padded with zeros, as in `{frames:02}`.
_NUMBERS = {"frames", "iso"}
_PADDING = re.compile(r"0?\d?")
#: Fields that need the tags of the files.
_FROM_TAGS = {"first", "last", "camera", "iso", *_TIMES}

#: Endings that the formats add.
_ENDING = re.compile(r"(?i)\.(dng|tiff?|jpe?g)$")
#: Longest name on all usual file systems, in bytes of UTF-8.
_MAX_BYTES = 255


def check_template(template: str) -> str:
    """Return a template if it can be used.

    Raises:
        KpnError: if not; names the fields that exist.
    """
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise KpnError(
            f"{template!r}: a brace is missing; fields are {known}, and {{{{ is a brace"
        ) from None
    for literal, name, form, conversion in parts:
        if re.search(r"[/\\]", literal + (form or "")):
            raise KpnError(
                f"{template!r}: a name has no folders in it; choose the folder with --output"
            )
        if name is None:
            continue
        if name not in FIELDS or conversion:
            whole = f"{name}!{conversion}" if conversion else name
            raise KpnError(f"{template!r}: {{{whole}}} is no field; fields are {known}")
        if form and not _is_format(name, form):
            raise KpnError(
                f"{template!r}: {{{name}}} cannot be written as {form!r}; only {{date}} and "
                "{time} have formats, such as {date:%Y%m%d}, and {frames} and {iso} a width, such "
                "as {frames:02}"
            )
    if not template.strip(" ."):
        raise KpnError(f"{template!r}: the name is empty; fields are {known}")
    return template


def check_ending(template: str) -> str:
    """Return a user's template if it does not end in what the formats add.

    Templates that are filled in may: a frame may be called `a.jpg.dng`.

    Raises:
        KpnError: if it does.
    """
    ending = _ENDING.search(template)
    if ending:
        raise KpnError(
            f"{template!r}: the format adds its ending; leave {ending[0]} out, and choose formats "
            "with --format"
        )
    return template


def _is_format(name: str, form: str) -> bool:
    if name in _TIMES:
        try:
            text = datetime(2000, 1, 1).strftime(form.replace("%%", ""))
            # What the C library does not know stays as it is in some of them.
            return bool(text) and "%" not in text and "{" not in form
        except ValueError:
            return False
    return name in _NUMBERS and _PADDING.fullmatch(form) is not None


def has_reference(template: str) -> bool:
    """Whether names tell the reference."""
    return any(name == "reference" for _, name, _, _ in Formatter().parse(template))


def for_burst(template: str, files: Sequence[Path], capture: Callable[[Path], Capture]) -> str:
    """Return a template with all fields of a burst filled in, except `{reference}`.

    Args:
        template: from `check_template`.
        files: of the burst, in any order, at least one.
        capture: reads when and how a file was taken; called only if a field needs it. Files that
            it cannot read are left out.

    Returns:
        A template whose only field is `{reference}`.
    """
    parts = list(Formatter().parse(template))
    fields = {name for _, name, _, _ in parts if name}
    if fields <= {"reference"}:
        return template
    captures = []
    if fields & _FROM_TAGS:
        for path in files:
            try:
                captures.append(capture(path))
            except KpnError:  # loading the burst tells what is wrong
                continue
    facts = _facts(files, captures)
    filled = ""
    for literal, name, form, _ in parts:
        filled += _escaped(literal)
        if name == "reference":
            filled += "{reference}"
        elif name:
            filled += _escaped(_show(name, facts[name], form or ""))
    return filled if filled.strip(" .") else _UNKNOWN


def _facts(files: Sequence[Path], captures: Sequence[Capture]) -> Mapping[str, object]:
    """Return the values of the fields; None for what is unknown."""
    timed = all(each.captured for each in captures)
    ordered = sorted(
        captures,
        key=lambda each: (
            (each.captured if timed else None) or datetime.min,
            natural_order(each.path.name),
            each.path,
        ),
    )
    first = ordered[0] if ordered else None
    names = [each.path for each in ordered] or list(files)
    return {
        "first": names[0].stem,
        "last": names[-1].stem,
        "frames": len(files),
        "date": first and first.captured,
        "time": first and first.captured,
        "camera": first and first.model,
        "iso": first and first.iso and round(first.iso),
        "folder": os.path.basename(os.path.abspath(names[0].parent)),
    }


def _show(name: str, value: object, form: str) -> str:
    if value in (None, "", 0):
        return _UNKNOWN
    if isinstance(value, datetime):
        text = value.strftime(form or _TIMES[name])
    else:
        text = format(value, form)
    return with_dashes(text)


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def output_name(template: str, reference: Path, ending: str) -> str:
    """Return the name of an output.

    The default's names are as the camera named the frame; all others are legal on every usual
    system. Names that are too long are cut, and told apart by a digest.

    Args:
        template: from `for_burst`, or the default.
        reference: file of the reference frame.
        ending: what is appended, such as ".dng".
    """
    if template == DEFAULT_NAME:
        return _short(f"{reference.stem}_kpn", ending)
    stem = "".join(
        literal + (reference.stem if name else "")
        for literal, name, _, _ in Formatter().parse(template)
    )
    return _short(legal_part(stem) or _UNKNOWN, ending)


def _short(stem: str, ending: str) -> str:
    """Return a name of at most `_MAX_BYTES`."""
    if len(os.fsencode(stem + ending)) <= _MAX_BYTES:
        return stem + ending
    mark = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{ending}"
    while len(os.fsencode(stem + mark)) > _MAX_BYTES:
        stem = stem[:-1]
    return stem + mark
