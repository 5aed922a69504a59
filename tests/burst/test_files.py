"""Raw files are found among files and in folders, each once."""

from __future__ import annotations

import pytest
from cards import write_frame
from dng_results import identity

from kpn_cli.burst import files
from kpn_cli.errors import KpnError


def test_folders_give_their_raw_files_and_nothing_else(tmp_path):
    for name in ("b.DNG", "a.dng", "._a.dng", "notes.txt", "c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    write_frame(tmp_path / "a.dng", 0)
    identity(tmp_path / "a.dng", tmp_path / "any name.dng", unique_id=bytes(16))
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


@pytest.mark.parametrize("target", ["gone.dng", "link.dng"])
def test_links_to_nothing_in_a_folder_are_errors_like_named_ones(target, tmp_path):
    (tmp_path / "a.dng").write_bytes(b"x")
    link = tmp_path / "link.dng"
    link.symlink_to(tmp_path / target)
    (tmp_path / "link.txt").symlink_to(tmp_path / "gone")
    found, errors = files.find_raws_below([tmp_path])
    assert [raw.path.name for raw in found] == ["a.dng"]
    assert list(errors) == [link]
    _, named = files.find_raws_below([link])
    assert str(errors[link]) == str(named[link])
    with pytest.raises(KpnError, match=r"link\.dng: cannot be read"):
        files.find_raws([tmp_path])
