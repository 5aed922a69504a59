"""Outputs share no name and replace no photo, however the photos are reached."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cards import write_frame

from kpn_cli.batch import plan
from kpn_cli.batch.plan import GroupingOptions
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_capture


def failures(paths, out, name="{reference}") -> list[str]:
    options = Options(out, name=name, formats=("dng",))
    found = plan.make_plan(paths, options, GroupingOptions(), read_capture)
    return [failure.error for failure in found.failures]


@pytest.fixture
def card(tmp_path):
    write_frame(tmp_path / "card" / "a.dng", 0, size=(32, 32))
    return tmp_path / "card"


def test_an_output_that_is_a_link_to_a_photo_replaces_it(card, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.dng").symlink_to(card / "a.dng")
    (error,) = failures([card], tmp_path / "out", "x")
    assert "would replace an input" in error


def test_a_folder_of_outputs_that_is_a_link_to_that_of_the_photos(card, tmp_path):
    (tmp_path / "out").symlink_to(card)
    (error,) = failures([card], tmp_path / "out")
    assert "would replace an input" in error
    assert failures([card], tmp_path / "out", "clean") == []


def test_photos_that_are_reached_by_links_are_not_replaced(card, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "b.dng").symlink_to(card / "a.dng")
    (error,) = failures([tmp_path / "links"], card, "a")
    assert "would replace an input" in error
    assert failures([tmp_path / "links"], card, "b") == []


def test_a_result_among_the_photos_may_be_replaced(card):
    write_frame(card / "a_kpn.dng", 0, size=(32, 32))

    def capture(path):
        return replace(read_capture(path), by_kpn=path.stem == "a_kpn")

    options = Options(card, formats=("dng",))
    assert plan.make_plan([card], options, GroupingOptions(), capture).failures == []


def test_two_folders_that_share_an_output_folder_are_told_apart(tmp_path):
    for number in range(3):
        write_frame(tmp_path / str(number) / "DCIM" / "a.dng", 0, size=(32, 32))
    paths = [tmp_path / str(number) / "DCIM" for number in range(3)]
    errors = failures(paths, tmp_path / "out")
    assert len(errors) == 2 and all("could both become" in error for error in errors)
    assert str(paths[0] / "a.dng") in errors[1]
