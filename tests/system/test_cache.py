"""Facts that kpn keeps between runs."""

from __future__ import annotations

import pytest

from kpn_cli.system import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "new" / "kpn")
    return tmp_path / "new" / "kpn"


def test_what_is_kept_is_there_again():
    assert cache.load_facts("speed") == {}
    cache.keep_facts("speed", {"a": 1.5})
    assert cache.load_facts("speed") == {"a": 1.5}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_facts_are_none(content, folder):
    folder.mkdir(parents=True)
    (folder / "speed.json").write_bytes(content)
    assert cache.load_facts("speed") == {}
    cache.keep_facts("speed", {"a": 1})
    assert cache.load_facts("speed") == {"a": 1}


def test_a_folder_that_cannot_be_made_is_no_error(folder):
    folder.parent.write_text("a file")
    cache.keep_facts("speed", {"a": 1})
    assert cache.load_facts("speed") == {}
