"""After Ctrl-C, `--json` prints one document of what was done."""

from __future__ import annotations

import importlib
import json

import pytest
from cards import write_bursts, write_frame
from command_line import kpn

from kpn_cli.batch import outlook, plan
from kpn_cli.cli import documents
from kpn_cli.pipeline import denoise


@pytest.fixture
def card(tmp_path):
    write_bursts(tmp_path / "card", 3)
    (tmp_path / "card" / "bad.dng").write_bytes(b"")
    return tmp_path / "card"


def on_call(number, call):
    """Return a function that does what `call` does, but is interrupted at one of its calls."""
    calls = []

    def interrupted(*arguments, **named):
        calls.append(arguments)
        if len(calls) == number:
            raise KeyboardInterrupt
        return call(*arguments, **named)

    return interrupted


def interrupted(*command) -> dict:
    run = kpn(*command, "--json")
    assert run.exit_code == 130 and "interrupted" in run.stderr
    document = json.loads(run.stdout)
    assert document["interrupted"] is True
    return document


def test_an_interrupted_run_tells_the_finished_bursts(card, tmp_path, weights, monkeypatch):
    monkeypatch.setattr(denoise, "compute", on_call(3, denoise.compute))
    command = ["denoise", card, "-o", tmp_path / "out", "--weights", weights, "--format", "dng"]
    document = interrupted(*command)
    assert [burst["skipped"] for burst in document["bursts"]] == [False]
    assert [failed["files"] for failed in document["failed"]] == [[str(card / "bad.dng")]]
    assert document["settings"] == {}
    again = json.loads(kpn(*command, "--json").stdout)
    assert [burst["skipped"] for burst in again["bursts"]][::2] == [True, False]
    assert "interrupted" not in again


@pytest.mark.parametrize(
    ("module", "name"), [(plan, "find_folders_below"), (outlook, "look_ahead")]
)
def test_an_interrupted_dry_run_has_no_bursts(module, name, card, tmp_path, monkeypatch):
    monkeypatch.setattr(module, name, on_call(1, None))
    assert interrupted("denoise", card, "-o", tmp_path / "out", "--dry-run")["bursts"] == []


def test_a_document_that_is_being_printed_is_the_only_one(card, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "failure_json", on_call(1, documents.failure_json))
    run = kpn("denoise", card, "-o", tmp_path / "out", "--dry-run", "--json")
    assert run.exit_code == 130 and run.stdout == ""  # it was cut short


def test_interrupted_facts_are_those_of_the_files_before(tmp_path, monkeypatch):
    for number in range(3):
        write_frame(tmp_path / f"{number}.dng", 0)
    info = importlib.import_module("kpn_cli.cli.info")  # the package has a command of that name
    monkeypatch.setattr(info, "_look_at", on_call(2, info._look_at))
    (row,) = interrupted("info", tmp_path)["files"]
    assert row["file"] == str(tmp_path / "0.dng")
