"""The wheel and the source distribution have all they need, and their metadata are true."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import kpn_cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(kpn_cli.__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
#: What setuptools takes without being asked, besides the packages.
TAKEN = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [name for name in listed.stdout.decode("utf-8").split("\0") if name]


def in_wheel(name: str) -> bool:
    """Whether a file of the repository is in the wheel, by `packages` and `package-data`."""
    tool = PYPROJECT["tool"]["setuptools"]
    folder, _, file = name.rpartition("/")
    package = folder.replace("/", ".")
    package = re.sub("^weights", "kpn_weights", package)
    patterns = ["*.py", *tool["package-data"].get(package, [])]
    return package in tool["packages"] and any(fnmatch(file, each) for each in patterns)


def test_the_wheel_has_every_file_of_the_packages(tracked):
    inside = [name for name in tracked if name.startswith(("kpn_cli/", "weights/"))]
    assert {name for name in inside if not in_wheel(name)} == set()
    assert {"kpn_cli/py.typed", "kpn_cli/batch/report.js", "weights/kpn.safetensors"} <= set(inside)


def test_the_source_distribution_has_every_file_of_the_repository(tracked):
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()]
    named = {name for rule, *names in lines if rule == "include" for name in names}
    folders = {name for rule, *names in lines if rule == "graft" for name in names}
    for name in tracked:
        inside = name.partition("/")[0] in folders if "/" in name else name in named | TAKEN
        assert inside or in_wheel(name), f"{name}: MANIFEST.in leaves it out"
    # Nothing else: neither a folder nor a file that the repository does not have.
    assert folders <= {name.partition("/")[0] for name in tracked}
    assert named <= set(tracked)


def test_the_classifiers_name_the_pythons_that_the_workflow_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    pythons = workflow["jobs"]["newest"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: 3."
    named = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if each.startswith(prefix)]
    assert named == pythons


def test_the_licence_is_told_as_pep_639_wants_it():
    assert PROJECT["license"] == "Apache-2.0"
    for pattern in PROJECT["license-files"]:
        assert list(ROOT.glob(pattern))
    assert not [each for each in PROJECT["classifiers"] if each.startswith("License ::")]


def test_the_version_has_one_source():
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "kpn_cli.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev0)?", kpn_cli.__version__)
