"""Defaults come from the environment and a file, and errors name where a value is from."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import click
import pytest
from cards import write_frame
from command_line import KPN_PROGRAM, kpn

from kpn_cli.cli import settings
from kpn_cli.cli.app import main

DENOISE = ("denoise", "missing.dng", "--dry-run")


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write the file that KPN_CONFIG names."""
    monkeypatch.setenv("KPN_CONFIG", str(tmp_path / "kpn.toml"))

    def write(text: str) -> Path:
        (tmp_path / "kpn.toml").write_text(text, "utf-8")
        return tmp_path / "kpn.toml"

    return write


def used(*more: str) -> dict:
    return json.loads(kpn(*DENOISE, "--json", *more).stdout)["settings"]


def complaint(*arguments: str) -> str:
    result = kpn(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    return " ".join(result.stderr.split("Error: ")[1].split())


# --- which value wins -----------------------------------------------------------------


def test_the_command_line_comes_before_the_environment_before_the_file(config, monkeypatch):
    assert used("--config", "none") == {}
    path = config('[denoise]\nstrength = 0.5\nformat = ["dng", "jpeg"]\nno-group = true\n')
    from_file = {
        "strength": {"value": [0.5], "from": str(path)},
        "format": {"value": ["dng", "jpeg"], "from": str(path)},
        "no-group": {"value": True, "from": str(path)},
    }
    assert used() == from_file
    monkeypatch.setenv("KPN_DENOISE_STRENGTH", "0.8")
    monkeypatch.setenv("KPN_DENOISE_FORMAT", "jpeg")
    assert used() == from_file | {
        "strength": {"value": [0.8], "from": "KPN_DENOISE_STRENGTH"},
        "format": {"value": ["jpeg"], "from": "KPN_DENOISE_FORMAT"},
    }
    assert set(used("--strength", "1", "--format", "dng")) == {"no-group"}
    assert set(used("--config", "none")) == {"strength", "format"}


@pytest.mark.parametrize(
    ("text", "options", "kept"),
    [
        ("no_group = true", ["--burst-size", "4"], set()),
        ("burst_size = 4", ["--no-group"], set()),
        ("no_group = false", ["--burst-size", "4"], {"no-group"}),
    ],
)
def test_of_options_that_exclude_each_other_that_of_the_command_line_holds(
    config, text, options, kept
):
    config(f"[denoise]\n{text}\n")
    assert set(used(*options)) == kept


def test_a_report_of_the_settings_is_switched_off_by_an_option(config, tmp_path, weights):
    config("[denoise]\nreport = true\n")
    assert set(used()) == {"report"} and used("--no-report") == {}
    write_frame(tmp_path / "a.dng", 0)
    command = ["denoise", tmp_path / "a.dng", "--weights", weights, "--format", "dng", "-o"]
    assert kpn(*command, tmp_path / "with").exit_code == 0
    assert kpn(*command, tmp_path / "without", "--no-report").exit_code == 0
    assert (tmp_path / "with" / "report.html").is_file()
    assert [path.name for path in (tmp_path / "without").iterdir()] == ["a_kpn.dng"]


def test_a_variable_overrules_the_option_of_the_file_that_it_excludes(config, monkeypatch):
    path = config("[denoise]\nno_group = true\n")
    monkeypatch.setenv("KPN_DENOISE_BURST_SIZE", "4")
    assert set(used()) == {"burst-size"}
    path.write_text("[denoise]\nno_group = true\nburst_size = 4\n", "utf-8")
    monkeypatch.delenv("KPN_DENOISE_BURST_SIZE")
    assert "exclude each other" in complaint(*DENOISE)


def test_verbose_on_the_command_line_speaks_although_a_setting_says_quiet(config, tmp_path):
    config("[denoise]\nquiet = true\n")
    write_frame(tmp_path / "a.dng", 0)
    quiet = kpn("denoise", tmp_path / "a.dng", "-o", tmp_path, "--dry-run")
    assert quiet.stderr == ""
    loud = kpn("denoise", tmp_path / "a.dng", "-o", tmp_path, "--dry-run", "-v")
    assert "setting " in loud.stderr


def test_settings_change_the_picture_as_options_do(tmp_path, weights, config):
    write_frame(tmp_path / "a.dng", 0)
    how = ["--weights", weights, "--format", "dng", "-o"]
    config("[denoise]\nstrength = 0.5\n")
    for folder, more in (("file", []), ("option", ["--config", "none", "--strength", "0.5"])):
        command = ["denoise", tmp_path / "a.dng", *how, tmp_path / folder, *more]
        assert kpn(*command).exit_code == 0
    again = kpn("denoise", tmp_path / "a.dng", *how, tmp_path / "option")
    assert "outputs exist already" in again.stderr


def test_the_users_file_is_read_from_their_folder_and_no_other(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "kpn").mkdir(parents=True)
    (home / "kpn" / "config.toml").write_text("[denoise]\nname = '{first}'\n")
    for name in ("config.toml", "kpn.toml", ".kpn.toml"):
        (tmp_path / name).write_text("[denoise]\nstrength = 9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KPN_CONFIG")
    monkeypatch.setattr("platformdirs.user_config_path", lambda name, **how: home / name)
    path = str(home / "kpn" / "config.toml")
    assert used() == {"name": {"value": "{first}", "from": path}}


def test_a_variable_of_a_packager_does_not_print_the_version(monkeypatch):
    monkeypatch.setenv("KPN_VERSION", "1")
    assert kpn(*DENOISE).exit_code == 1


def test_flags_lists_and_home_folders_can_stand_in_a_file(config, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    config('\ufeff[denoise]\r\noverwrite = false\r\nburst_size = 4\r\noutput = "~/out"\r\n')
    found = {name: each["value"] for name, each in used().items()}
    assert found == {
        "overwrite": False,
        "burst-size": 4,
        "output": str(tmp_path / "out"),
    }
    config('[inspect]\nat = ["1,2", "3,4"]\n')
    assert kpn("inspect", "missing.dng").exit_code == 1


# --- errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[denoise]\nstrength = 9.5", "strength in [denoise] of {path}: 9.5 is out of range"),
        ("[denoise]\nstrength = true", "{path}: strength in [denoise]: is no such value"),
        (
            "[denoise]\nburst-size = 8.5",
            "burst-size in [denoise] of {path}: '8.5' is not a whole",
        ),
        ("[denoise]\nformat = ['png']", "format in [denoise] of {path}: "),
        ("[denoise]\nname = '{x}'", "name in [denoise] of {path}: '{{x}}': {{x}} is no field"),
        ("[denoise]\nreport = 'yes'", "{path}: report in [denoise]: is a switch"),
        ("[denoise]\nstrenght = 1", "{path}: strenght in [denoise]: kpn denoise has no such"),
        ("[denoise]\nconfig = 'x'", "{path}: config in [denoise]: kpn denoise has no such"),
        ("[train]\nstrength = 1", "{path}: strength in [train]: kpn train has no such option"),
        ("[denoize]\nstrength = 1", "{path}: [denoize]: kpn has no such command; did you mean den"),
        ("strength = 1", "{path}: strength: stands outside a table; write [denoise]"),
        ("[denoise", "{path}: is not valid TOML"),
        ("[denoise]\nstrength = " + "[" * 5000, "{path}: "),
    ],
)
def test_a_wrong_file_is_a_usage_error_that_names_file_and_key(config, text, words):
    path = config(text)
    expected = words.replace("{path}", str(path)).replace("{{", "{").replace("}}", "}")
    assert expected in complaint(*DENOISE)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"[denoise]\nname = '\xe4'\n")
    assert "latin.toml: cannot be used" in complaint(*DENOISE, "--config", tmp_path / "latin.toml")
    for name in ("missing.toml", ""):
        result = kpn(*DENOISE, "--config", tmp_path / name)
        assert result.exit_code == 1
        assert f"{tmp_path / name}: cannot be read" in result.stderr


