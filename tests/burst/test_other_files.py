"""Files that are no raw photos are known by their names, and counted by kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpn_cli.burst import other_files
from kpn_cli.burst.files import RAW_SUFFIXES
from kpn_cli.burst.other_files import _KINDS, counted, is_no_raw


@pytest.mark.parametrize(
    "name",
    ["a.JPG", "a.xmp", "a.dng.xmp", "C0001.MP4", "Thumbs.db", ".DS_Store", "._a.dng", "a.tif"],
)
def test_what_cards_hold_beside_raw_photos_is_no_raw(name):
    assert is_no_raw(Path(name))


@pytest.mark.parametrize("name", ["a.dng", "a.NEF", "a", "a.dng.bak", "a.qtk", ".a.dng"])
def test_what_may_be_a_raw_photo_is_tried(name):
    assert not is_no_raw(Path(name))


def test_no_raw_suffix_is_that_of_another_kind():
    assert RAW_SUFFIXES.isdisjoint(_KINDS)


def test_files_are_counted_by_kind(monkeypatch):
    monkeypatch.setattr(other_files, "is_result", lambda path: path.stem == "clean")
    names = ("a.jpg", "b.JPEG", "c.mp4", "d.xmp", "e.xyz", "Thumbs.db", ".x", "clean.dng")
    assert counted(map(Path, names)) == (
        "2 JPEGs, 1 video, 1 sidecar, 2 other files, 1 result of kpn and 1 hidden file"
    )
    assert counted([Path("a.jpg")]) == "1 JPEG"
    assert counted([]) == ""
