"""Small facts that kpn keeps between runs, in the user's folder for caches.

They are a convenience: where they cannot be read or written, programs work as if there were none.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import KpnError
from .files import atomic

#: A longer file is not ours.
_MAX_BYTES = 1 << 20


def cache_folder() -> Path:
    """Return the folder: `~/.cache/kpn` on Linux, or what takes its place on other systems.

    Raises:
        KpnError: if the user has no home, as under a number without an account in a container.
    """
    from platformdirs import user_cache_path

    with suppress(RuntimeError):
        folder = user_cache_path("kpn", appauthor=False)
        if folder.is_absolute():  # older versions of platformdirs return "~/.cache"
            return folder
    raise KpnError("no folder for caches is known; set HOME or XDG_CACHE_HOME to a folder")


def load_facts(name: str) -> dict[str, Any]:
    """Return the facts that were kept under a name; none if there are none or they are damaged.

    Args:
        name: of the file, without suffix.
    """
    with suppress(OSError, ValueError, RecursionError, KpnError):
        path = cache_folder() / f"{name}.json"
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return facts if isinstance(facts, dict) else {}
    return {}


def keep_facts(name: str, facts: dict[str, Any]) -> None:
    """Keep facts under a name, instead of what was kept before.

    Args:
        name: of the file, without suffix.
        facts: what JSON can hold.
    """
    with suppress(OSError, KpnError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / f"{name}.json") as path:
            path.write_text(json.dumps(facts), encoding="utf-8")
