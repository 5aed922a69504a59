"""Load the photos for `kpn train` and `kpn eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import console

if TYPE_CHECKING:
    from ..synthesis.photos import Scene


def load_photos(paths: tuple[Path, ...], at_least: int) -> list[Scene]:
    """Load photos as linear scenes, with a progress bar; skip unusable ones with a note.

    Args:
        paths: photos, or folders that contain them.
        at_least: smallest usable width and height, in pixels.

    Raises:
        KpnError: if no photo is left.
    """
    from ..synthesis.photos import find_photos, load_scenes

    with console.bar("reading photos", len(find_photos(paths))) as move:
        return load_scenes(paths, at_least=at_least, on_photo=move, on_skip=console.note)
