"""exifread reads the maker's notes of files, within bounds, and never raises or prints."""

from __future__ import annotations

import subprocess
import sys
import time

import exifread
import pytest
from dng_factory import write_dng
from dng_mosaics import noise_mosaic
from maker_notes import busy_dng, canon_note, dng_with_note, nikon_note
from raw_files import nef, scene

from kpn_cli.raw import full_exif
from kpn_cli.raw.camera_notes import CameraNotes
from kpn_cli.raw.full_exif import complete, complete_iso, read_camera_notes
from kpn_cli.raw.reader import read_info

OVERFLOW = {34855: (3, (65535,))}


def test_canons_notes_give_iso_drive_mode_and_lens(tmp_path):
    notes = read_camera_notes(dng_with_note(tmp_path / "a.dng", "Canon", canon_note(224, 65504)))
    assert notes == CameraNotes(
        iso=200,
        iso_source="MakerNote BaseISO",
        drive_mode="continuous",
        lens="EF 50mm f/1.8 STM",
    )


def test_nikons_notes_give_iso_drive_mode_and_lens(tmp_path):
    path = dng_with_note(tmp_path / "a.dng", "NIKON CORPORATION", nikon_note(mode=0x10), OVERFLOW)
    info = complete(read_info(path))
    assert (info.iso, info.iso_source) == (102400, "MakerNote ISOInfo")
    assert (info.drive_mode, info.lens) == ("bracketing", "18-70 mm f/3.5-4.5")


def test_the_full_exif_gives_gain_and_lens_without_notes(tmp_path):
    exif = {34855: (3, (800,)), 41991: (3, (2,)), 42036: (2, "Lens 1"), 41986: (3, (2,))}
    info = complete(read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), exif=exif)))
    assert (info.gain, info.lens, info.drive_mode) == ("high gain up", "Lens 1", "bracketing")
    assert (info.iso, info.iso_source, info.notes) == (800, "PhotographicSensitivity", ())


def test_exif_in_the_first_directory_is_read_too(tmp_path):
    extra = [(41991, 3, 1, 1, True), (42036, 2, 0, "Lens 1", True)]
    notes = read_camera_notes(write_dng(tmp_path / "a.dng", noise_mosaic(), extra=extra))
    assert (notes.gain, notes.lens) == ("low gain up", "Lens 1")


def test_an_exif_block_inside_another_format_is_read(tmp_path):
    """As in a RAF, whose offsets count from the block."""
    dng = dng_with_note(tmp_path / "a.dng", "NIKON CORPORATION", nikon_note(), OVERFLOW)
    raf = tmp_path / "a.raf"
    raf.write_bytes(b"FUJIFILMCCD-RAW " + bytes(100) + b"\xff\xd8Exif\0\0" + dng.read_bytes())
    assert read_camera_notes(raf) == read_camera_notes(dng) != CameraNotes()


def test_notes_are_read_only_where_the_iso_is_missing(tmp_path):
    stated = read_info(write_dng(tmp_path / "a.dng", noise_mosaic(), exif={34855: (3, (800,))}))

    def read(path):
        raise AssertionError("not needed")

    assert complete_iso(stated, read) is stated
    path = dng_with_note(tmp_path / "b.dng", "NIKON CORPORATION", nikon_note(), OVERFLOW)
    assert complete_iso(read_info(path)).iso == 102400


# --- notes that exifread would misread ------------------------------------------------


def test_notes_of_another_layout_are_not_decoded(tmp_path, monkeypatch):
    """A text would be read as a directory, and tags of other makers as these."""
    others = {
        "OLYMPUS CORPORATION": b"OLYMPUS\0II\3\0" + bytes(100),
        "SONY": b"SONY DSC \0\0\0" + bytes(100),
        "NIKON CORPORATION": nikon_note()[:10] + b"MM\0*" + bytes(100),
        "Canon": b"A text, not a directory" + bytes(100),
        "Panasonic": b"Panasonic\0\0\0" + bytes(100),
    }
    details = []
    whole = exifread.process_file
    monkeypatch.setattr(
        exifread, "process_file", lambda *a, **k: details.append(k["details"]) or whole(*a, **k)
    )
    for maker, note in others.items():
        path = dng_with_note(tmp_path / f"{maker}.dng", maker, note, {41991: (3, (1,))})
        assert read_camera_notes(path) == CameraNotes(gain="low gain up")
    assert details == [False] * len(others)
    # The notes of raw_files are a text too.
    notes = read_camera_notes(nef(tmp_path / "a.nef", scene(64, 80)))
    assert notes == CameraNotes(lens="Lens 50mm f/1.8")


