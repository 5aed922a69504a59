"""Help texts and usage errors of all commands; the documents quote the same help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cards import write_frame
from command_line import assert_one_line, kpn

from kpn_cli import choices
from kpn_cli.batch.plan import GroupingOptions
from kpn_cli.cli import inputs, startup
from kpn_cli.cli.app import main
from kpn_cli.output import dng_images
from kpn_cli.pipeline.options import Options
from kpn_cli.synthesis import protocol
from kpn_cli.training import config as config_module

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = sorted(main.commands)


def test_help_needs_no_torch():
    script = (
        "import sys; from click.testing import CliRunner; from kpn_cli.cli.app import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'rawpy', 'cv2', 'tifffile', 'skimage'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_reading_a_burst_does_not_wait_for_torch():
    code = (
        "import sys\n"
        "import kpn_cli.batch.run, kpn_cli.pipeline.options, kpn_cli.noise.calibration\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("given", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(monkeypatch, given, used):
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    startup.wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == used


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_is_in_the_readme(command):
    result = kpn(command, "--help")
    assert result.exit_code == 0
    assert len(main.commands[command].help or "") > 20
    assert f"kpn {command}" in README


def test_using_the_network_does_not_import_the_compiler():
    """Importing it takes longer than denoising a small burst."""
    script = (
        "import sys; from kpn_cli.batch import run\n"
        "from kpn_cli.network.weights import load_weights\n"
        "load_weights(); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_defaults_of_options_are_those_of_the_library():
    """Some are written twice, so that help needs no torch."""
    defaults = {option.name: option.default for option in main.commands["denoise"].params}
    options = Options()
    for name in ("reference", "device", "precision", "jpeg_quality"):
        assert defaults[name] == getattr(options, name)
    for name in ("strength", "grain"):  # lists, of one value
        assert float(defaults[name]) == getattr(options, name)
    assert defaults["formats"] == ",".join(options.formats)
    assert defaults["gap"] == GroupingOptions().gap
    everything = ",".join(choices.FORMATS)
    assert kpn("denoise", "missing.dng", "--format", everything).exit_code == 1
    defaults = {option.name: option.default for option in main.commands["train"].params}
    defaults["rate"] = defaults.pop("lr")
    config = config_module.TrainConfig()
    names = ("patches", "batch", "rate", "schedule", "seed", "validate_every")
    assert [defaults[name] for name in names] == [getattr(config, name) for name in names]
    assert f"[default: {config.loss.anneal:g}]" in kpn("train", "--help").stdout


def test_the_library_has_what_there_is_to_choose():
    assert tuple(dng_images.COMPRESSION_CODES) == choices.COMPRESSIONS
    assert tuple(map(str, protocol.GAINS)) == choices.GAINS


@pytest.mark.parametrize(
    "arguments",
    [
        ["denoise"],
        ["denoise", "a.dng", "--format", "dng,png"],
        ["denoise", "a.dng", "--strength", "5"],
        ["denoise", "a.dng", "--noise", "1"],
        ["denoise", "a.dng", "--noise", "missing.json"],
        ["denoise", "a.dng", "--noise", "0,0"],
        ["denoise", "a.dng", "--noise", "-1,0"],
        ["denoise", "a.dng", "--tile", "1"],
        ["denoise", "a.dng", "--device", "tpu"],
        ["calibrate", "a.dng"],
        ["dissolve", "a.dng"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    assert kpn(*arguments).exit_code == 2


@pytest.mark.parametrize("command", [["demo"], ["train", "photos"], ["eval", "photos"]])
def test_an_output_folder_that_cannot_be_made_is_one_line(command, tmp_path, weights):
    import cv2
    from pictures import photo

    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), photo(1, 280, 300))
    (tmp_path / "file").write_bytes(b"")
    words = [str(tmp_path / word) if word == "photos" else word for word in command]
    more = [] if command[0] == "train" else ["--weights", weights]
    if command[0] == "eval":
        more += ["--gains", "1"]
    assert_one_line(kpn(*words, "-o", tmp_path / "file" / "out", *more), "file")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (name, option.opts[0])
        for name in COMMANDS
        for option in main.commands[name].params
        if isinstance(option.type, click.types.FloatParamType)
    ],
)
def test_nan_is_a_usage_error_of_every_option_that_takes_a_number(command, option, tmp_path):
    run = kpn(command, tmp_path, "-o", tmp_path / "out", option, "nan")
    assert run.exit_code == 2
    assert f"'{option}': 'nan' is not a number" in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_waits_for_the_import_of_torch_and_then_interrupts():
    code = (
        "import builtins, os, signal, sys, threading, time\n"
        "from kpn_cli.cli.startup import import_torch_meanwhile\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n"
        "            time.sleep(0.5); print('imported', flush=True); raise ImportError\n"
        "sys.meta_path.insert(0, Slow())\n"
        "import_torch_meanwhile()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('held', flush=True)\n"
        "try:\n"
        "    threading.Event().wait(20)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.split(), run.stderr) == (["held", "imported", "interrupted"], "")


@pytest.mark.parametrize("command", ["info", "calibrate", "denoise"])
def test_ctrl_c_is_exit_code_130_in_every_command(command, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inputs, "raws", interrupt)
    more = ["-o", tmp_path / "x.json"] if command == "calibrate" else []
    run = kpn(command, tmp_path, *more)
    assert run.exit_code == 130
    assert "interrupted" in run.stderr


def test_the_help_of_denoise_tells_the_exit_codes():
    shown = " ".join(kpn("denoise", "--help").output.split())
    for words in ("0 if every burst", "1 if a burst", "2 for wrong usage", "130 after Ctrl-C"):
        assert words in shown


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that is in use")
def test_a_current_folder_that_is_gone_is_an_error_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    write_frame(tmp_path / "a.dng", 0)
    results = [kpn("denoise", tmp_path / "a.dng", "--dry-run", *more) for more in ([], ["-v"])]
    monkeypatch.chdir(tmp_path)
    for result in results:
        assert result.exit_code == 1
        assert "the current folder is gone" in result.stderr
