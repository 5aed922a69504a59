"""The decoder process answers as the reader does, and may die."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from maker_notes import busy_dng, canon_note, dng_with_note, nikon_note
from raw_files import rich_dng, scene

from kpn_cli.errors import KpnError, TransientError
from kpn_cli.image import bayer
from kpn_cli.raw import decoder_process, reader
from kpn_cli.raw.camera_notes import CameraNotes
from kpn_cli.raw.decoder_process import Decoder, Decoders
from kpn_cli.raw.full_exif import read_camera_notes


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


@pytest.mark.parametrize("name", ["a.dng", "b c\n.dng", "é.dng", b"\xff\xfe.dng"])
def test_it_returns_what_the_reader_returns(tmp_path, decoder, name):
    path = tmp_path / os.fsdecode(name)
    rich_dng(path, scene(64, 80))
    assert decoder.capture(path) == reader.read_capture(path)
    assert decoder.info(path) == reader.read_info(path)
    info, planes = decoder.planes(path)
    expected, mosaic = reader.read_raw(path)
    assert info == expected == reader.read_info(path)
    np.testing.assert_array_equal(planes, bayer.pack(mosaic, info.phase))
    np.testing.assert_array_equal(mosaic, reader.read_mosaic(info))
    assert planes.flags.writeable


def test_it_raises_the_same_errors_as_the_reader(tmp_path, decoder):
    (tmp_path / "text.dng").write_text("a text")
    for name in ("text.dng", "missing.dng", "."):
        with pytest.raises(KpnError) as here:
            reader.read_info(tmp_path / name)
        for ask in (decoder.capture, decoder.info, decoder.planes):
            with pytest.raises(KpnError) as there:
                ask(tmp_path / name)
            assert str(there.value) == str(here.value)


def stand_in(script: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_child_that_dies_is_replaced_and_the_file_tried_again(tmp_path, monkeypatch):
    path = tmp_path / "a.dng"
    rich_dng(path, scene(64, 80))
    with Decoder() as decoder:
        first = decoder.info(path)
        decoder.close()
        decoder._child = stand_in("import sys; sys.stdin.buffer.read(8); sys.exit(3)")
        assert decoder.info(path) == first
        monkeypatch.setattr(decoder_process, "_start", lambda: stand_in("import sys; sys.exit(3)"))
        decoder.close()
        with pytest.raises(
            TransientError, match=r"a\.dng: LibRaw crashes on it, twice; .* leave it"
        ):
            decoder.info(path)
        monkeypatch.undo()
        assert decoder.info(path) == first


def test_a_child_that_hangs_is_ended(tmp_path, monkeypatch):
    path = tmp_path / "a.dng"
    rich_dng(path, scene(64, 80))
    monkeypatch.setattr(decoder_process, "_start", lambda: stand_in("import time; time.sleep(600)"))
    with (
        Decoder(timeout=0.3) as decoder,
        pytest.raises(TransientError, match=r"a\.dng: LibRaw has not read it within \d+ s"),
    ):
        decoder.info(path)


def test_several_threads_read_at_a_time_and_each_gets_its_own_answer(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.dng" for number in range(6)]
    for number, path in enumerate(paths):
        rich_dng(path, scene(64, 80 + 2 * number))
    paths[3].write_bytes(b"no raw")
    started = []
    start = decoder_process._start
    monkeypatch.setattr(decoder_process, "_start", lambda: started.append(1) or start())

    def width(path):
        try:
            return decoders.planes(path)[0].width
        except KpnError as error:
            return str(error)

    with Decoders(2) as decoders, ThreadPoolExecutor(3) as pool:
        assert decoders.capture(paths[0]) == reader.read_capture(paths[0])
        assert len(started) == 1  # the second child waits for a second thread
        widths = list(pool.map(width, paths))
    assert len(started) <= 2
    assert widths[3].startswith("3.dng: ")
    expected = [reader.read_info(path).width for path in paths if path != paths[3]]
    assert widths[:3] + widths[4:] == expected


def test_it_returns_the_camera_notes_that_exifread_reads(tmp_path, decoder):
    path = dng_with_note(tmp_path / "a.dng", "NIKON CORPORATION", nikon_note())
    notes = decoder.camera_notes(path)
    assert notes == read_camera_notes(path)
    assert (notes.iso, notes.drive_mode) == (102400, "continuous")


def test_exifread_is_ended_after_its_limit_and_not_tried_again(tmp_path):
    path = busy_dng(tmp_path / "a.dng")
    with Decoder(notes_timeout=0.2) as decoder:
        before = decoder.info(path)
        first = decoder._child
        start = time.monotonic()
        notes = decoder.camera_notes(path)
        assert 0.2 <= time.monotonic() - start < 1
        assert first.returncode is not None
        (line,) = notes.notes
        assert "left out: exifread has not read its tags within 0.2 s" in line
        assert replace(notes, notes=()) == CameraNotes()
        # A new child reads the picture.
        assert decoder.info(path) == before
        assert decoder._child is not first


def test_a_child_that_dies_of_the_notes_is_no_error(tmp_path, monkeypatch):
    path = dng_with_note(tmp_path / "a.dng", "Canon", canon_note())
    starts = []
    script = "import sys; sys.stdin.buffer.read(8); sys.exit(3)"
    monkeypatch.setattr(decoder_process, "_start", lambda: starts.append(1) or stand_in(script))
    with Decoder() as decoder:
        assert "exifread crashes on its tags" in decoder.camera_notes(path).notes[0]
    assert len(starts) == 1
    monkeypatch.undo()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with Decoder() as decoder:
        assert "can't be started" in decoder.camera_notes(path).notes[0]


def test_an_error_at_its_start_does_not_blame_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with Decoder() as decoder, pytest.raises(KpnError, match="can't be started"):
        decoder.info(tmp_path / "a.dng")


def test_it_imports_no_modules_from_the_current_folder(tmp_path):
    (tmp_path / "rawpy.py").write_text("raise SystemExit('hostile')")
    rich_dng(tmp_path / "a.dng", scene(64, 80))
    kpn = Path(sys.executable).with_name("kpn")
    run = subprocess.run([kpn, "info", "a.dng"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_it_ends_with_its_parent(tmp_path):
    script = (
        "import os, sys; from pathlib import Path\n"
        "from kpn_cli.raw.decoder_process import Decoder\n"
        "d = Decoder()\n"
        "try: d.info(Path('missing'))\n"
        "except Exception: pass\n"
        "print(d._child.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    child = int(run.stdout)
    for _ in range(100):
        try:
            if psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.1)
    raise AssertionError("the child outlived its parent")


def test_a_bug_is_an_answer_too(tmp_path, monkeypatch):
    def fail(path):
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(reader, "read_info", fail)
    requests, answers = io.BytesIO(), io.BytesIO()
    decoder_process._send(requests, ["info", os.fsencode(tmp_path / "a.dng").hex()])
    requests.seek(0)
    decoder_process.serve(requests, answers)
    answers.seek(0)
    message, arrays = decoder_process._receive(answers)
    kind, text = message
    assert kind == "BugError"
    assert text.startswith("kpn has failed while reading a.dng; please report this: ")
    assert "ZeroDivisionError in kpn_cli/raw/decoder_process.py, line " in text
    assert not arrays
