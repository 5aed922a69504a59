"""`--verbose` tells how a burst was denoised; a log file has it whatever the terminal shows."""

from __future__ import annotations

import errno
import json
import os
import re

import pytest
from cards import write_bracket, write_bursts, write_frame
from command_line import assert_one_line, kpn

from kpn_cli.batch import run
from kpn_cli.cli import console, journal, streams

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (DEBUG|INFO|ERROR) +(.*)")


@pytest.fixture
def card(tmp_path):
    write_bursts(tmp_path / "card", 2)
    write_bracket(tmp_path / "card", (0, -2, 2), at=100)
    (tmp_path / "card" / "IMG_0001.dng").write_bytes(b"damaged")
    return tmp_path / "card"


def lines(log) -> list[str]:
    found = [LINE.fullmatch(line) for line in log.read_text("utf-8").splitlines()]
    assert all(found)
    return [match[2] for match in found]


def test_a_log_tells_all_decisions_whatever_the_terminal_shows(card, tmp_path, weights):
    how = ["denoise", card, "--weights", weights, "--format", "dng", "--strength", 0.8]
    found = {}
    for name, more in (("plain", []), ("quiet", ["-q"]), ("json", ["--json"])):
        log, out = tmp_path / "logs" / name, tmp_path / name
        result = kpn(*how, "-o", out, "--log", log, *more)
        assert result.exit_code == 1  # one file is damaged
        text = "\n".join(lines(log)).replace(str(out), "OUT").replace(str(log), "LOG")
        text = re.sub(r"\d+\.\d+ s\b", "? s", text)
        found[name] = re.sub(r"(?m)^setting.*(quiet|json).*\n", "", text)
    assert found["plain"] == found["quiet"] == found["json"]
    for expected in (
        r"^kpn \S+ (\(commit \S+\) )?on Python \S+, torch \S+, numpy",
        r"^setting     --strength 0.8 \(command line\)$",
        r"^setting     --gap 1.0$",
        r"^burst       IMG_0010.dng, IMG_0011.dng in \S+card \(taken within",
        r"^frame       IMG_001\d.dng: shifted by \+0,\+0 pixels .* times as bright, agreement 0",
        r"^noise       S of R, G1, G2, B: \S+ \S+ \S+ \S+, typical of the ISO$",
        r"^network     \w+ on cpu \(.+\)$",
        r"^stages      read \? s, repair \? s, align \? s, .*write \? s$",
        r"^wrote       OUT/IMG_001\d_kpn.dng$",
        r"^left out    HDR_0.dng, HDR_1.dng",
        r"^kpn: .*IMG_0001.dng: ",
    ):
        assert re.search(expected, found["plain"], re.MULTILINE), expected


def test_a_log_grows_and_keeps_what_it_has(tmp_path):
    log = tmp_path / "kpn.log"
    for number in (1, 2):
        assert kpn("denoise", tmp_path / "missing", "--log", log, "-q").exit_code == 1
        errors = [line for line in lines(log) if "cannot be read" in line]
        assert len(errors) == number


def test_verbose_shows_what_the_log_has(tmp_path, weights):
    write_bursts(tmp_path / "in", 1)
    how = ["denoise", tmp_path / "in", "--weights", weights, "--format", "dng", "-o"]
    plain = kpn(*how, tmp_path / "a")
    verbose = kpn(*how, tmp_path / "b", "-v")
    assert "agreement" not in plain.stderr
    assert plain.stdout.replace("/a/", "/b/") == verbose.stdout
    for word in ("agreement", "--format dng (command line)", "O of R, G1, G2, B", "stages"):
        assert word in verbose.stderr
    assert "--gap" not in verbose.stderr
    assert kpn(*how, tmp_path / "c", "-q", "-v").stderr == ""


def test_an_unwritable_log_is_an_error_before_any_work(tmp_path, monkeypatch):
    write_frame(tmp_path / "a.dng", 0)
    (tmp_path / "notes.txt").write_text("a list of mine\n")
    before = (tmp_path / "a.dng").read_bytes()
    monkeypatch.setattr(run, "run_batch", lambda *_, **__: pytest.fail("has begun"))
    for name, word in (
        ("a.dng/log", "File exists"),
        ("a.dng", "is no log of kpn"),
        ("notes.txt", "is no log of kpn"),
    ):
        result = kpn("denoise", tmp_path / "a.dng", "--log", tmp_path / name)
        assert_one_line(result, word if name != "a.dng/log" else "cannot be written", name[:5])
    assert kpn("denoise", tmp_path / "a.dng", "--log", tmp_path).exit_code == 2
    document = json.loads(
        kpn("denoise", tmp_path / "a.dng", "--json", "--log", tmp_path / "notes.txt").stdout
    )
    assert "is no log of kpn" in document["failed"][0]["error"]
    assert (tmp_path / "a.dng").read_bytes() == before
    assert (tmp_path / "notes.txt").read_text() == "a list of mine\n"


def test_a_disk_that_fills_up_is_told_once_and_stops_nothing(tmp_path, monkeypatch, weights):
    write_frame(tmp_path / "a.dng", 0)

    def full(handler, record):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal._Handler, "format", full)
    how = ["--weights", weights, "--format", "dng", "-o", tmp_path / "out"]
    result = kpn("denoise", tmp_path / "a.dng", "--log", tmp_path / "kpn.log", "-q", *how)
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.endswith("kpn.log: the log cannot be written: No space left on device")


def test_a_bug_is_told_in_the_log_with_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "run_batch", lambda *_, **__: 1 / 0)
    result = kpn("denoise", tmp_path, "--log", tmp_path / "kpn.log")
    assert result.exit_code == 1
    text = (tmp_path / "kpn.log").read_text()
    assert "please report this" in text and "ZeroDivisionError" in text
    assert "Traceback" in text and "Traceback" not in result.stderr


def test_wrong_usage_is_no_bug_in_the_log(tmp_path):
    write_frame(tmp_path / "a.dng", 0)
    more = ["--crop", "0,0,20,20", "--report", "--log", tmp_path / "kpn.log"]
    assert kpn("denoise", tmp_path / "a.dng", *more).exit_code == 2
    text = (tmp_path / "kpn.log").read_text()
    assert "--crop and --report exclude each other" in text
    assert "Traceback" not in text and "please report this" not in text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no file that is always full")
def test_lines_that_a_full_disk_still_owes_are_no_error_at_the_end(tmp_path, capsys):
    streams.begin()
    with journal.log_to(tmp_path / "kpn.log"):
        (handler,) = (each for each in console.LOG.handlers if isinstance(each, journal._Handler))
        handler.setStream(open("/dev/full", "w")).close()  # noqa: SIM115
        console.note("a line")
    assert "the log cannot be written" in capsys.readouterr().err