def test_a_wrong_variable_is_a_usage_error_that_names_it(monkeypatch):
    monkeypatch.setenv("KPN_DENOISE_STRENGTH", "strong")
    assert "for KPN_DENOISE_STRENGTH: 'strong' is not a number" in complaint(*DENOISE)
    assert "--strength" not in complaint(*DENOISE)
    monkeypatch.delenv("KPN_DENOISE_STRENGTH")
    monkeypatch.setenv("KPN_DENOISE_STRENTH", "1")
    assert "KPN_DENOISE_STRENTH: kpn denoise has no such option" in complaint(*DENOISE)
    assert kpn("info", "missing.dng").exit_code == 1


def test_every_option_has_a_variable_with_its_name():
    for name, command in main.commands.items():
        context = click.Context(command, info_name=name, parent=click.Context(main))
        assert context.parent is not None
        for long, option in settings._options(command).items():
            expected = f"KPN_{name}_{long}".upper().replace("-", "_")
            automatic = f"KPN_{name}_{option.name}".upper()
            if long != "config":
                assert expected in (option.envvar, automatic)


def test_completion_survives_a_wrong_file(config):
    config("[denoise]\nstrength = 9\nx = 1")
    environment = {
        "_KPN_COMPLETE": "bash_complete",
        "COMP_WORDS": "kpn denoise --na",
        "COMP_CWORD": "2",
    }
    run = subprocess.run(
        [KPN_PROGRAM], capture_output=True, env=os.environ | environment, text=True
    )
    assert run.stdout.splitlines() == ["plain,--name"]
    assert run.stderr == ""


def test_without_a_home_there_is_no_file(monkeypatch):
    def no_home(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_config_path", no_home)
    assert used() == {}
