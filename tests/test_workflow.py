"""The hosted workflow covers what pyproject.toml promises, with the commands of the Makefile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import kpn_cli
from kpn_cli.system.names import problem_on_windows

ROOT = Path(kpn_cli.__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
LOWEST_PYTHON = re.search(r'requires-python = ">=([\d.]+)"', PYPROJECT)[1]


@pytest.fixture(scope="module")
def workflow() -> dict:
    path = ROOT / ".github" / "workflows" / "tests.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands_of(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_it_covers_every_system_and_python(workflow):
    matrix = workflow["jobs"]["newest"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert matrix["python"][0] == LOWEST_PYTHON
    excluded = {(each["os"], each["python"]) for each in matrix["exclude"]}
    ends = {(name, matrix["python"][n]) for name in matrix["os"] for n in (0, -1)}
    assert not excluded & ends
    assert "ubuntu-latest" not in {name for name, _ in excluded}


def test_it_runs_the_commands_that_the_readme_names(workflow):
    assert commands_of(workflow["jobs"]["tested"]) == ["make demo", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    options = re.search(r"pytest (-n auto .*)", makefile)[1]
    assert f"python -m pytest {options}" in commands_of(workflow["jobs"]["newest"])


def test_the_lowest_dependencies_run_on_the_lowest_python(workflow):
    job = workflow["jobs"]["lowest"]
    pythons = [
        step["with"]["python-version"]
        for step in job["steps"]
        if "setup-python" in step.get("uses", "")
    ]
    assert pythons == [LOWEST_PYTHON]
    assert commands_of(job) == ["make lowest LOWEST_PYTHON=python"]
    script = (ROOT / ".ci" / "lowest").read_text(encoding="utf-8")
    assert "--resolution lowest-direct" in script
    assert "demo -o demo" in script


def test_it_may_only_read_the_repository_and_ends(workflow):
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 60
        (checkout,) = (s for s in job["steps"] if s.get("uses", "").startswith("actions/checkout"))
        assert checkout["with"]["persist-credentials"] is False


def test_every_file_of_the_repository_has_a_name_that_windows_holds():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    names = [name for name in listed.stdout.decode("utf-8").split("\0") if name]
    assert {name: problem_on_windows(name) for name in names if problem_on_windows(name)} == {}
    assert len({name.casefold() for name in names}) == len(names)
