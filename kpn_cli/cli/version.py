"""`kpn --version`: kpn, Python, and what decides about result and speed, one per line.

It imports none of the libraries: importing PyTorch takes a second. Their versions are those of the
installed packages, and of devices only those are told that the system names at no cost.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from .. import __version__

#: Where the driver of NVIDIA lists its cards, on Linux.
_CARDS = Path("/proc/driver/nvidia/gpus")
_COLUMN = 12
#: Digits of a digest that tell one file from another.
_SHORT = 12
_GIT_SECONDS = 5


def version_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--version` to a command."""
    return click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        allow_from_autoenv=False,
        callback=_show,
        help="Show the version of kpn, and of what it runs on, and exit.",
    )(command)


def _show(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from . import console

        console.print_text("\n".join(lines()))
        context.exit()


def full_version() -> str:
    """Return kpn's version: "0.1.0", or of a clone "0.2.0.dev0 (commit 1a2b3c4d5e6f)".

    The commit, and whether files differ from it, is for reports of bugs only: nothing in an output
    or a cache depends on it.
    """
    found = _commit(Path(__file__).parents[2])
    return f"{__version__} (commit {found})" if found else __version__


def _commit(root: Path) -> str:
    """Return the commit of a clone, with "-dirty" if files were changed; "" of anything else."""
    if not (root / ".git").exists():
        return ""
    describe = ["describe", "--always", "--dirty", "--exclude=*", f"--abbrev={_SHORT}"]
    try:
        run = subprocess.run(
            ["git", "-C", str(root), *describe],
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.decode("ascii", "replace").strip()


def lines() -> Iterator[str]:
    """Return the lines that `kpn --version` shows."""
    yield _line("kpn", full_version())
    yield _line("Python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    build = _torch_build()
    yield _line("PyTorch", _torch(build))
    yield _line("devices", _devices(build))
    yield _line("OpenVINO", _openvino())
    yield from (_line("weights", text) for text in _weights())


def _line(name: str, text: str) -> str:
    return f"{name:<{_COLUMN}}{text}"


def _torch_build() -> dict[str, str]:
    """Return what PyTorch says of its build, such as {"cuda": "13.0"}, without importing it."""
    try:
        spec = find_spec("torch")
        folders: Iterable[str] = (spec and spec.submodule_search_locations) or ()
        texts = [(Path(folder) / "version.py").read_text("utf-8") for folder in folders]
    except (OSError, ValueError, ImportError):
        return {}
    return dict(re.findall(r"^(\w+)(?:: [^=]*)? = '([^']*)'", "".join(texts), re.MULTILINE))


def _torch(build: dict[str, str]) -> str:
    from ..system.versions import installed

    version = build.get("__version__") or installed("torch")
    if version is None:
        return "is not installed; install kpn again"
    made_for = [f"{kind} {build[key]}" for key, kind in _KINDS.items() if key in build]
    return f"{version}, for {made_for[0]}" if made_for else version


#: Keys of PyTorch's build -> what it computes on.
_KINDS = {"cuda": "CUDA", "hip": "ROCm", "xpu": "XPU"}


def _devices(build: dict[str, str]) -> str:
    from ..system.threads import usable_cores

    cores = usable_cores()
    found = [f"cpu ({cores} core{'s' if cores > 1 else ''})"]
    cards = _cards()
    if "cuda" in build and cards:
        found.append(f"cuda ({', '.join(cards)})")
    elif "hip" in build or ("cuda" in build and not sys.platform.startswith("linux")):
        found.append("cuda, if there is a card")
    elif cards:
        found.append(f"not {', '.join(cards)}: this build of PyTorch is not for CUDA")
    if sys.platform == "darwin" and platform.machine() == "arm64":
        found.append("mps")
    return ", ".join(found)


def _cards() -> list[str]:
    """Return the names of NVIDIA's cards that the driver lists."""
    names = []
    try:
        for path in sorted(_CARDS.glob("*/information")):
            model = re.search(r"^Model:\s*(.+)$", path.read_text("utf-8", "replace"), re.MULTILINE)
            names.append(model[1].strip() if model else "a card of NVIDIA")
    except OSError:
        pass
    return names


def _openvino() -> str:
    from ..system.versions import installed

    return installed("openvino") or "is not installed (pip install openvino)"


def _weights() -> Iterator[str]:
    """Return a line for each network that ships with kpn: its name, and the hash of the file."""
    import hashlib
    from importlib.resources import files

    try:
        folder = files("kpn_weights")
        names = [path.name for path in folder.iterdir() if path.name.endswith(".safetensors")]
        for name in sorted(names, reverse=True):  # that of `kpn denoise` first
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            yield f"{name}, SHA-256 {digest[:_SHORT]}"
    except (OSError, ImportError):
        names = []
    if not names:
        yield "are missing; install kpn again, or give --weights"
