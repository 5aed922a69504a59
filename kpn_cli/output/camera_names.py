"""UniqueCameraModel (tag 50708) of new DNGs, in the spelling that editors know cameras by.

DNG 1.7.1, chapter 4, wants a unique name that is not localized. Editors index their camera
profiles by it, and the names of those profiles are what Adobe's DNG Converter writes: maker and
model, the maker in a spelling of its own ("Nikon D1X" where Exif says "NIKON CORPORATION" and
"NIKON D1X").

Sources of the spellings: the camera names in RawSpeed's list of cameras
(https://github.com/darktable-org/rawspeed, data/cameras.xml), which are those of DNGs by Adobe's
converter, and Pentax's own DNGs, which begin with "PENTAX". Camera Raw's file names agree
("Nikon D750 Adobe Standard.dcp").
"""

from __future__ import annotations

#: Beginning of Exif's Make or Model, in capitals -> the maker in UniqueCameraModel. The longer of
#: two beginnings comes first.
_MAKERS = {
    "CANON": "Canon",
    "CASIO": "Casio",
    "EASTMAN KODAK": "Kodak",
    "FUJIFILM": "Fujifilm",
    "HASSELBLAD": "Hasselblad",
    "KODAK": "Kodak",
    "KONICA MINOLTA": "Konica Minolta",
    "LEICA": "Leica",
    "MAMIYA": "Mamiya",
    "MINOLTA": "Minolta",
    "NIKON": "Nikon",
    "OLYMPUS": "Olympus",
    "OM DIGITAL SOLUTIONS": "OM Digital Solutions",
    "PANASONIC": "Panasonic",
    "PENTAX": "PENTAX",
    "PHASE ONE": "Phase One",
    "RICOH": "Ricoh",
    "SAMSUNG": "Samsung",
    "SEIKO EPSON": "Epson",
    "SIGMA": "Sigma",
    "SONY": "Sony",
}


def unique_camera_model(make: str, model: str) -> str:
    """Return the name of a camera, such as "Nikon D1X"; "" if nothing is known.

    A maker that the model names goes before Make: Ricoh's cameras are called "PENTAX K-S1". An
    unknown maker is spelt as in Exif, and not repeated: "Google Pixel 4", "Canikon X1".

    Args:
        make, model: Make and Model of Exif.
    """
    make, model = " ".join(make.split()), " ".join(model.split())
    if not model:
        return make
    for text in (model, make):
        start = _maker_at(text)
        if start:
            rest = model[len(start) :].strip() if _begins_with(model, start) else model
            return f"{_MAKERS[start]} {rest}".strip()
    brand = make.split(" ")[0]
    return model if _begins_with(model, brand) else f"{make} {model}".strip()


def _maker_at(text: str) -> str:
    """Return the key of `_MAKERS` that a text begins with; "" if there is none."""
    return next((start for start in _MAKERS if _begins_with(text, start)), "")


def _begins_with(text: str, start: str) -> bool:
    """Whether a text begins with these words, in capitals or not."""
    return bool(start) and f"{text} ".upper().startswith(f"{start} ".upper())
