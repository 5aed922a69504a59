"""What lies beside raw photos on cards and disks: pictures, videos, sidecars, a system's files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..raw.results import is_result

#: Kind of files, singular and plural, -> suffixes. TIFFs too: the few old cameras whose raw files
#: have that suffix write files that are found by content when they are renamed to .raw.
_SUFFIXES = {
    ("JPEG", "JPEGs"): "jpg jpeg jpe jfif thm",
    ("HEIF picture", "HEIF pictures"): "heic heif hif avif",
    ("TIFF", "TIFFs"): "tif tiff",
    ("other picture", "other pictures"): "png webp gif bmp jxl jp2 exr psd psb xcf afphoto svg",
    ("video", "videos"): "mp4 mov m4v avi mts m2ts mkv mpg mpeg mxf 3gp webm lrv insv",
    ("sound", "sounds"): "wav mp3 aac m4a flac ogg",
    ("sidecar", "sidecars"): "xmp pp3 dop arp on1 cos cop cot nksc nks vrd dr4 out aae gpx",
    ("other file", "other files"): (
        "txt md log htm html json csv tsv xml pdf doc docx xls xlsx zip gz tar 7z rar ini db lnk "
        "url dat ctg inp bdm cpi mpl tbl idx bin fir lrcat lrdata cosessiondb sqlite py sh bat exe"
    ),
}
_KINDS = {f".{name}": kind for kind, names in _SUFFIXES.items() for name in names.split()}
_HIDDEN = ("hidden file", "hidden files")
_RESULT = ("result of kpn", "results of kpn")
_OTHER = ("other file", "other files")


def is_no_raw(path: Path) -> bool:
    """Whether a file's name says that it is no raw photo.

    By its suffix alone: a file with a raw suffix, an unknown one or none may be a raw photo.
    Hidden files without a raw suffix (.DS_Store), and macOS's "._" companions of any suffix, are
    none.
    """
    hidden = path.name.startswith(".") and not path.suffix
    return hidden or path.name.startswith("._") or path.suffix.lower() in _KINDS


def counted(paths: Iterable[Path]) -> str:
    """Return files by kind, for a message: "3 JPEGs, 1 video and 2 other files"; "" for none."""
    kinds = Counter(_kind(path) for path in paths)
    order = [*_SUFFIXES, _RESULT, _HIDDEN]
    texts = [f"{kinds[k]} {k[kinds[k] != 1]}" for k in sorted(kinds, key=order.index)]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def _kind(path: Path) -> tuple[str, str]:
    if path.name.startswith("."):
        return _HIDDEN
    if path.suffix.lower() == ".dng" and is_result(path):
        return _RESULT
    return _KINDS.get(path.suffix.lower(), _OTHER)
