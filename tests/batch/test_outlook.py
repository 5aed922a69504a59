"""What a run will take: time, and space on the disks of its outputs."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from cards import write_bursts, write_frame
from command_line import kpn

from kpn_cli.batch import outlook, run, speed
from kpn_cli.batch.plan import GroupingOptions, Job
from kpn_cli.burst.grouping import Setting
from kpn_cli.errors import KpnError
from kpn_cli.pipeline.options import Options
from kpn_cli.system import cache

MEGA = 1_000_000
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "facts")


@pytest.fixture
def little_space(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(MEGA, MEGA - 1000, 1000))


def _job(folder: Path, frames: int = 8, pixels: int = 12 * MEGA, number: int = 0) -> Job:
    files = tuple(Path(f"IMG_{number}{n}.dng") for n in range(frames))
    return Job(files, folder, "", pixels=pixels)


# --- space ------------------------------------------------------------------


def test_outputs_need_the_space_of_their_formats(tmp_path):
    jobs = [_job(tmp_path / "new" / "sub", number=n) for n in range(10)]
    look = outlook.look_at_space(jobs, Options(tmp_path / "new", formats=("dng", "jpeg")))
    (disk,) = look.disks
    assert disk.folder == tmp_path / "new"
    assert disk.needed == look.needed == 10 * 12 * MEGA * 2
    assert disk.free > 0
    text = look.space_text()
    assert text.startswith("about 240 MB for the results; ") and f"free for {tmp_path}" in text


def test_the_estimate_of_space_is_near_what_a_detailed_picture_takes(burst, weights, tmp_path):
    frames, _ = burst
    options = Options(tmp_path / "out", formats=("dng", "linear", "srgb"), weights=weights)
    (job,) = run.plan_batch(frames, options, GroupingOptions()).jobs
    assert kpn("denoise", *frames, "-o", options.output, "--weights", weights).exit_code == 0
    taken = sum(path.stat().st_size for path in options.output.iterdir())
    assert 0.5 * taken < outlook.output_bytes(job, options) < 2 * taken


def test_finished_bursts_need_no_space_unless_they_are_replaced(tmp_path):
    jobs = [_job(tmp_path, number=n) for n in range(3)]
    for job in jobs[:2]:
        (tmp_path / f"{job.files[1].stem}_kpn.dng").touch()
    look = outlook.look_at_space(jobs, Options(tmp_path, formats="dng"))
    assert (look.needed, look.finished) == (18 * MEGA, 2)
    assert "without 2 whose outputs exist" in look.space_text()
    for job in jobs[2:]:
        (tmp_path / f"{job.files[1].stem}_kpn.dng").touch()
    assert outlook.look_at_space(jobs, Options(tmp_path, formats="dng")).space_text() == "none"
    again = outlook.look_at_space(jobs, Options(tmp_path, formats="dng", overwrite=True))
    assert again.needed == 18 * MEGA  # one burst at a time


def test_a_dry_run_warns_of_outputs_that_the_run_would_refuse(weights, tmp_path, monkeypatch):
    write_bursts(tmp_path / "in", 2)
    options = Options(tmp_path / "out", weights=weights, formats="jpeg")
    jobs = run.plan_batch([tmp_path / "in"], options, GroupingOptions()).jobs
    command = ["denoise", tmp_path / "in", "-o", tmp_path / "out", "--weights", weights]
    command += ["--format", "jpeg"]
    assert kpn(*command).exit_code == 0

    def warnings(**changed: object) -> tuple[str, ...]:
        return tuple(outlook.look_ahead(jobs, replace(options, **changed)).warnings())

    assert warnings() == warnings(headroom=True) == warnings(strength=2.0, overwrite=True) == ()
    (warning,) = warnings(strength=2.0)
    assert "made with other options (2 of 2 bursts compared); replace them with --over" in warning
    assert warning in kpn(*command, "--dry-run", "--strength", "2", "--quiet").stderr
    size = sum(path.stat().st_size for path in jobs[0].files)
    for most, compared in ((size + 100, 1), (size - 100, 0)):
        monkeypatch.setattr(outlook, "_COMPARED_BYTES", most)
        assert outlook.look_ahead(jobs, replace(options, strength=2.0)).compared == compared
    monkeypatch.undo()
    write_frame(jobs[1].files[0], 10, seed=99)
    assert "of other frames or made with other options (1 of 2 bursts" in warnings()[0]
    jobs[0] = replace(jobs[0], settings=(Setting("", 0.0),) * 2)  # a bracket
    assert "(2 of 2 bursts" in warnings(headroom=True)[0]


def test_dry_run_and_run_warn_of_a_small_disk(weights, tmp_path, little_space):
    write_bursts(tmp_path / "in", 2)
    command = ["denoise", tmp_path / "in", "-o", tmp_path / "out", "--weights", weights]
    told = "and only 1 kB are free there; free some space"
    for more in (["--dry-run"], ["--format", "dng"], ["-q", "--overwrite"]):
        result = kpn(*command, *more)
        assert result.exit_code == 0
        assert told in result.stderr
    document = json.loads(kpn(*command, "--dry-run", "--json", "--overwrite").stdout)
    (disk,) = document["estimate"]["disks"]
    assert disk["free"] == 1000 < disk["needed"]
    assert len(document["estimate"]["warnings"]) == 1


def test_files_of_a_group_that_the_user_made_have_sizes_too(tmp_path):
    write_bursts(tmp_path / "in", 1)
    (tmp_path / "in2").mkdir()
    (tmp_path / "in2" / "damaged.dng").write_bytes(b"II*\0")
    how = GroupingOptions(off=True)
    plan = run.plan_batch([tmp_path / "in", tmp_path / "in2"], Options(tmp_path), how)
    assert sorted(bool(job.pixels) for job in plan.jobs) == [False, True]
    look = outlook.look_at_space(plan.jobs, Options(tmp_path))
    assert look.unsized == 1 and "without 1 of unknown size" in look.space_text()


def test_a_disk_below_the_folder_of_outputs_is_named_by_its_own_folder(tmp_path, monkeypatch):
    disks = {tmp_path: 1, tmp_path / "card": 2}
    monkeypatch.setattr(outlook, "_device", disks.get)
    jobs = [_job(tmp_path / "card"), _job(tmp_path)]
    look = outlook.look_at_space(jobs, Options(tmp_path, formats="dng"))
    assert [disk.folder for disk in look.disks] == [tmp_path / "card", tmp_path]


# --- time -------------------------------------------------------------------


def test_time_is_that_of_the_last_run(tmp_path):
    options = Options(tmp_path)
    speed.keep_speed(options, [_job(tmp_path)] * 2, 60.0)
    look = outlook.look_ahead([_job(tmp_path, number=n) for n in range(20)], options)
    assert look.seconds == pytest.approx(600, rel=0.01)
    assert look.time_text() == "about 10 minutes, by the speed of the last run"
    single = outlook.look_ahead([_job(tmp_path, frames=1)], options)
    assert 10 < (single.seconds or 0) < 30


def test_the_speed_is_kept_for_device_arithmetic_network_and_threads(tmp_path, monkeypatch):
    speed.keep_speed(Options(tmp_path), [_job(tmp_path)], 60.0)
    assert speed.kept_speed(Options("elsewhere", formats="jpeg")) is not None
    for other in ({"precision": "fp32"}, {"strength": 0.0}, {"weights": "w"}, {"device": "cpu"}):
        assert speed.kept_speed(Options(tmp_path, **other)) is None
    monkeypatch.setattr(speed, "usable_cores", lambda: 999)  # as without --threads, or elsewhere
    assert speed.kept_speed(Options(tmp_path)) is None


@pytest.mark.parametrize(
    "seconds", [10**400, 1e300, -1, 0, "1", None, float("nan")], ids=list("abcdefg")
)
def test_a_speed_that_cannot_be_is_not_believed(seconds, tmp_path):
    options = Options(tmp_path)
    speed.keep_speed(options, [_job(tmp_path)], 60.0)
    (key,) = cache.load_facts("speed")
    cache.keep_facts("speed", {key: {"seconds": seconds}})
    assert speed.kept_speed(options) is None


def test_a_run_keeps_its_speed_unless_it_is_tiny_or_skips_bursts(tmp_path, weights, monkeypatch):
    write_bursts(tmp_path / "in", 2)
    options = Options(tmp_path / "out", weights=weights)
    command = ["denoise", tmp_path / "in", "-o", options.output, "--weights", weights]
    assert kpn(*command).exit_code == 0
    assert speed.kept_speed(options) is None
    monkeypatch.setattr(speed, "_LEAST_WORK", 0.0)
    assert kpn(*command).exit_code == 0  # everything is skipped
    assert speed.kept_speed(options) is None
    assert kpn(*command, "--overwrite").exit_code == 0
    kept = speed.kept_speed(options)
    assert kept is not None and kept.source == "by the speed of the last run"


def test_without_a_last_run_the_speed_is_measured_once(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(speed, "_TRIED_CELLS", 64)
    options = Options(tmp_path, weights=weights, device="cpu")
    look = outlook.look_ahead([_job(tmp_path)], options)
    assert look.source == "by a quick measurement" and look.seconds
    assert speed.kept_speed(options) == speed.Speed(
        pytest.approx(look.seconds / speed.work(_job(tmp_path)), rel=1e-3), look.source
    )


def test_time_that_cannot_be_known_is_no_error(tmp_path, monkeypatch):
    def fail(options: Options) -> speed.Speed:
        raise KpnError("there is no such network")

    monkeypatch.setattr(speed, "measure_speed", fail)
    look = outlook.look_ahead([_job(tmp_path)], Options(tmp_path))
    assert look.time_text() == "not known: there is no such network"
    assert "unknown" in outlook.look_ahead([_job(tmp_path, pixels=0)], Options(tmp_path)).source


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "none"),
        (59, "a minute or less"),
        (61, "about 1 minute"),
        (720, "about 12 minutes"),
        (12_000, "about 3 h 20 min"),
        (100_000, "about 28 hours"),
    ],
)
def test_times_are_told_as_people_do(seconds, text):
    assert outlook.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(1000, "1 kB"), (340e6, "340 MB"), (2.345e9, "2.3 GB"), (999.9e9, "1 TB"), (1.2e12, "1.2 TB")],
)
def test_sizes_are_told_as_people_do(size, text):
    assert outlook.size_text(size) == text
