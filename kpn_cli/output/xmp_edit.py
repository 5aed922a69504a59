"""What changes in the XMP of a denoised photo, and what a sidecar adds to it.

XMP, part 1, section 8.4 (xmp: ModifyDate, MetadataDate), part 2, section 1.2.2 (xmpMM: InstanceID);
part 1, section 8.3 (dc:format); Exif 2.32 for XMP (exif:ImageUniqueID). Settings of Camera Raw and
Lightroom: Adobe's namespace crs (https://developer.adobe.com/xmp/docs/XMPNamespaces/crs/).
darktable's are a list of modules with binary parameters (its src/common/exif.cc).
"""

from __future__ import annotations

import uuid
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree.ElementTree import Element

from . import xmp
from .xmp import BrokenXmpError, Xmp

_CRS = "http://ns.adobe.com/camera-raw-settings/1.0/"
_DARKTABLE = "http://darktable.sf.net/"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_FORMAT = "{http://purl.org/dc/elements/1.1/}format"
_MODIFIED, _METADATA_DATE = f"{_XMP}ModifyDate", f"{_XMP}MetadataDate"
_INSTANCE_ID = "{http://ns.adobe.com/xap/1.0/mm/}InstanceID"
_UNIQUE_ID = "{http://ns.adobe.com/exif/1.0/}ImageUniqueID"
_SIDECAR_FOR = "{http://ns.adobe.com/photoshop/1.0/}SidecarForExtension"

#: Prefixes for namespaces that a document may lack.
_PREFIXES = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/exif/1.0/": "exif",
}

#: Settings of an editor belong together: those of a sidecar replace all that the file has.
_SETS = (_CRS, _DARKTABLE)

#: Amounts of noise reduction in Camera Raw, of the picture and of local adjustments. At 0, their
#: companions (Detail, Contrast, Smoothness) have no effect.
_AMOUNTS = {"LuminanceSmoothing", "ColorNoiseReduction", "LocalLuminanceNoise"}
#: Beginnings of the names of Camera Raw's newer denoiser, whose settings Adobe has not published.
#: In the namespace aux, the same names tell what was done to the pixels; they stay.
_NEWER = ("EnhanceDenoise", "Denoise")

#: darktable's modules that reduce noise, and the one that holds the source's levels.
_DARKTABLE_DENOISERS = {"denoiseprofile", "nlmeans", "rawdenoise"}
_DARKTABLE_LEVELS = "rawprepare"
_OPERATION, _NUMBER, _ENABLED, _HISTORY_END, _OLD_HISTORY = (
    f"{{{_DARKTABLE}}}{name}" for name in ("operation", "num", "enabled", "history_end", "history_")
)


@dataclass(frozen=True)
class Edit:
    """How the XMP of a result differs from its source's.

    Attributes:
        denoised: whether noise was reduced: then no editor should do it again.
        modified: time of modification, with its zone; None to give none.
        identity: bytes that tell this result from others.
        unique_id: ImageUniqueID, 16 bytes; b"" for none.
    """

    denoised: bool
    modified: datetime | None
    identity: bytes
    unique_id: bytes = b""


