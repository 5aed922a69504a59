"""Files that are no photos, though they look like it: parts of data sets, raw files, leftovers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..burst.files import RAW_SUFFIXES
from ..errors import KpnError

#: File that marks a data set of `kpn synth`, whose pictures are no photos.
DATASET_MARK = "dataset.json"
#: Ground truth of a burst of `kpn synth`, a mosaic, and its description beside it.
TRUTH, TRUTH_DESCRIPTION = "truth.tif", "truth.json"
#: Begin the names of temporary files of kpn, and of what macOS keeps beside files on cards.
_LEFTOVERS = (".kpn-", "._")
#: Files that are looked at to tell what a folder without photos holds.
_LOOKED_AT = 10_000


def is_leftover(path: Path) -> bool:
    """Whether a file is a temporary one of kpn, or macOS's beside a photo; it may be cut off."""
    return path.name.startswith(_LEFTOVERS)


def is_truth(path: Path) -> bool:
    """Whether a file is the ground truth of a burst of `kpn synth`, with or without its set."""
    return path.name == TRUTH and path.with_name(TRUTH_DESCRIPTION).exists()


def check_named(path: Path) -> None:
    """Check that a file that a user gives as a photo is not of another kind.

    Raises:
        KpnError: if it is a raw file, a shard or the truth of a burst.
    """
    what = ""
    if is_truth(path):
        what = "the ground truth of a burst of kpn synth, a mosaic"
    elif path.suffix.lower() in RAW_SUFFIXES:
        what = "a raw file"
    elif path.suffix.lower() == ".tar":
        what = "a tar file"
    if what:
        raise KpnError(f"{path}: {what}, not a photo; give JPEG, PNG or TIFF files")


def what_else(paths: Sequence[Path]) -> str:
    """Return a phrase on what folders hold in place of photos; "" if nothing is known of it."""
    kinds: Counter[str] = Counter()
    folders: dict[str, Path] = {}
    for path in islice(_files_below(paths), _LOOKED_AT):
        suffix = path.suffix.lower()
        kind = "raw" if suffix in RAW_SUFFIXES else "tar" if suffix == ".tar" else ""
        if path.name == DATASET_MARK:
            kind = "set"
        if kind and not is_leftover(path):
            kinds[kind] += 1
            folders.setdefault(kind, path.parent)
    if kinds["tar"]:
        return f"{folders['tar']} holds tar files: name that folder to train on them"
    if kinds["set"]:
        return f"{folders['set']} holds a data set of kpn synth, whose bursts are no photos"
    if kinds["raw"]:
        return "there are raw files, but bursts are made from ordinary photos"
    return ""


def _files_below(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from path.rglob("*")