# --- hostile files --------------------------------------------------------------------


def test_a_file_that_keeps_exifread_busy_is_given_up_in_time(tmp_path):
    """On its own, exifread takes over 20 s and 2 GB for it."""
    path = busy_dng(tmp_path / "a.dng")
    assert path.stat().st_size < 1_000_000
    start = time.monotonic()
    notes = read_camera_notes(path, seconds=0.05)
    assert time.monotonic() - start < 2
    (line,) = notes.notes
    assert "left out" in line and "within 0.05 s" in line
    assert read_info(path).iso == 100  # the picture is read


def test_what_exifread_reads_is_bounded_without_a_clock_too(tmp_path, monkeypatch):
    monkeypatch.setattr(full_exif, "_MAX_READS", 20_000)
    notes = read_camera_notes(busy_dng(tmp_path / "a.dng"), seconds=None)
    assert "more than any camera writes" in notes.notes[0]


def test_a_text_of_gigabytes_is_cut(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic(), exif={42036: (2, "Lens 1" + "x" * 9)})
    data = bytearray(path.read_bytes())
    at = data.index((42036).to_bytes(2, "little") + b"\2\0")
    data[at + 4 : at + 8] = (0x7FFFFFFF).to_bytes(4, "little")
    path.write_bytes(data)
    assert read_camera_notes(path).lens == "Lens 1" + "x" * 9


@pytest.mark.parametrize(
    "error", [RecursionError, MemoryError, KeyError, ZeroDivisionError, UnicodeDecodeError]
)
def test_whatever_exifread_raises_becomes_a_line(tmp_path, monkeypatch, error):
    def fail(*args, **how):
        raise error(*("ascii", b"", 0, 0, "") if error is UnicodeDecodeError else ("bug",))

    monkeypatch.setattr(exifread, "process_file", fail)
    notes = read_camera_notes(write_dng(tmp_path / "a.dng", noise_mosaic()))
    assert notes.notes == (f"the maker's notes are left out: exifread stops with {error.__name__}",)


def test_the_standard_tags_are_kept_where_exifread_fails_at_the_notes(tmp_path):
    """Of this ProgramShift exifread divides by a step of 0."""
    note = nikon_note(more={0x0D: (7, b"\1\1\0\0")})
    exif = {42036: (2, "Lens 1")}
    path = dng_with_note(tmp_path / "a.dng", "NIKON CORPORATION", note, exif)
    notes = read_camera_notes(path)
    assert notes == CameraNotes(
        lens="Lens 1",
        notes=("the maker's notes are left out: exifread stops with ZeroDivisionError",),
    )


def test_files_of_other_formats_say_nothing(tmp_path):
    for data in (b"", b"II", b"II\x1a\0\0\0HEAPCCDR", b"\xff\xd8\xff", b"a text"):
        path = tmp_path / "a.raw"
        path.write_bytes(data)
        assert read_camera_notes(path) == CameraNotes()
    assert "can't be read" in read_camera_notes(tmp_path / "missing.dng").notes[0]


def test_exifread_prints_and_logs_nothing(tmp_path):
    path = dng_with_note(tmp_path / "a.dng", "Canon", canon_note())
    data = bytearray(path.read_bytes())
    at = data.index(b"\1\0\3\0", data.index(b"EF 50mm") - 200)
    data[at + 8 : at + 12] = (len(data) - 3).to_bytes(4, "little")  # a value at the end
    path.write_bytes(data)
    script = f"import exifread; exifread.process_file(open({str(path)!r}, 'rb'))"
    loud = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "slice" in loud.stderr  # without kpn it does
    script = (
        "import logging, sys; from pathlib import Path\n"
        "from kpn_cli.raw.full_exif import read_camera_notes\n"
        "read_camera_notes(Path(sys.argv[1]))\n"
        "assert not logging.getLogger('exifread').disabled"
    )
    run = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_exifread_is_imported_when_it_is_needed():
    script = (
        "import sys, kpn_cli.cli.app, kpn_cli.raw.decoder_process\n"
        "assert 'exifread' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
