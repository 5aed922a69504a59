"""Lines, bars and paths on terminals and in pipes: each on its own line, whoever reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cards import write_bracket, write_bursts, write_frame
from click.testing import CliRunner
from command_line import KPN_PROGRAM
from terminals import in_a_terminal

from kpn_cli.cli.app import main

#: A command with bars, lines and paths, without the time that PyTorch takes to start.
WORK = """
import sys, time
from pathlib import Path
from kpn_cli.cli import console, streams
streams.begin()
with console.bar("working", 5) as move:
    for number in range(5):
        move()
        time.sleep(0.12)  # until the bars are drawn
        console.note(f"line {number}")
        console.print_path(Path(f"{'long/' * int(sys.argv[1])}path{number}"))
        console.print_path(Path(f"picture{number}"))
"""


def _paths(lines: list[str]) -> list[str]:
    return [line for line in lines if "path" in line or "picture" in line]


EXPECTED = [f"{name}{number}" for number in range(5) for name in ("line ", "path", "picture")]


def test_each_path_of_a_batch_is_on_a_line_of_its_own_of_the_terminal(weights, tmp_path):
    write_bursts(tmp_path / "in", 3)
    out = tmp_path / "out"
    command = [KPN_PROGRAM, "denoise", tmp_path / "in", "-o", out, "--weights", weights]
    shown = in_a_terminal([*command, "--format", "dng,jpeg"], columns=250)
    assert shown.code == 0
    written = {str(path) for path in out.iterdir()}
    assert len(written) == 6
    assert {line for line in shown.lines if str(out) in line} == written
    assert len(shown.lines) == 1 + 3 * 3 + 1  # found; a line and two paths for each burst; done


@pytest.mark.parametrize("columns", [80, 30])
def test_lines_and_paths_do_not_overwrite_each_other_and_no_bar_stays(columns):
    shown = in_a_terminal([sys.executable, "-c", WORK, 0], columns=columns)
    assert shown.lines == EXPECTED


def test_a_path_that_is_longer_than_the_terminal_is_whole():
    shown = in_a_terminal([sys.executable, "-c", WORK, 20])
    for number in range(5):
        assert "long/" * 20 + f"path{number}" in shown.joined
    assert "working" not in shown.joined


def test_bars_make_way_for_paths_that_another_program_shows_on_the_terminal(tmp_path):
    copy = tmp_path / "list.txt"
    shown = in_a_terminal(["sh", "-c", '"$0" -c "$1" 0 | tee "$2"', sys.executable, WORK, copy])
    assert shown.lines == EXPECTED
    assert copy.read_text().splitlines() == [each for each in EXPECTED if "line" not in each]


def test_a_dumb_terminal_gets_no_bars():
    shown = in_a_terminal([sys.executable, "-c", WORK, 0], TERM="dumb")
    assert shown.lines == EXPECTED
    assert "\x1b" not in shown.raw


def test_a_forced_colour_brings_no_bars_into_a_pipe(tmp_path):
    log = tmp_path / "log"
    shown = in_a_terminal(
        ["sh", "-c", '"$0" -c "$1" 0 2> "$2"', sys.executable, WORK, log], FORCE_COLOR="1"
    )
    assert shown.lines == [each for each in EXPECTED if "line" not in each]
    assert log.read_text().splitlines() == [f"line {number}" for number in range(5)]


# --- names that cannot be shown ---------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """A folder whose files have names that few encodings have."""
    folder = tmp_path_factory.mktemp("odd") / "Grüße"
    write_frame(folder / "日本.dng", 0.05)
    try:
        write_frame(folder / os.fsdecode(b"caf\xe9.dng"), 0.15)
    except OSError:
        pytest.skip("file names are UTF-8 here")
    return folder


def _try(*arguments: object, charset: str) -> tuple[int, str, str]:
    runner = CliRunner(charset=charset)
    result = runner.invoke(main, [str(each) for each in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout_bytes.decode("latin-1"), result.stderr


@pytest.mark.parametrize(("charset", "folder"), [("ascii", "Gr\\xfc\\xdfe"), ("cp1252", "Grüße")])
def test_what_the_encoding_lacks_is_escaped(charset, folder, odd, weights, tmp_path):
    out = tmp_path / "é—out"
    command = ["denoise", odd, "-o", out, "--weights", weights, "--format", "dng"]
    code, shown, _ = _try(*command, "--dry-run", charset=charset)
    shown = shown.encode("latin-1").decode(charset)
    assert code == 0
    assert f"{folder}/" in shown and "caf\\xe9.dng" in shown
    assert "\\u65e5\\u672c.dng" in shown
    code, paths, lines = _try(*command, charset=charset)
    assert code == 0
    # In a pipe, the bytes of the name, for programs.
    assert paths.encode("latin-1") == b"\n".join(map(os.fsencode, out.iterdir())) + b"\n"
    assert "Traceback" not in lines
    code, shown, _ = _try(*command, "--json", charset=charset)
    assert code == 0 and "caf\\udce9.dng" in shown
    code, shown, _ = _try("info", *odd.iterdir(), charset=charset)
    assert code == 0 and "caf\\xe9.dng" in shown


def test_inspect_and_errors_show_names_that_ascii_lacks(odd, weights, tmp_path):
    command = ["inspect", odd, "-o", tmp_path / "é", "--weights", weights]
    code, _, lines = _try(*command, charset="ascii")
    assert code == 0
    assert "\\u65e5\\u672c.dng" in lines or "caf\\xe9.dng" in lines
    code, _, lines = _try("denoise", tmp_path / os.fsdecode(b"no\xe9.dng"), charset="ascii")
    assert code == 1
    assert "no\\xe9.dng: cannot be read" in lines


def test_a_path_on_a_terminal_without_its_characters_is_escaped():
    work = "from pathlib import Path; from kpn_cli.cli import console, streams; streams.begin(); "
    work += "console.print_path(Path('日本\\udce9'))"
    shown = in_a_terminal([sys.executable, "-c", work], PYTHONIOENCODING="ascii")
    assert shown.lines == ["\\u65e5\\u672c\\xe9"]


# --- pipes that nobody reads ------------------------------------------------


@contextmanager
def nobody_reads(*names: str) -> Iterator[None]:
    """Let streams be a pipe whose reader has gone away."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(sys, name, stream)
        yield


