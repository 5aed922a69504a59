"""Outputs of a plan that cannot have their names: of other bursts, or of photos of the run."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from ..errors import KpnError
from ..pipeline import outputs
from ..pipeline.names import has_reference
from ..pipeline.options import Options


class InputFolders:
    """The photos of a run by folder, none of which may be replaced."""

    def __init__(self, names: Mapping[str, Collection[str]]) -> None:
        """Take the names of the photos in each real folder."""
        self._names = names
        self._alike: dict[str, list[str]] = {}
        for folder in names:
            self._alike.setdefault(_in_small_letters(folder), []).append(folder)
        self._in = lru_cache(maxsize=8)(self._inputs)
        self._real = lru_cache(maxsize=8)(os.path.realpath)

    def check(self, folder: Path, names: Iterable[str]) -> None:
        """Check that no output would replace a photo or its sidecar.

        Args:
            folder: of the outputs.
            names: of the outputs.

        Raises:
            KpnError: if one would.
        """
        at = str(folder)
        real = self._real(at)
        here = self._in(real)
        for name in names:
            path = os.path.join(at, name)
            if _is_link(path):
                target = Path(os.path.realpath(path))
                inputs = self._in(str(target.parent))
            elif here is None:
                continue
            else:
                target, inputs = Path(real, name), here
            if inputs is not None:
                inputs.check_resolved(folder / name, target)

    def _inputs(self, folder: str) -> outputs.Inputs | None:
        """Return the photos in a real folder, whatever the case of its letters."""
        alike = self._alike.get(_in_small_letters(folder), ())
        files = frozenset(Path(place, name) for place in alike for name in self._names[place])
        return outputs.Inputs(files) if files else None


class OutputNames:
    """The names of the outputs of a plan; each belongs to one burst."""

    def __init__(self, options: Options, inputs: InputFolders) -> None:
        """Take the options, for the formats, and the photos of the run."""
        self._formats, self._default = options.formats, options.name
        self._inputs = inputs
        self._left: Counter[str] = Counter()
        self._owners: dict[str, dict[str, Path]] = {}

    def expect(self, folders: Iterable[Path]) -> None:
        """Take the folder of each burst that `clash` will be asked about.

        The names in a folder are forgotten after its last burst, as memory counts.
        """
        self._left.update(map(_key, map(str, folders)))

    def clash(self, files: Sequence[Path], folder: Path, template: str) -> str:
        """Return why the outputs of a burst cannot have their names; "" if they can.

        Outputs may be named after the reference, and any frame may become the reference.

        Args:
            files: of the burst.
            folder: of its outputs.
            template: of their names.
        """
        key = _key(str(folder))
        owners = self._owners.setdefault(key, {})
        reason = self._reason(files, folder, template or self._default, owners)
        self._left[key] -= 1
        if self._left[key] <= 0:
            del self._owners[key], self._left[key]
        return reason

    def _reason(
        self, files: Sequence[Path], folder: Path, template: str, owners: dict[str, Path]
    ) -> str:
        taken: dict[str, Path] = {}
        for path in files:
            names = outputs.output_names(path, self._formats, template).values()
            for name in names:
                other = owners.get(_key(name))
                if other is not None and path.stem != other.stem and not has_reference(template):
                    return (
                        f"{path} and {other} could both become {folder / name}; tell them apart "
                        "with --name, such as by {reference}, {time} or {first}"
                    )
                if other is not None:
                    return (
                        f"{path} and {other} could both become {folder / name}; pass the folder "
                        "above both, or each with its own -o, or tell them apart with --name"
                    )
                taken.setdefault(_key(name), path)
            try:
                self._inputs.check(folder, names)
            except KpnError as error:
                return f"{error}, or another --name"
        owners |= taken
        twins = {(path.parent, path.stem): path for path in files}
        for path in files:
            twin = twins[path.parent, path.stem]
            if twin != path:
                return f"{path} and {twin} seem to be the same photo twice; pass one of them"
        return ""


def _key(name: str) -> str:
    """Return a name or path as the file system compares it: Windows and macOS ignore its case."""
    text = os.path.normcase(name)
    if sys.platform in ("win32", "darwin"):
        return unicodedata.normalize("NFC", text).casefold()
    return text


def _is_link(path: str) -> bool:
    try:
        return os.path.islink(path)
    except ValueError:
        return False


def _in_small_letters(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
