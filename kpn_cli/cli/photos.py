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
    return [scene for _, scene in load_named_photos(paths, at_least)]


def load_named_photos(paths: tuple[Path, ...], at_least: int) -> list[tuple[Path, Scene]]:
    """Return what `load_photos` does, each scene with the path of its photo."""
    from ..synthesis.photos import find_photos, load_named_scenes

    with console.bar("reading photos", len(find_photos(paths))) as move:
        return load_named_scenes(paths, at_least=at_least, on_photo=move, on_skip=console.note)