def _code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_a_batch_goes_on_when_nobody_reads_the_list(weights, tmp_path, capsys):
    write_bursts(tmp_path / "in", 2)
    out = tmp_path / "out"
    command = ["denoise", tmp_path / "in", "-o", out, "--weights", weights, "--format", "dng,jpeg"]
    with nobody_reads("stdout"):
        assert _code(*command) == 0
    assert len(list(out.iterdir())) == 4
    lines = capsys.readouterr().err.splitlines()
    assert sum("nobody reads the list of results" in line for line in lines) == 1
    assert lines[-1] == "2 done"


@pytest.mark.parametrize("more", [["info"], ["info", "--json"], ["denoise", "--dry-run"]])
def test_other_listings_end_quietly_when_nobody_reads_them(more, tmp_path, capsys):
    write_frame(tmp_path / "a.dng", 0)
    with nobody_reads("stdout"):
        assert _code(more[0], tmp_path / "a.dng", *more[1:]) == 0
    assert "kpn:" not in capsys.readouterr().err


def test_lines_that_nobody_reads_do_not_stop_a_batch(weights, tmp_path):
    write_bursts(tmp_path / "in", 2)
    out = tmp_path / "out"
    with nobody_reads("stdout", "stderr"):
        assert _code("denoise", tmp_path / "in", "-o", out, "--weights", weights) == 0
    assert len(list(out.iterdir())) == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("command", ["info", "denoise"])
def test_a_list_that_cannot_be_written_is_an_error_in_one_line(command, weights, tmp_path, capsys):
    write_frame(tmp_path / "a.dng", 0)
    more = ["-o", tmp_path / "out", "--weights", weights, "-q"] if command == "denoise" else []
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    with full as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert _code(command, tmp_path / "a.dng", *more) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "kpn: the results cannot be listed on stdout: No space left on device"
    if command == "denoise":
        assert len(list((tmp_path / "out").iterdir())) == 3


# --- dry runs ---------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory) -> Path:
    """A card with a bracket and a burst, in a folder with a long name."""
    folder = tmp_path_factory.mktemp("card") / ("a-long-name-" * 6) / "DCIM"
    write_bracket(folder / "100CANON", (0, -2, 2))
    write_bursts(folder / "101CANON", 1, frames=3)
    return folder


def _dry_run(deep: Path, out: Path, columns: int, monkeypatch) -> str:
    """Return what a dry run shows on a terminal."""
    monkeypatch.setattr("kpn_cli.cli.streams.is_stdout_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    command = ["denoise", deep, "-o", out, "--exposures", "mixed", "--dry-run"]
    result = CliRunner().invoke(main, [str(each) for each in command], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_dry_run_shows_whole_paths_on_a_terminal_of_80_columns(deep, tmp_path, monkeypatch):
    out = tmp_path / ("the-results-" * 5)
    lines = _dry_run(deep, out, 80, monkeypatch).splitlines()
    assert lines == [
        "1/2         3 frames, taken within 0.4 s, different exposures over 4.0 EV",
        f"  first     {deep / '100CANON' / 'HDR_0.dng'}",
        f"  last      {deep / '100CANON' / 'HDR_2.dng'}",
        "  exposures 1/100 s, ISO 800 (0 EV); 1/400 s, ISO 800 (-2.0 EV); "
        "1/25 s, ISO 800 (+2.0 EV)",
        f"  output    {out / '100CANON'}",
        "2/2         3 frames, taken within 0.2 s",
        f"  first     {deep / '101CANON' / 'IMG_0000.dng'}",
        f"  last      {deep / '101CANON' / 'IMG_0002.dng'}",
        f"  output    {out / '101CANON'}",
    ]


def test_a_dry_run_is_a_table_where_it_fits(deep, tmp_path, monkeypatch):
    shown = _dry_run(deep, tmp_path / "out", 600, monkeypatch)
    assert "┃ frames ┃" in shown and "…" not in shown
    (line,) = (line for line in shown.splitlines() if "HDR" in line)
    for path in (deep / "100CANON" / "HDR_0.dng", "HDR_2.dng", tmp_path / "out" / "100CANON"):
        assert f"│ {path} " in line


def test_a_dry_run_in_a_pipe_is_a_line_per_burst(deep, tmp_path):
    command = ["denoise", deep, "-o", tmp_path, "--exposures", "mixed", "--dry-run"]
    result = CliRunner().invoke(main, [str(each) for each in command])
    first, second = (line.split("\t") for line in result.stdout.splitlines())
    assert first[:4] == [
        "3 frames",
        str(deep / "100CANON" / "HDR_0.dng"),
        str(deep / "100CANON" / "HDR_2.dng"),
        str(tmp_path / "100CANON"),
    ]
    assert "1/400 s, ISO 800 (-2.0 EV)" in first[5]
    assert second[4:] == ["taken within 0.2 s"]
