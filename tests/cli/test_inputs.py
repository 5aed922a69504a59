"""Commands take what photographers give them: folders, patterns, lists, and whatever lies there."""

from __future__ import annotations

import json

import pytest
from cards import write_bursts, write_frame
from click.testing import CliRunner
from command_line import assert_one_line, kpn

from kpn_cli.cli.app import main


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A card with a burst of two frames and files of other kinds, which is the current folder."""
    write_bursts(tmp_path / "DCIM", 1)
    for name in ("a.JPG", "a.xmp", "b.MP4", "Thumbs.db", ".DS_Store"):
        (tmp_path / "DCIM" / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(*arguments: object, code: int = 0) -> dict:
    run = kpn("denoise", *arguments, "--dry-run", "--json")
    assert run.exit_code == code
    return json.loads(run.stdout)


def test_files_of_other_kinds_that_a_shell_names_are_skipped_with_one_line(card):
    everything = sorted((card / "DCIM").iterdir())
    run = kpn("denoise", *everything, "--dry-run")
    assert run.exit_code == 0
    skipped = [line for line in run.stderr.splitlines() if "skipped" in line]
    assert skipped == [
        "skipped 5 files that are no raw photos: "
        "1 JPEG, 1 video, 1 sidecar, 1 other file and 1 hidden file"
    ]
    assert len(planned(*everything)["bursts"][0]["frames"]) == 2


def test_a_single_file_of_another_kind_is_named(card):
    run = kpn("denoise", card / "DCIM", card / "DCIM" / "b.MP4", "--dry-run")
    assert f"skipped {card / 'DCIM' / 'b.MP4'}: no raw photo by its name" in run.stderr


def test_a_raw_file_that_is_none_is_an_error_though(card):
    (card / "DCIM" / "c.dng").write_bytes(b"x")
    run = kpn("denoise", *sorted((card / "DCIM").iterdir()), "--dry-run")
    assert run.exit_code == 1
    assert "c.dng" in run.stderr


@pytest.mark.parametrize("command", ["denoise", "info", "inspect"])
def test_folders_and_names_without_raw_files_say_what_is_there(command, tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg", "._c.dng"):
        (tmp_path / name).write_bytes(b"x")
    folder = kpn(command, tmp_path)
    words = "(3 JPEGs and 1 hidden file there; kpn needs the camera's raw files)"
    assert_one_line(folder, str(tmp_path), "no raw files", words)
    named = kpn(command, *tmp_path.iterdir())
    assert_one_line(named, "no raw files (3 JPEGs and 1 hidden file named; kpn needs")


def test_an_empty_folder_says_so(tmp_path):
    assert_one_line(kpn("denoise", tmp_path), "no raw files", "no files there")


def test_patterns_and_lists_name_the_frames(card):
    (card / "list.txt").write_text("DCIM/IMG_0001.dng\n", encoding="utf-16")
    assert len(planned("DCIM/*.dng")["bursts"][0]["frames"]) == 2
    assert len(planned("**/*0.dng", "@list.txt")["bursts"][0]["frames"]) == 2
    run = CliRunner().invoke(main, ["info", "-", "--json"], input="DCIM/IMG_0000.dng\n")
    assert [each["file"] for each in json.loads(run.stdout)["files"]] == ["DCIM/IMG_0000.dng"]


def test_what_is_not_found_fails_and_the_others_are_denoised(card):
    (card / "list.txt").write_text("DCIM\nnone.dng\n")
    plan = planned("@list.txt", "*.nef", code=1)
    assert len(plan["bursts"]) == 1
    assert [failed["error"].split(":")[0] for failed in plan["failed"]] == [
        "@list.txt, line 2",
        "*.nef",
    ]
    assert_one_line(kpn("inspect", "@list.txt"), "@list.txt, line 2", "none.dng")


def test_standard_input_is_named_once_and_by_one_process(card, monkeypatch):
    assert kpn("denoise", "-", "-").exit_code == 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = kpn("denoise", "-")
    assert (run.exit_code, "give @list.txt" in run.stderr) == (2, True)


def test_an_empty_list_is_an_error(card):
    (card / "list.txt").write_text("# nothing\n")
    assert_one_line(kpn("denoise", "@list.txt"), "no raw files (the list is empty")


def test_photos_may_be_patterns_too(card):
    assert_one_line(kpn("synth", "*.png", "-o", card / "out"), "*.png: no file or folder matches")


def test_info_shows_all_files_below_a_folder_and_goes_on_after_errors(card):
    write_frame(card / "DCIM" / "101" / "x.dng", 50)
    (card / "DCIM" / "bad.dng").write_bytes(b"x")
    run = kpn("info", "DCIM", "--json")
    assert run.exit_code == 1
    document = json.loads(run.stdout)
    assert [row["file"].rpartition("/")[2] for row in document["files"]] == [
        "IMG_0000.dng",
        "IMG_0001.dng",
        "x.dng",
    ]
    assert [row["exposure_time"] for row in document["files"]] == [0.01] * 3
    assert [row["file"] for row in document["failed"]] == ["DCIM/bad.dng"]
    shown = kpn("info", "DCIM")
    assert shown.stdout.count("1/100 s") == 3
    assert "DCIM/bad.dng: " in shown.stderr


def test_info_in_json_tells_that_there_are_no_raw_files_too(card):
    run = kpn("info", "DCIM/a.JPG", "--json")
    assert run.exit_code == 1
    (failed,) = json.loads(run.stdout)["failed"]
    assert failed["file"] == "DCIM/a.JPG"
    assert "1 JPEG named" in failed["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["denoise", f"{'x' * 300}.jpg"],
        ["denoise", f"{'x' * 300}.dng"],
        ["denoise", "DCIM", "--dry-run", "--noise", "x" * 300],
        ["denoise", "DCIM", "--dry-run", "--config", "~nobody-of-this-name/kpn.toml"],
        ["train", "x" * 300, "-o", "run"],
        ["info", f"{'x' * 300}.jpg"],
    ],
)
def test_names_that_the_system_cannot_look_at_are_errors_of_the_user(card, arguments):
    run = kpn(*arguments)
    assert run.exit_code in (1, 2)
    assert isinstance(run.exception, SystemExit), run.exception


def test_a_dry_run_into_a_folder_with_a_name_too_long_still_shows_the_bursts(card):
    assert len(planned("DCIM", "-o", "x" * 300)["bursts"]) == 1


@pytest.mark.parametrize("more", [[], ["--crop", "0,0,20,20"]])
def test_a_pattern_that_matches_nothing_fails_a_run_that_does_the_rest(card, more):
    run = kpn("denoise", "DCIM", "no*.dng", "--strength", 0, "--format", "jpeg", *more)
    assert run.exit_code == 1
    assert "no*.dng: no file or folder matches this pattern" in run.stderr
    assert len(run.stdout.splitlines()) == 1
