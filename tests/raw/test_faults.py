"""A fault of kpn or of its libraries is no verdict on the user's file."""

from __future__ import annotations

import json
import sys

import exifread
import pytest
import rawpy
from command_line import assert_one_line, kpn
from raw_files import rich_dng, scene

from kpn_cli.errors import BugError, KpnError
from kpn_cli.raw import full_exif, reader
from kpn_cli.raw.decoder_process import Decoder

#: A rawpy without a method that kpn needs, as versions before 0.27 are.
OLD_RAWPY = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location(
    "rawpy", {real!r}, submodule_search_locations=[{folder!r}]
)
sys.modules["rawpy"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
class RawPy(module.RawPy):
    @property
    def set_unpack_params(self):
        raise AttributeError("'RawPy' object has no attribute 'set_unpack_params'")
module.RawPy = RawPy
"""


@pytest.fixture
def photo(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(64, 80))
    return tmp_path / "a.dng"


@pytest.fixture
def old_rawpy(tmp_path, monkeypatch):
    """Give the decoder's process an old rawpy."""
    folder = tmp_path / "old"
    folder.mkdir()
    real = rawpy.__file__
    text = OLD_RAWPY.format(real=real, folder=real.rpartition("__init__")[0])
    (folder / "rawpy.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


def test_a_method_that_an_old_rawpy_lacks_does_not_make_a_file_unreadable(photo, monkeypatch):
    class Old(rawpy.RawPy):
        @property
        def set_unpack_params(self):
            raise AttributeError("no attribute 'set_unpack_params'")

    monkeypatch.setattr(rawpy, "RawPy", Old)
    for read in (reader.read_capture, reader.read_info, reader.read_raw):
        with pytest.raises(AttributeError):
            read(photo)


def test_memory_that_runs_out_in_libraw_is_named(photo, monkeypatch):
    class Large(rawpy.RawPy):
        def unpack(self):
            raise MemoryError

    monkeypatch.setattr(rawpy, "RawPy", Large)
    with pytest.raises(KpnError, match=r"a\.dng: needs more memory than is free"):
        reader.read_info(photo)


@pytest.mark.usefixtures("old_rawpy")
def test_the_decoders_process_tells_a_bug_as_a_bug(photo):
    with Decoder() as decoder:
        for read in (decoder.capture, decoder.info, decoder.planes):
            with pytest.raises(
                BugError, match=r"AttributeError in kpn_cli/raw/reader\.py, line \d"
            ):
                read(photo)


@pytest.mark.usefixtures("old_rawpy")
def test_commands_tell_a_bug_as_a_bug_and_not_as_a_damaged_file(photo, tmp_path, weights):
    rich_dng(tmp_path / "b.dng", scene(64, 80) + 1)
    how = ["denoise", photo, tmp_path / "b.dng", "--no-group", "--weights", weights]
    for command in (["info", photo], [*how, "-o", tmp_path / "out"]):
        result = kpn(*command)
        assert result.exit_code == 1
        assert "kpn has failed while reading a.dng" in result.stderr
        assert "set_unpack_params" in result.stderr
        for verdict in ("damaged", "unreadable", "cannot be read", "can't decode", "Traceback"):
            assert verdict not in result.stderr
    result = kpn(*how, "-o", tmp_path / "out", "--json")
    for failure in json.loads(result.stdout)["failed"]:
        assert "kpn has failed" in failure["error"]


def test_a_function_that_an_old_exifread_lacks_is_no_fault_of_the_notes(photo, monkeypatch):
    monkeypatch.setattr(exifread, "process_file", lambda file: {})
    with pytest.raises(TypeError, match="details"):
        full_exif.read_camera_notes(photo)


def test_a_bug_in_a_command_is_one_line_with_kind_and_place(photo, tmp_path, monkeypatch):
    monkeypatch.setattr("kpn_cli.burst.files.find_raws_below", lambda paths: 1 / 0)
    result = kpn("info", photo)
    assert result.exit_code == 1
    assert_one_line(result, "kpn has failed; please report this: ZeroDivisionError in ")
    assert "kpn_cli/cli/info.py, line " in result.stderr
