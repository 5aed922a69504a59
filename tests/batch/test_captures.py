"""Files are read several at a time, and those of the last run not again, in the same order."""

from __future__ import annotations

import json
import time

import pytest
from cards import write_bursts, write_frame
from command_line import kpn

from kpn_cli.batch import captures as batch_captures
from kpn_cli.batch import plan
from kpn_cli.batch.captures import Captures
from kpn_cli.batch.plan import GroupingOptions
from kpn_cli.errors import KpnError
from kpn_cli.pipeline.options import Options
from kpn_cli.raw import capture_cache
from kpn_cli.raw.capture_cache import CaptureCache
from kpn_cli.raw.reader import read_capture


@pytest.fixture
def card(tmp_path):
    """Two folders of bursts, with a file that is no raw."""
    write_bursts(tmp_path / "card" / "b", 3, size=(32, 32))
    write_bursts(tmp_path / "card" / "a", 2, size=(32, 32))
    (tmp_path / "card" / "b" / "IMG_0011.dng").write_bytes(b"no raw")
    return tmp_path / "card"


def planned(card, captures):
    return plan.make_plan([card], Options(card.parent / "out"), GroupingOptions(), captures)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_plan_is_the_same_for_any_number_of_threads(card, threads, monkeypatch):
    monkeypatch.setattr(batch_captures, "FILES_TO_READ", 2)

    def slow_at_first(path):
        time.sleep(0.02 * path.name.endswith("000.dng"))
        return read_capture(path)

    found = planned(card, Captures(slow_at_first, threads=threads))
    assert found == planned(card, read_capture)
    assert [len(job.files) for job in found.jobs] == [2, 2, 2, 1, 2]
    assert [failure.files for failure in found.failures] == [(card / "b" / "IMG_0011.dng",)]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_second_plan_reads_only_what_has_changed(card, threads, tmp_path, monkeypatch):
    monkeypatch.setattr(capture_cache, "_SETTLED", -1.0)
    plans, read = [], []
    for _ in range(2):
        with CaptureCache(tmp_path / "c.sqlite") as cache:
            captures = Captures(read_capture, cache, threads)
            plans.append(planned(card, captures))
            read.append(captures.read)
    assert read == [10, 1]  # a file in error is read again
    assert plans[0] == plans[1]
    write_frame(card / "a" / "IMG_0000.dng", 500, size=(32, 32))
    with CaptureCache(tmp_path / "c.sqlite") as cache:
        changed = planned(card, Captures(read_capture, cache, threads))
    assert changed == planned(card, read_capture) != plans[0]


def test_an_interrupted_plan_keeps_what_it_has_read(card, tmp_path, monkeypatch):
    monkeypatch.setattr(capture_cache, "_SETTLED", -1.0)

    def interrupted(path):
        if path.parent.name == "b":
            raise KeyboardInterrupt
        return read_capture(path)

    with CaptureCache(tmp_path / "c.sqlite") as cache, pytest.raises(KeyboardInterrupt):
        planned(card, Captures(interrupted, cache, 1))
    with CaptureCache(tmp_path / "c.sqlite") as cache:
        assert cache.find(card / "a" / "IMG_0000.dng") == read_capture(card / "a" / "IMG_0000.dng")


def test_an_interrupted_plan_reads_no_more(card, monkeypatch):
    monkeypatch.setattr(batch_captures, "FILES_TO_READ", 5)
    read = []

    def interrupted(path):
        read.append(path)
        time.sleep(0.05 * (path.parent.name == "b"))
        return read_capture(path)

    def show(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.make_plan(
            [card],
            Options(card.parent / "out"),
            GroupingOptions(),
            Captures(interrupted, threads=2),
            show,
        )
    # Of 11 files in 3 pieces: the second has begun, and is not read to its end.
    assert 5 <= len(read) < 10


def test_one_file_is_asked_for_like_many(card):
    captures = Captures(read_capture)
    assert captures(card / "a" / "IMG_0000.dng") == read_capture(card / "a" / "IMG_0000.dng")
    with pytest.raises(KpnError, match="IMG_0011"):
        captures(card / "b" / "IMG_0011.dng")


def bursts(result) -> list[dict]:
    return json.loads(result.stdout)["bursts"]


def test_without_a_cache_nothing_is_kept_nor_believed(card, tmp_path, monkeypatch):
    monkeypatch.setattr(capture_cache, "_SETTLED", -1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    database = capture_cache.cache_folder() / "captures2.sqlite"
    command = ["denoise", card / "a", "-o", tmp_path / "out", "--dry-run", "--json"]
    first = kpn(*command, "--no-cache")
    assert first.exit_code == 0 and not database.exists()
    second = kpn(*command)
    assert database.exists()
    database.write_bytes(b"damaged")
    assert bursts(kpn(*command)) == bursts(second) == bursts(first)
    assert (card / "a").is_dir() and len(list((card / "a").iterdir())) == 4  # none beside inputs
