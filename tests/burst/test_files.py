"""Raw files are found among files and in folders, each once."""

from __future__ import annotations

import pytest

from kpn_cli.burst import files
from kpn_cli.errors import KpnError


def test_folders_give_their_raw_files_and_nothing_else(tmp_path):
    for name in ("b.DNG", "a.dng", "._a.dng", "notes.txt", "c.jpg", "a_kpn.dng"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "d.dng").write_bytes(b"x")
    found = files.find_raws([tmp_path, tmp_path / "a.dng"])
    assert [path.name for path in found] == ["a.dng", "b.DNG"]


def test_a_file_named_twice_is_one_frame(tmp_path):
    (tmp_path / "a.dng").write_bytes(b"x")
    (tmp_path / "link.dng").symlink_to(tmp_path / "a.dng")
    (tmp_path / "in").mkdir()
    ways = [tmp_path / "a.dng", tmp_path / "in" / ".." / "a.dng", tmp_path / "link.dng", tmp_path]
    assert files.find_raws(ways) == [tmp_path / "a.dng"]


def test_paths_that_cannot_be_read_are_errors(tmp_path):
    (tmp_path / "loop.dng").symlink_to(tmp_path / "loop.dng")
    for path in (tmp_path / ("x" * 300), tmp_path / "loop.dng"):
        with pytest.raises(KpnError, match="cannot be read"):
            files.find_raws([path])


def test_missing_paths_and_folders_without_raw_files_are_named(tmp_path):
    with pytest.raises(KpnError, match="No such file"):
        files.find_raws([tmp_path / "missing.dng"])
    with pytest.raises(KpnError, match="no raw files"):
        files.find_raws([tmp_path])
