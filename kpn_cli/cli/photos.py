"""Load the photos that `kpn train` and `kpn eval` are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import console


def load_photos(paths: tuple[Path, ...], at_least: int) -> list[Any]:
    """Load photos, with a progress bar; small or broken ones are skipped with a note."""
    from ..synthesis.photos import find_photos, load_scenes

    with console.bar("photos", len(find_photos(paths))) as move:
        return load_scenes(paths, at_least=at_least, on_photo=move, on_skip=console.note)