def dng_xmp(
    embedded: bytes, sidecars: Sequence[bytes], edit: Edit
) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the XMP (tag 700) of a denoised DNG.

    The properties of sidecars go before those of the file, a later sidecar before an earlier one.
    Adobe's programs ignore a sidecar beside a DNG. A sidecar that cannot be read is skipped.

    Args:
        embedded: the packet of the source; b"" for none.
        sidecars: contents of the files beside the source.
        edit: what to change.

    Returns:
        The packet, None if there is nothing to write; a note if the source's is damaged.
    """
    document: Xmp | None = None
    notes: tuple[str, ...] = ()
    if embedded.strip(b"\0 \t\r\n"):
        try:
            document = xmp.parse(embedded)
        except BrokenXmpError as error:
            notes = (f"its XMP is left out of the result: {error}",)
    for data in sidecars:
        try:
            newer = xmp.parse(data)
        except BrokenXmpError:
            continue
        if document is None:
            document = newer
        else:
            document.update(newer, _SETS)
    if document is None:
        return None, notes
    document.remove({_SIDECAR_FOR})
    notes = (*notes, *_apply(document, edit))
    return xmp.packet(document), notes


def dng_sidecar(data: bytes, edit: Edit) -> tuple[bytes, tuple[str, ...]]:
    """Return a sidecar of the source as the sidecar of a denoised DNG, and notes about it.

    Raises:
        BrokenXmpError: if it cannot be read.
    """
    document = xmp.parse(data)
    if document.get(_SIDECAR_FOR):
        document.set(_SIDECAR_FOR, "DNG")
    notes = _apply(document, edit)
    return xmp.sidecar(document), notes


def unique_id_of(data: bytes) -> str:
    """Return the ImageUniqueID of a sidecar; "" if it has none or cannot be read."""
    try:
        return xmp.parse(data).get(_UNIQUE_ID)
    except BrokenXmpError:
        return ""


def _apply(document: Xmp, edit: Edit) -> tuple[str, ...]:
    """Edit a document; return notes."""
    document.prefixes = _PREFIXES | document.prefixes
    for name in (_MODIFIED, _METADATA_DATE):
        if edit.modified is None:
            document.remove({name})
        else:
            document.set(name, edit.modified.isoformat(timespec="seconds"))
    document.set(_INSTANCE_ID, f"xmp.iid:{_instance(edit.identity)}")
    document.set(_FORMAT, "image/dng")
    document.remove({_UNIQUE_ID})
    if edit.unique_id:
        document.set(_UNIQUE_ID, edit.unique_id.hex())
    if edit.denoised:
        for element in document.root.iter():
            _without_noise_reduction(element)
    return _with_new_levels(document)


def _instance(identity: bytes) -> uuid.UUID:
    """Return a UUID by the content, so that the same burst gives the same bytes."""
    return uuid.uuid5(uuid.NAMESPACE_OID, identity.hex())


# --- settings of editors --------------------------------------------------------------


def _without_noise_reduction(element: Element) -> None:
    """Switch off noise reduction among the attributes of an element, and in itself."""
    for name, value in element.items():
        element.set(name, _switched_off(name, value))
    if element.text and not len(element):
        element.text = _switched_off(element.tag, element.text)
    if element.get(_OPERATION) in _DARKTABLE_DENOISERS:
        element.set(_ENABLED, "0")


def _switched_off(name: str, value: str) -> str:
    """Return the value of a setting without noise reduction."""
    space, _, local = name.rpartition("}")
    if space != f"{{{_CRS}" or not (local in _AMOUNTS or local.startswith(_NEWER)):
        return value
    if value.strip().lower() == "true":
        return "False"
    try:
        return "0" if float(value) else value
    except ValueError:
        return value


def _with_new_levels(document: Xmp) -> tuple[str, ...]:
    """Remove the source's black and white level from darktable's list of modules.

    darktable writes them there at the first look at a photo, and adds those of the file where they
    are missing. The result has other levels.

    Returns:
        A note if the list has the form of darktable before 3.0 and is left out as a whole.
    """
    history = {name for name in document.names() if name.startswith(_OLD_HISTORY)}
    if f"{_OLD_HISTORY}operation" in history:
        document.remove(history)
        return ("its darktable history, of a version before 3.0, is left out of the result",)
    # Read once and written once: a hostile file has thousands of lists and descriptions.
    end = before = _integer(document.get(_HISTORY_END))
    for element in list(document.root.iter()):
        stale = [child for child in element if child.get(_OPERATION) == _DARKTABLE_LEVELS]
        if not stale:
            continue
        removed = sorted(_integer(child.get(_NUMBER)) for child in stale)
        element[:] = [child for child in element if child.get(_OPERATION) != _DARKTABLE_LEVELS]
        for child in element:
            if child.get(_NUMBER) is not None:
                child.set(_NUMBER, str(_moved_up(_integer(child.get(_NUMBER)), removed)))
        end = _moved_up(end, removed)
    if end != before:
        document.set(_HISTORY_END, str(end))
    return ()


def _moved_up(number: int, removed: Sequence[int]) -> int:
    """Return the number of a module, or of modules, without those removed (sorted) before it."""
    return number - bisect_left(removed, number)


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0
