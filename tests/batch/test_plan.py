"""Bursts are found below folders and grouped; their outputs never share a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cards import EPOCH, denoised, digests, write_bracket, write_bursts, write_frame
from command_line import KPN_PROGRAM, kpn

from kpn_cli.batch import plan
from kpn_cli.batch.outlook import look_at_space
from kpn_cli.batch.plan import GroupingOptions
from kpn_cli.burst import files
from kpn_cli.errors import TransientError
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.info import Capture
from kpn_cli.raw.reader import read_capture

# --- finding and naming -----------------------------------------------------


def test_bursts_below_a_folder_keep_their_sub_folders(tmp_path, weights):
    card = tmp_path / "card"
    write_bursts(card / "100CANON", 2)
    write_bursts(card / "101CANON" / "deep", 1, frames=1)
    (card / "notes.txt").write_text("no raw file")
    out = tmp_path / "out"
    document = denoised(card, "-o", out, "--weights", weights, "--format", "dng")
    assert [len(b["frames"]) for b in document["bursts"]] == [2, 2, 1]
    assert sorted(str(p.relative_to(out).parent) for p in out.rglob("*.dng")) == [
        "100CANON",
        "100CANON",
        "101CANON/deep",
    ]


def test_a_dry_run_without_bursts_prints_errors_only(tmp_path):
    result = kpn("denoise", tmp_path, "--dry-run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{tmp_path}: no raw files below this folder" in result.stderr


def test_a_dry_run_ignores_results_of_kpn_and_says_so(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0)
    document = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", "--weights", weights)
    result = kpn("denoise", document["bursts"][0]["outputs"]["dng"], "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "skipped 1 file that kpn has written" in result.stderr


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path):
    write_bursts(tmp_path / "card", 2)
    (tmp_path / "card" / "bad.dng").write_bytes(b"")
    before = digests(tmp_path)
    result = kpn("denoise", tmp_path / "card", "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 1  # as the real run would
    assert "taken within 0.1 s" in result.stdout
    assert "bad.dng: the file is empty" in result.stderr
    document = json.loads(
        kpn("denoise", tmp_path / "card", "-o", tmp_path / "out", "--dry-run", "--json").stdout
    )
    assert [len(b["frames"]) for b in document["bursts"]] == [2, 2]
    assert len(document["failed"]) == 1
    assert digests(tmp_path) == before


def test_a_bracket_is_left_out_and_the_other_bursts_are_denoised(tmp_path, weights):
    write_bursts(tmp_path / "card", 1)
    bracket = write_bracket(tmp_path / "card", (0, -2, 2), at=100)
    out = tmp_path / "out"
    command = [tmp_path / "card", "-o", out, "--weights", weights, "--format", "dng"]
    document = denoised(*command)
    assert (len(document["bursts"]), document["failed"]) == (1, [])
    (left_out,) = document["left_out"]
    assert left_out["files"] == [str(path) for path in bracket]
    assert f"HDR_0.dng, HDR_1.dng, HDR_2.dng in {tmp_path / 'card'} are" in left_out["reason"]
    assert "1/100 s, ISO 800; 1/400 s, ISO 800; 1/25 s" in left_out["reason"]
    assert "--exposures mixed" in left_out["reason"]
    again = kpn("denoise", *command, "--report")
    assert again.exit_code == 0
    assert "0 done, 1 skipped (outputs exist), 1 left out:" in again.stderr
    what, _, remedy = left_out["reason"].rpartition("; ")
    assert f"left out    {what}\nleft out    {remedy}\n" in again.stderr
    assert "nothing" not in again.stderr
    page = (out / "report.html").read_text()
    assert "<h2>Left out</h2>" in page and "HDR_2.dng" in page and "Interrupted" not in page


def test_nothing_but_a_bracket_is_no_failure_and_is_told_even_with_quiet(tmp_path):
    write_bracket(tmp_path / "card", (0, -2, 2))
    for more in ((), ("--dry-run",)):
        command = ["denoise", tmp_path / "card", "-o", tmp_path / "out", *more]
        result = kpn(*command)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "left out    HDR_0.dng, HDR_1.dng, HDR_2.dng in" in result.stderr
        told = "kpn: nothing to denoise but an exposure bracket; add --exposures mixed to merge it"
        assert told in result.stderr.splitlines()
        assert kpn(*command, "--quiet").stderr.splitlines() == [told]
    document = json.loads(kpn(*command, "--json").stdout)
    assert (document["bursts"], document["failed"]) == ([], [])
    assert len(document["left_out"]) == 1


def test_with_mixed_exposures_a_dry_run_shows_the_exposure_of_each_frame(tmp_path):
    write_bracket(tmp_path / "card", (0, -2, 2))
    write_bursts(tmp_path / "other", 1)
    command = ["denoise", tmp_path, "-o", tmp_path / "out", "--exposures", "mixed", "--dry-run"]
    shown = kpn(*command).stdout
    assert "taken within 0.4 s, different exposures over 4.0 EV" in shown
    assert "1/100 s, ISO 800 (0 EV); 1/400 s, ISO 800 (-2.0 EV); 1/25 s, ISO 800 (+2.0" in shown
    document = json.loads(kpn(*command, "--json").stdout)
    assert [burst["exposures"] for burst in document["bursts"]] == [
        [
            {"settings": "1/100 s, ISO 800", "ev": 0.0},
            {"settings": "1/400 s, ISO 800", "ev": -2.0},
            {"settings": "1/25 s, ISO 800", "ev": 2.0},
        ],
        [],
    ]
    assert document["left_out"] == []
    write_frame(tmp_path / "card" / "HDR_0.dng", 0.05, exposure_time=None)
    assert "unknown time, ISO 800; 1/400 s, ISO 800 (0 EV); 1/25" in kpn(*command).stdout
    document = json.loads(kpn(*command, "--json").stdout)
    assert document["bursts"][0]["exposures"][0] == {
        "settings": "unknown time, ISO 800",
        "ev": None,
    }
    assert "exposures, in" not in kpn("denoise", tmp_path / "other", "--dry-run").stdout


@pytest.mark.parametrize("how", [["--no-group"], ["--burst-size", "3"]])
def test_a_bracket_that_the_user_calls_a_burst_is_an_error_that_says_what_to_do(tmp_path, how):
    bracket = write_bracket(tmp_path / "card", (0, -2, 2))
    command = [tmp_path / "card", "-o", tmp_path / "out", *how]
    document = denoised(*command, code=1)
    (failed,) = document["failed"]
    assert failed["files"] == [str(path) for path in bracket]
    for word in ("HDR_0.dng", "HDR_1.dng", "HDR_2.dng", f"folder {tmp_path / 'card'}", "1/400 s"):
        assert word in failed["error"]
    assert failed["error"].endswith("or merge them all with --exposures mixed")


def test_a_bracket_that_only_its_pictures_show_is_left_out(tmp_path):
    bracket = write_bracket(tmp_path / "card", (0, -2, 1), exposure_time=None, iso=None)
    command = [tmp_path / "card", "-o", tmp_path / "out"]
    (left_out,) = denoised(*command)["left_out"]
    assert left_out["files"] == [str(path) for path in bracket]
    assert "look like an exposure bracket" in left_out["reason"]
    assert "state no exposure times" in left_out["reason"]
    (failed,) = denoised(*command, "--no-group", code=1)["failed"]
    assert failed["error"] == left_out["reason"]


def test_how_to_merge_several_brackets_is_said_once(tmp_path, weights):
    for n in range(3):
        write_bracket(tmp_path / "card" / str(n), (0, -2, 2))
    command = ["denoise", tmp_path / "card", "-o", tmp_path / "out", "--weights", weights]
    only = kpn(*command).stderr
    assert only.count("--exposures mixed") == 1
    assert only.count("left out    HDR_0.dng") == 3
    write_bursts(tmp_path / "card" / "burst", 1)
    told = kpn(*command, "--report", "--format", "dng").stderr.splitlines()
    assert told.count("left out    add --exposures mixed to merge them") == 1
    assert sum("--exposures mixed" in line for line in told) == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("dd --exposures mixed to merge them") == 1


def test_no_group_burst_size_and_gap_change_the_grouping(tmp_path):
    write_bursts(tmp_path / "a", 3)
    write_bursts(tmp_path / "b", 1)

    def sizes(*arguments):
        found = json.loads(kpn("denoise", *arguments, "--dry-run", "--json").stdout)
        return [len(b["frames"]) for b in found["bursts"]]

    assert sizes(tmp_path / "a") == [2, 2, 2]
    assert sizes(tmp_path / "a", "--burst-size", "4") == [4, 2]
    assert sizes(tmp_path / "a", "--gap", "20") == [6]
    assert sizes(tmp_path / "a", "--no-group") == [6]
    assert sizes(tmp_path, "--no-group") == [6, 2]
    named = sorted((tmp_path / "a").iterdir())
    assert sizes(*named, "--no-group") == [6]
    assert sizes(*named, named[0], tmp_path / "a", "--no-group") == [6]  # each file once
    assert kpn("denoise", tmp_path, "--no-group", "--burst-size", "2").exit_code == 2


def test_a_damaged_file_does_not_move_the_frames_of_later_bursts(tmp_path):
    write_bursts(tmp_path, 3)
    for name in ("IMG_0010.dng", "note.raw", "IMG_0099.dng"):
        (tmp_path / name).write_bytes(b"damaged")
    command = ["denoise", tmp_path, "--burst-size", "2", "--dry-run", "--json"]
    document = json.loads(kpn(*command).stdout)
    found = [[Path(path).name for path in burst["frames"]] for burst in document["bursts"]]
    assert found == [[f"IMG_00{n}0.dng", f"IMG_00{n}1.dng"] for n in range(3)]
    assert len(document["failed"]) == 3


@pytest.mark.parametrize("how", ["error", "folder gone"])
def test_a_burst_that_may_lack_a_frame_out_of_reach_is_not_denoised_without_it(how, tmp_path):
    write_bursts(tmp_path / "card", 3, frames=3)

    def capture(path: Path) -> Capture:
        if path.name == "IMG_0011.dng" and how == "error":
            raise TransientError(f"{path.name}: cannot be read (input/output error); try again")
        if path.name == "IMG_0011.dng" and how == "folder gone":
            (tmp_path / "card").rename(tmp_path / "away")
        return read_capture(path)

    options = Options(tmp_path / "out")
    found = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), capture)
    numbers = [[path.stem[4:] for path in job.files] for job in found.jobs]
    failed = {tuple(path.stem[4:] for path in each.files): each.error for each in found.failures}
    if how == "error":
        assert numbers == [["0000", "0001", "0002"], ["0020", "0021", "0022"]]
        assert list(failed) == [("0011",), ("0010", "0012")]
        assert "IMG_0011.dng may be one of its frames" in failed["0010", "0012"]
        whole = plan.make_plan([tmp_path / "card"], options, GroupingOptions(size=3), capture)
        assert [len(job.files) for job in whole.jobs] == [3, 3, 3]  # it is read again with them
    else:
        assert numbers == [["0000", "0001", "0002"]]
        assert "IMG_0011.dng may be one of its frames" in failed["0010",]
        assert len(failed) == 6


def test_failures_are_in_the_order_of_the_files(tmp_path):
    paths = [tmp_path / name for name in ("b/1.dng", "a/1.dng", "b/2.dng", "a/2.dng")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged")
    found = plan.make_plan(paths, Options(tmp_path / "out"), GroupingOptions(), read_capture)
    assert [each.files for each in found.failures] == [(path,) for path in paths]


def test_two_bursts_never_share_a_name(tmp_path, weights):
    for folder in ("a", "b"):
        write_bursts(tmp_path / folder, 1)
    out = tmp_path / "out"
    files = sorted(tmp_path.rglob("*.dng"))
    options = ["-o", out, "--weights", weights, "--format", "dng"]
    document = denoised(*files, *options, code=1)
    assert len(document["bursts"]) == 1
    assert "could both become" in document["failed"][0]["error"]
    shutil.rmtree(out)
    # Of several folders, each keeps its own name.
    assert len(denoised(tmp_path / "a", tmp_path / "b", *options)["bursts"]) == 2
    assert {path.name for path in out.iterdir()} == {"a", "b"}


def test_results_of_kpn_are_ignored_even_if_they_are_named(tmp_path, weights):
    write_bursts(tmp_path, 1)
    options = ["--weights", weights, "--format", "dng"]
    assert kpn("denoise", tmp_path, "-o", tmp_path, *options).exit_code == 0
    assert len(list(tmp_path.glob("*.dng"))) == 3
    again = kpn("denoise", *sorted(tmp_path.glob("*.dng")), "-o", tmp_path / "out", *options)
    assert again.exit_code == 0
    assert "skipped 1 file that kpn has written" in again.stderr
    assert "2 frames used" in again.stderr


def test_one_photo_in_two_formats_is_refused(tmp_path):
    write_bursts(tmp_path, 1)
    shutil.copy(tmp_path / "IMG_0000.dng", tmp_path / "IMG_0000.raw")
    document = denoised(tmp_path, "-o", tmp_path / "out", code=1)
    assert "the same photo twice" in document["failed"][0]["error"]


def test_unreadable_folders_are_reported_and_the_other_files_are_found(tmp_path, monkeypatch):
    write_bursts(tmp_path / "card" / "good", 1)
    (tmp_path / "card" / "locked").mkdir()
    (tmp_path / "card" / "loop").symlink_to(tmp_path / "card")
    (tmp_path / "me").symlink_to(tmp_path / "me")
    (tmp_path / "card" / ".hidden").mkdir()
    write_frame(tmp_path / "card" / ".hidden" / "x.dng", 0)
    scandir = os.scandir

    def refuse(path):
        if "locked" in os.fspath(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, errors = files.find_raws_below(
        [tmp_path / "card", tmp_path / "me", tmp_path / "missing"]
    )
    assert [file.path.name for file in found] == ["IMG_0000.dng", "IMG_0001.dng"]
    assert [file.subfolder for file in found] == [Path("good")] * 2
    assert set(errors) == {tmp_path / "card" / "locked", tmp_path / "me", tmp_path / "missing"}
    assert "Permission denied" in str(errors[tmp_path / "card" / "locked"])


def test_files_and_folders_may_have_any_name(tmp_path, weights):
    names = ["with space", "new\nline", "-dash", "süß 写真", os.fsdecode(b"\xff\xfe")]
    folder = tmp_path / "in \n\udcff"
    for number, name in enumerate(names):
        write_frame(folder / name / f"{name}1.dng", 0.1, number)
        write_frame(folder / name / f"{name}2.dng", 0.2, number)
    out = tmp_path / "out \n\udcff"
    command = ["denoise", "-o", out, "--weights", str(weights), "--format", "dng,srgb", "--"]
    run = subprocess.run([KPN_PROGRAM, *command, folder], capture_output=True, env=EPOCH)
    assert run.returncode == 0, run.stderr
    made = [path for path in out.rglob("*") if path.is_file()]
    assert {path.parent.name for path in made} == set(names)
    assert len(made) == 2 * len(names)
    for path in made:
        assert os.fsencode(path) + b"\n" in run.stdout
    assert len(run.stderr.splitlines()) == 1 + len(names) + 1  # bursts, each of them, summary


# --- few frames -------------------------------------------------------------


def test_bursts_of_few_frames_are_left_out_with_one_line_and_no_failure(tmp_path, weights):
    card = tmp_path / "card"
    write_bursts(card, 1, frames=3)
    for n in range(3):
        write_frame(card / f"single{n}.dng", 100 + 10 * n)
    write_bracket(card, (0, -2), at=200)
    command = [card, "-o", tmp_path / "out", "--weights", weights, "--format", "dng"]
    document = denoised(*command, "--min-frames", "3")
    assert [len(burst["frames"]) for burst in document["bursts"]] == [3]
    assert document["failed"] == []
    reasons = [each["reason"] for each in document["left_out"]]
    assert reasons[:3] == ["1 frame, fewer than --min-frames 3"] * 3
    run = kpn("denoise", *command, "--min-frames", "3", "--report")
    assert run.exit_code == 0
    line = f"{len(reasons)} bursts of fewer than 3 frames (5 frames; --min-frames)"
    assert run.stderr.count("left out  ") == 1
    assert f"left out    {line}" in run.stderr
    assert line in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_dry_run_shows_which_bursts_have_too_few_frames(tmp_path):
    write_bursts(tmp_path / "card", 2)
    write_frame(tmp_path / "card" / "single.dng", 100)
    command = ["denoise", tmp_path / "card", "--dry-run", "--min-frames"]
    plan = json.loads(kpn(*command, "2", "--json").stdout)
    assert [len(burst["frames"]) for burst in plan["bursts"]] == [2, 2]
    assert plan["left_out"] == [
        {
            "files": [str(tmp_path / "card" / "single.dng")],
            "reason": "1 frame, fewer than --min-frames 2",
        }
    ]
    shown = kpn(*command, "2")
    assert shown.exit_code == 0
    assert "left out    1 burst of fewer than 2 frames (1 frame; --min-frames)" in shown.stderr
    nothing = kpn(*command, "9")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "nothing to denoise but bursts of fewer than 9 frames; lower --min-frames" in (
        nothing.stderr
    )


# --- many files -------------------------------------------------------------


def many_files(card: Path, folders: int, files: int = 40) -> Callable[[Path], Capture]:
    """Write empty files; return what reads when they were taken: bursts of four."""

    def capture(path: Path) -> Capture:
        number = int(path.stem[4:])
        at = datetime(2026, 5, 6) + timedelta(seconds=30 * (number // 4) + 0.1 * (number % 4))
        return Capture(
            path=path, make="Canikon", model="X1", serial="", height=64, width=80, iso=800.0,
            exposure_time=0.01, f_number=None, captured=at, number=number % 4 + 1,
        )  # fmt: skip

    for number in range(folders * files):
        folder = card / f"{100 + number // files}CANIK"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"IMG_{number:05d}.dng").touch()
    return capture


@pytest.mark.parametrize("output", ["elsewhere", "into the card"])
def test_a_plan_asks_the_disk_no_more_for_each_of_many_files(output, tmp_path, monkeypatch):
    asked: Counter[str] = Counter()
    for name in ("stat", "lstat", "scandir", "listdir", "readlink"):
        monkeypatch.setattr(os, name, counted(asked, name, getattr(os, name)))
    found = {}
    for folders in (4, 12):
        card = tmp_path / str(folders)
        capture = many_files(card, folders)
        asked.clear()
        options = Options(card if output == "into the card" else tmp_path / "out")
        jobs = plan.make_plan([card], options, GroupingOptions(), capture).jobs
        look_at_space(jobs, options)
        assert len(jobs) == 10 * folders
        found[folders] = dict(asked)
    assert found[12]["stat"] + found[12]["lstat"] < 9 * 480
    for name, times in found[4].items():
        assert found[12][name] <= 3 * times + 3, name


def counted(counter: Counter[str], name: str, call: Callable) -> Callable:
    def wrapped(*arguments, **named):
        counter[name] += 1
        return call(*arguments, **named)

    return wrapped


def test_a_plan_of_many_files_takes_little_memory(tmp_path):
    capture = many_files(tmp_path / "card", 10)
    peaks = []
    for folders in ("10[0-1]*", "*"):
        paths = sorted((tmp_path / "card").glob(folders))
        tracemalloc.start()
        found = plan.make_plan(paths, Options(tmp_path / "out"), GroupingOptions(), capture)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert len(found.jobs) == 100
    assert (peaks[1] - peaks[0]) / 320 < 1000  # bytes a file
