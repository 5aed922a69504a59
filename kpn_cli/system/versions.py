"""Which versions of which packages are installed, without importing them."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version

#: "rawpy>=0.27", as `pip` keeps it. https://packaging.python.org/specifications/core-metadata
_LOWER_BOUND = re.compile(r"([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?>=\s*([\d.]+)\)?$")


def installed(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed.

    Args:
        package: its name for `pip`.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def too_old() -> list[str]:
    """Return what is installed but older than kpn needs: ["rawpy 0.26.0 (needs 0.27)"].

    Only packages that kpn always needs. Missing packages are left out: importing them tells.
    """
    try:
        needed = requires("kpn") or []
    except PackageNotFoundError:  # run from its source
        return []
    found = []
    for requirement in needed:
        bound = _LOWER_BOUND.match(requirement)
        have = installed(bound[1]) if bound else None
        if bound and have and _release(have) < _release(bound[2]):
            found.append(f"{bound[1]} {have} (needs {bound[2]})")
    return found


def _release(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what follows them; 2.11.0 is 2.11."""
    numbers = [int(part) for part in re.findall(r"^[\d.]*", text)[0].split(".") if part]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
