"""`kpn --version` tells what a report of a bug needs, at once, whatever is missing."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import kpn

import kpn_cli
from kpn_cli.cli import version
from kpn_cli.network.weights import default_weights
from kpn_cli.system import versions

NAMES = ["kpn", "Python", "PyTorch", "devices", "OpenVINO", "weights", "weights"]


def shown() -> dict[str, str]:
    result = kpn("--version")
    assert result.exit_code == 0
    assert result.stderr == ""
    pairs = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert [name for name, _ in pairs] == NAMES[: len(pairs)]
    return dict(reversed(pairs))


def test_it_tells_kpn_python_torch_devices_openvino_and_weights_one_per_line():
    import torch

    found = shown()
    assert found["kpn"].split()[0] == kpn_cli.__version__
    assert found["Python"].split()[0] == sys.version.split()[0]
    assert found["PyTorch"].split(",")[0] == torch.__version__
    assert found["devices"].startswith("cpu (")
    digest = hashlib.sha256(default_weights().read_bytes()).hexdigest()
    assert found["weights"] == f"kpn.safetensors, SHA-256 {digest[:12]}"


def test_it_imports_none_of_the_libraries():
    script = (
        "import sys\n"
        "from kpn_cli.cli.app import main\n"
        "try: main(['--version'])\n"
        "finally: print({'torch', 'numpy', 'rawpy', 'openvino'} & set(sys.modules))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.endswith("set()\n"), run.stdout + run.stderr


def test_what_is_missing_is_told_and_no_error(monkeypatch):
    def missing(name: str) -> Path:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(versions, "installed", lambda name: None)
    monkeypatch.setattr(version, "find_spec", lambda name: None)
    monkeypatch.setattr("importlib.resources.files", missing)
    monkeypatch.setenv("PATH", "")  # no git
    found = shown()
    assert found["kpn"] == kpn_cli.__version__
    for name in ("PyTorch", "OpenVINO"):
        assert found[name].startswith("is not installed")
    assert found["weights"].startswith("are missing")


@pytest.mark.parametrize(
    ("build", "device"),
    [
        ("cuda: Optional[str] = '13.0'\n", "cuda (NVIDIA H200)"),
        ("cuda: Optional[str] = None\n", "not NVIDIA H200: this build of PyTorch is not for CUDA"),
    ],
)
def test_a_card_is_told_and_whether_pytorch_uses_it(tmp_path, monkeypatch, build, device):
    card = tmp_path / "cards" / "0000:00:05.0" / "information"
    card.parent.mkdir(parents=True)
    card.write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 34\n")
    (tmp_path / "version.py").write_text(f"__version__ = '2.11.0+x'\n{build}hip: str = None\n")

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(version, "_CARDS", tmp_path / "cards")
    monkeypatch.setattr(version, "find_spec", lambda name: Spec)
    monkeypatch.setattr(sys, "platform", "linux")
    found = shown()
    assert found["devices"].endswith(f", {device}")
    assert found["PyTorch"] == "2.11.0+x" + (", for CUDA 13.0" if "13.0" in build else "")


def test_a_clone_tells_its_commit_and_an_installed_package_does_not(tmp_path):
    assert version._commit(tmp_path) == ""
    (tmp_path / ".git").mkdir()  # no repository
    assert version._commit(tmp_path) == ""
    root = Path(kpn_cli.__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("this is no git checkout")
    assert re.fullmatch("[0-9a-f]{12,}(-dirty)?", version._commit(root))
