"""Data sets of `kpn synth` that are not complete, found before a network is trained on a part."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import KpnError
from .dataset import DatasetConfig
from .not_photos import DATASET_MARK


def check_complete(paths: Sequence[Path]) -> None:
    """Check that folders that hold data sets of shards hold all of their shards.

    A run that was begun on a part could not be resumed once the rest is there.

    Args:
        paths: as for `shards.find_shards`; what is no folder of a data set passes.

    Raises:
        KpnError: if shards are missing, or the description of the data set is damaged.
    """
    for folder in paths:
        mark = folder / DATASET_MARK
        if not os.path.isfile(mark):
            continue
        config = _config(mark)
        if config.format != "shards":
            continue
        names = [config.part_path(folder, number).name for number in range(config.part_count)]
        missing = [name for name in names if not os.path.isfile(folder / name)]
        if missing:
            raise KpnError(
                f"{folder}: an unfinished data set: {len(missing)} of {len(names)} shards are "
                f"missing, such as {missing[0]}; run the same kpn synth command again to complete "
                "it, or name the tar files to use these alone"
            )


def photos_of(paths: Sequence[Path]) -> set[tuple[str, int]]:
    """Return names and bytes of the photos that the shards in `paths` were made from.

    Args:
        paths: tar files and folders; without a description beside them, they tell nothing.
    """
    photos: set[tuple[str, int]] = set()
    for folder in {path if os.path.isdir(path) else path.parent for path in paths}:
        try:
            described = json.loads((folder / DATASET_MARK).read_text(encoding="utf-8"))["photos"]
            photos |= {(str(name), int(size)) for name, size in described}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return photos


def _config(mark: Path) -> DatasetConfig:
    """Return the settings that decide which parts a data set has."""
    try:
        settings = json.loads(mark.read_text(encoding="utf-8"))
        return DatasetConfig(int(settings["count"]), format=settings["format"])
    except (OSError, ValueError, KeyError, TypeError, KpnError):
        raise KpnError(f"{mark}: damaged; make the data set again, or name its tar files") from None
