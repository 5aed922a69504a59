"""The control groups of this process, which limit what containers and batch jobs may use."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def control_groups(root: Path = _ROOT) -> list[Path]:
    """Return the folders of this process's control group and its parents; [] without any.

    https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    folder = root / own.strip("/")
    return [folder, *(f for f in folder.parents if f.is_relative_to(root))]
