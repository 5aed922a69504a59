"""Many bursts: found, shared out, resumed, and none of them able to stop the others."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import exifread
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from raw_files import BLACK, WHITE, scene

from kpn_cli.batch import overlap, plan
from kpn_cli.batch.plan import Grouping, Job
from kpn_cli.burst import files
from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError, PassingError
from kpn_cli.merge import merge
from kpn_cli.output import dng_tags, dng_writer
from kpn_cli.pipeline import denoise, fingerprint, loading
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_capture, read_info
from kpn_cli.system import files as system_files
from kpn_cli.system import memory

KPN_PROGRAM = Path(sys.executable).with_name("kpn")
TORCHRUN = Path(sys.executable).with_name("torchrun")
START = datetime(2026, 5, 6, 12, 0, 0)
SIZE = (64, 80)
#: So that the same burst gives the same bytes whenever it is written.
EPOCH = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "OMP_NUM_THREADS": "1"}


def write_frame(path: Path, at: float, seed: int = 0, size: tuple[int, int] = SIZE, **changes):
    """Write a frame taken so many seconds after noon."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng((seed, int(1000 * at))).normal(0, 40, size)
    mosaic = np.clip(scene(*size) + noise, 0, 65535).astype(np.uint16)
    tags = dng_tags.DngTags(
        "RGGB",
        (BLACK,) * 4,
        WHITE,
        make="Canikon",
        model="X1",
        iso=800.0,
        exposure_time=0.01,
        captured=START + timedelta(seconds=at),
    )
    dng_writer.write_cfa_dng(path, mosaic, replace(tags, **changes))


def write_bursts(folder: Path, count: int, frames: int = 2, size: tuple[int, int] = SIZE) -> None:
    """Write bursts, ten seconds apart."""
    for number in range(count):
        for n in range(frames):
            at = 10 * number + 0.1 * n + 0.05
            write_frame(folder / f"IMG_{number:03d}{n}.dng", at, number, size)


def kpn(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def denoised(*arguments: object, code: int = 0) -> dict:
    result = kpn("denoise", *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


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


def test_a_dry_run_without_bursts_shows_but_what_is_wrong(tmp_path):
    result = kpn("denoise", tmp_path, "--dry-run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{tmp_path}: no raw files below this folder" in result.stderr


def test_a_dry_run_says_that_results_are_no_frames(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0)
    document = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", "--weights", weights)
    result = kpn("denoise", document["bursts"][0]["outputs"]["dng"], "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 of the files are results of kpn" in result.stderr


def test_the_result_of_a_photo_without_a_time_does_not_pretend_to_one(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0, captured=None)
    how = ("--format", "dng,srgb,jpeg", "--weights", weights)
    document = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", *how)
    (result,) = document["bursts"]
    for path in result["outputs"].values():
        with open(path, "rb") as file:
            times = {tag for tag in exifread.process_file(file) if "DateTime" in tag}
        assert not times
    assert read_capture(Path(result["outputs"]["dng"])).captured is None


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(tmp_path):
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


def test_a_bracket_is_refused_and_the_rest_is_done(tmp_path, weights):
    write_bursts(tmp_path / "card", 1)
    for n, time_ in enumerate((0.01, 0.04, 0.0025)):
        write_frame(tmp_path / "card" / f"HDR_{n}.dng", 100 + n / 10, exposure_time=time_)
    out = tmp_path / "out"
    command = [tmp_path / "card", "-o", out, "--weights", weights, "--format", "dng"]
    document = denoised(*command, code=1)
    assert len(document["bursts"]) == 1
    assert len(document["failed"][0]["files"]) == 3
    assert "bracket" in document["failed"][0]["error"]


def test_no_group_and_burst_size_do_what_they_say(tmp_path):
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


def test_results_are_no_frames_even_where_they_are_named(tmp_path, weights):
    write_bursts(tmp_path, 1)
    options = ["--weights", weights, "--format", "dng"]
    assert kpn("denoise", tmp_path, "-o", tmp_path, *options).exit_code == 0
    assert len(list(tmp_path.glob("*.dng"))) == 3
    again = kpn("denoise", *sorted(tmp_path.glob("*.dng")), "-o", tmp_path / "out", *options)
    assert again.exit_code == 0
    assert "1 of the files are results of kpn" in again.stderr
    assert "2 frames used" in again.stderr


def test_bursts_that_race_for_a_name_never_replace_each_other(tmp_path, weights):
    loaded = []
    for n, folder in enumerate(("a", "b")):
        write_bursts(tmp_path / folder, 1 + n)
        options = Options(
            tmp_path / "out", formats=("dng", "srgb", "jpeg"), reference="first", weights=weights
        )
        files = sorted((tmp_path / folder).iterdir())[-2:]
        for path in files:
            path.rename(path.with_name(f"IMG_{path.name[-5:]}"))
        files = sorted((tmp_path / folder).glob("IMG_?.dng"))
        loaded.append(loading.load(files, options, fingerprint.options_digest(options)))
    engine = denoise.Engine(options)
    computed = [denoise.compute(each, options, engine) for each in loaded]
    first = denoise.write(computed[0], options)
    before = digests(tmp_path / "out")
    with pytest.raises(KpnError, match="is there already, by now"):
        denoise.write(computed[1], options)
    assert digests(tmp_path / "out") == before
    assert len(before) == len(first.outputs) == 3


def test_one_photo_in_two_formats_is_refused(tmp_path):
    write_bursts(tmp_path, 1)
    shutil.copy(tmp_path / "IMG_0000.dng", tmp_path / "IMG_0000.raw")
    document = denoised(tmp_path, "-o", tmp_path / "out", code=1)
    assert "one photo twice" in document["failed"][0]["error"]


def test_a_copy_of_a_frame_is_left_out(tmp_path, weights):
    write_bursts(tmp_path / "a", 1, frames=3)
    shutil.copy(tmp_path / "a" / "IMG_0000.dng", tmp_path / "a" / "IMG_0000 copy.dng")
    (done,) = denoised(
        tmp_path / "a", "-o", tmp_path / "out", "--weights", weights, "--format", "dng"
    )["bursts"]
    assert len(done["frames"]) == 3
    (why,) = done["dropped"].values()
    assert why.startswith("a copy of IMG_0000")


def test_what_cannot_be_looked_at_is_named_and_the_rest_is_found(tmp_path, monkeypatch):
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
    found, errors = files.find_below([tmp_path / "card", tmp_path / "me", tmp_path / "missing"])
    assert [file.path.name for file in found] == ["IMG_0000.dng", "IMG_0001.dng"]
    assert [file.below for file in found] == [Path("good")] * 2
    assert set(errors) == {tmp_path / "card" / "locked", tmp_path / "me", tmp_path / "missing"}
    assert "Permission denied" in str(errors[tmp_path / "card" / "locked"])


def test_any_name_will_do(tmp_path, weights):
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


# --- resuming ---------------------------------------------------------------


def test_outputs_say_what_they_are_made_of(tmp_path, weights):
    write_bursts(tmp_path / "a", 1)
    options = Options(tmp_path, formats=("dng", "linear", "srgb", "jpeg"), weights=weights)
    result = denoise.denoise([tmp_path / "a"], options)
    files = sorted((tmp_path / "a").iterdir())
    mark = fingerprint.fingerprint(
        [fingerprint.digest(f) for f in files], fingerprint.options_digest(options)
    )
    for path in result.outputs.values():
        assert fingerprint.is_made_of(path, mark)
        assert not fingerprint.is_made_of(path, bytes(16))
    assert denoise.denoise([tmp_path / "a"], options).skipped
    changed = [
        replace(options, strength=2.0),
        replace(options, weights=None),
        replace(options, reference="first"),
        replace(options, compression="none"),
    ]
    marks = {fingerprint.options_digest(each) for each in (options, *changed)}
    assert len(marks) == 5
    assert fingerprint.options_digest(replace(options, device="cpu", tile=96)) in marks


def test_a_changed_frame_is_noticed(tmp_path, weights):
    write_bursts(tmp_path / "a", 1)
    out = tmp_path / "out"
    command = [tmp_path / "a", "-o", out, "--weights", weights, "--reference", "first"]
    denoised(*command, "--format", "dng")
    changed = tmp_path / "a" / "IMG_0001.dng"
    stamp = changed.stat()
    write_frame(changed, 0.15, seed=9)
    os.utime(changed, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # not by its time
    document = denoised(*command, "--format", "dng", code=1)
    assert "made of other frames" in document["failed"][0]["error"]
    assert document["failed"][0]["files"] == [str(p) for p in sorted((tmp_path / "a").iterdir())]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, weights) -> tuple[list[object], dict[str, str]]:
    """A command that lacks its output's folder, and what it makes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_bursts(folder / "card", 3, frames=3)
    command = [KPN_PROGRAM, "denoise", folder / "card", "--weights", weights]
    command += ["--format", "dng,linear,jpeg", "-o"]
    subprocess.run([*command, folder / "out"], check=True, env=EPOCH, capture_output=True)
    return command, digests(folder / "out")


@pytest.mark.parametrize("moment", ["writing", "one", "two"])
def test_after_a_kill_the_same_command_gives_the_same_bytes(tmp_path, undisturbed, moment):
    command, whole = undisturbed
    cut = tmp_path / "cut"
    reached = {
        "writing": lambda: any(cut.glob(".kpn-*")),
        "one": lambda: any(cut.glob("*_kpn.dng")),
        "two": lambda: len(list(cut.glob("*_kpn.dng"))) > 1,
    }[moment]
    run = subprocess.Popen(
        [*command, cut], env=EPOCH, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not reached() and run.poll() is None:
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    run.wait()
    left = digests(cut)
    # What is there under its name is whole.
    assert {n: d for n, d in left.items() if ".kpn-" not in n}.items() <= whole.items()
    subprocess.run([*command, cut], check=True, env=EPOCH, capture_output=True)
    assert digests(cut) == whole


def test_what_another_process_is_writing_is_no_leftover(tmp_path):
    abandoned = tmp_path / ".kpn-0123456789ab.dng"
    abandoned.write_bytes(b"half of it")
    with system_files.atomic(tmp_path / "a.dng") as temporary:
        system_files.remove_abandoned(tmp_path)
        assert not abandoned.exists()
        assert temporary.exists()
        temporary.write_bytes(b"all of it")
        system_files.remove_abandoned(tmp_path)
        assert temporary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.dng"]


def test_a_temporary_file_taken_for_abandoned_is_made_anew(tmp_path, monkeypatch):
    flock, times = system_files.fcntl.flock, []

    def late(descriptor, operation):
        times.append(descriptor)
        if len(times) == 1:  # another process comes between creating and locking
            system_files.remove_abandoned(tmp_path)
        return flock(descriptor, operation)

    monkeypatch.setattr(system_files.fcntl, "flock", late)
    with system_files.atomic(tmp_path / "a.dng") as temporary:
        assert len(times) == 3
        temporary.write_bytes(b"all of it")
    assert (tmp_path / "a.dng").read_bytes() == b"all of it"


def test_only_what_kpn_names_so_is_a_leftover(tmp_path):
    for name in (".kpn-settings", ".kpn-0123456789ab", "kpn-0123456789ab.dng"):
        (tmp_path / name).write_text("mine")
    system_files.remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".kpn-settings", "kpn-0123456789ab.dng"}


# --- faults -----------------------------------------------------------------


def run_jobs(jobs, options, **changes):
    return list(overlap.denoise_all(jobs, options, **changes))


def test_a_crash_of_the_decoder_fails_the_burst_and_is_tried_again(tmp_path, weights):
    write_bursts(tmp_path / "card", 1, frames=3)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, Grouping(), read_capture).jobs

    def crash(path):
        if path.name == "IMG_0001.dng":
            raise PassingError("it crashes")
        return loading.read_planes(path)

    (outcome,) = run_jobs(jobs, options, read=crash)
    assert outcome.failure.error == "it crashes"
    (outcome,) = run_jobs(jobs, options)
    assert len(outcome.result.frames) == 3


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: x")]
)
def test_a_lack_of_memory_costs_one_burst(tmp_path, weights, error):
    write_bursts(tmp_path / "card", 2)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, Grouping(), read_capture).jobs

    def short(path):
        if path.name == "IMG_0000.dng":
            raise error
        return loading.read_planes(path)

    first, second = run_jobs(jobs, options, read=short)
    assert "--burst-size" in first.failure.error
    assert second.result is not None


def test_a_burst_larger_than_the_memory_is_refused_before_it_is_read(
    tmp_path, weights, monkeypatch
):
    write_bursts(tmp_path / "card", 1, frames=9)
    monkeypatch.setattr(loading, "free_memory", lambda device: 9000)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    with pytest.raises(KpnError, match=r"its 9 frames need .* --burst-size"):
        denoise.denoise([tmp_path / "card"], options)


def test_a_file_that_cannot_be_read_is_left_out(tmp_path, weights, monkeypatch):
    write_bursts(tmp_path / "card", 1, frames=3)
    digest = fingerprint.digest

    def bad_sector(path):
        if path.name == "IMG_0001.dng":
            raise KpnError(f"{path}: cannot be read (Input/output error)")
        return digest(path)

    def read(path):
        bad_sector(path)
        return loading.read_planes(path)

    monkeypatch.setattr(fingerprint, "digest", bad_sector)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, Grouping(), read_capture).jobs
    (outcome,) = run_jobs(jobs, options, read=read)
    assert len(outcome.result.frames) == 2
    monkeypatch.undo()  # the card is read at last
    (outcome,) = run_jobs(jobs, options)
    assert "made of other frames" in outcome.failure.error


def test_an_interrupt_ends_reading_after_the_frame_at_hand(tmp_path, weights):
    write_bursts(tmp_path / "card", 2, frames=4)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, Grouping(), read_capture).jobs
    seen = []
    go_on = threading.Event()

    def slow(path):
        seen.append(path)
        if len(seen) == 5:  # the second burst's first, while the first is denoised
            go_on.wait(60)
        return loading.read_planes(path)

    def interrupt(job, stage):
        if stage.name == "denoising":
            threading.Timer(0.5, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, options, read=slow, on_stage=interrupt)
    assert len(seen) == 5


def test_one_burst_that_fails_does_not_keep_the_others(tmp_path, weights):
    write_bursts(tmp_path / "card", 4)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, Grouping(), read_capture).jobs
    for path in jobs[1].files:
        path.unlink()  # vanished since
    jobs[2].files[0].unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "IMG_0030_kpn.dng").mkdir()  # in the way
    (tmp_path / "out" / "IMG_0031_kpn.dng").mkdir()
    found = run_jobs(jobs, options)
    assert [outcome.job for outcome in found] == jobs
    assert [outcome.failure is None for outcome in found] == [True, False, True, False]
    assert "no such file" in found[2].result.dropped[jobs[2].files[0]]
    assert "no such file" in found[1].failure.error
    assert not list((tmp_path / "out").glob(".kpn-*"))


def test_without_a_network_nothing_is_tried(tmp_path, weights):
    write_bursts(tmp_path / "card", 2)
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not weights")
    options = Options(tmp_path / "out", formats=("dng",), weights=wrong)
    jobs = plan.make_plan([tmp_path / "card"], options, Grouping(), read_capture).jobs
    with pytest.raises(KpnError, match=r"wrong\.safetensors"):
        run_jobs(jobs, options)


@pytest.mark.parametrize("kind", ["no folder", "system", "limit"])
def test_outputs_that_cannot_be_written_fail_burst_by_burst(tmp_path, weights, kind):
    write_bursts(tmp_path / "card", 2)
    out = tmp_path / "out"
    limit = None
    if kind == "no folder":
        out.write_bytes(b"a file")
        out /= "below"
    elif kind == "system":
        out = Path("/proc/kpn-cannot-be-here")
    else:
        limit = 3000  # bytes a file may have: the disk's answer to a file that is too large
    script = (
        "import resource, signal, sys\n"
        "from kpn_cli.cli.app import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"limit = {limit}\n"
        "limit and resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, "denoise", tmp_path / "card", "-o", out]
    command += ["--weights", weights, "--format", "dng,linear", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, env=EPOCH, timeout=250)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    document = json.loads(run.stdout)
    assert document["bursts"] == []
    assert len(document["failed"]) == 2
    assert all("cannot be written" in failure["error"] for failure in document["failed"])
    if out.is_dir():
        assert not list(out.iterdir())


def test_a_full_disk_leaves_whole_files_only(tmp_path, weights):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        write_bursts(tmp_path / "card", 6, size=(128, 160))
        document = denoised(
            tmp_path / "card", "-o", disk, "--weights", weights, "--format", "dng", code=1
        )
        failed = document["failed"]
        assert failed
        assert all("No space left" in failure["error"] for failure in failed)
        assert "Free some space" in failed[0]["error"]
        made = sorted(disk.iterdir())
        assert len(made) == len(document["bursts"]) == 6 - len(failed)
        for path in made:
            read_info(path)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_inputs_are_never_outputs_of_another_burst(tmp_path, weights):
    write_frame(tmp_path / "IMG_1.dng", 0.1)
    write_frame(tmp_path / "IMG_1_kpn.dng", 50.1)
    before = digests(tmp_path)
    document = denoised(
        *sorted(tmp_path.iterdir()), "-o", tmp_path, "--overwrite", "--weights", weights,
        "--format", "dng", code=1,
    )  # fmt: skip
    assert "replace an input" in document["failed"][0]["error"]
    assert before.items() <= digests(tmp_path).items()


# --- memory -----------------------------------------------------------------


def test_tiles_become_smaller_where_memory_ends(tmp_path, weights, monkeypatch):
    write_bursts(tmp_path / "a", 1, size=(300, 420))
    options = Options(tmp_path / "out", formats=("dng",), weights=weights, tile=768)
    tried = []
    real = merge.denoise_frames

    def short(*arguments, tile, **options):
        tried.append(tile)
        if tile > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments, tile=tile, **options)

    monkeypatch.setattr(merge, "denoise_frames", short)
    assert denoise.denoise([tmp_path / "a"], options).outputs["dng"].exists()
    assert tried == [768, 384, 192]

    def never(*arguments, tile, **options):
        tried.append(tile)
        raise MemoryError

    monkeypatch.setattr(merge, "denoise_frames", never)
    with pytest.raises(KpnError, match="need more memory than there is"):
        denoise.denoise([tmp_path / "a"], replace(options, overwrite=True))
    assert tried[-1] == merge.SMALLEST_TILE


def test_tiles_fit_into_the_memory_that_is_free():
    sides = [merge.tile_for(free << 20, 8) for free in (64000, 4000, 300, 100, 1)]
    assert sides[:2] == [merge.DEFAULT_TILE] * 2
    assert sides == sorted(sides, reverse=True)
    assert sides[2] < merge.DEFAULT_TILE
    assert sides[-1] == merge.SMALLEST_TILE
    assert merge.tile_for(300 << 20, 1) >= sides[2] > merge.tile_for(300 << 20, 300)


def test_limits_of_the_control_group_count(tmp_path, monkeypatch):
    group = tmp_path / "user" / "job"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text("")
    (tmp_path / "user" / "memory.stat").write_text("anon 5\nactive_file 300\ninactive_file 200\n")
    (tmp_path / "user" / "memory.max").write_text("5000\n")
    (tmp_path / "user" / "memory.current").write_text("2000\n")
    monkeypatch.setattr(memory, "_own_cgroups", lambda: [group, group.parent, tmp_path])
    assert memory.free_memory(torch.device("cpu")) == 3500
    monkeypatch.setattr(memory, "_own_cgroups", list)
    assert memory.free_memory(torch.device("cpu")) > 1 << 20


def test_two_hundred_bursts_leave_memory_as_it_was(tmp_path, weights):
    """A week in small; in a process of its own, whose memory is nothing but this."""
    write_bursts(tmp_path / "card", 1, frames=3)
    files = sorted((tmp_path / "card").iterdir())
    script = """
import sys, psutil
from pathlib import Path
from kpn_cli.batch.overlap import denoise_all
from kpn_cli.pipeline.options import Options
from kpn_cli.batch.plan import Job
*files, weights, out = map(Path, sys.argv[1:])
options = Options(out, formats=("dng", "jpeg"), weights=weights, overwrite=True)
jobs = [Job(tuple(files), out, "")] * 200
memory = []
for outcome in denoise_all(jobs, options):
    assert outcome.failure is None, outcome.failure
    memory.append(psutil.Process().memory_info().rss)
early, late = max(memory[40:60]), max(memory[-20:])
print(len(memory), late / early)
"""
    command = [sys.executable, "-c", script, *files, weights, tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=EPOCH)
    count, growth = run.stdout.split()
    assert int(count) == 200
    assert float(growth) < 1.05


# --- several processes ------------------------------------------------------


def test_two_processes_share_the_bursts_and_say_it_once(tmp_path, weights):
    write_bursts(tmp_path / "card", 5)
    (tmp_path / "card" / "bad.dng").write_bytes(b"")
    options = ["--weights", weights, "--format", "dng", "--json"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    command = [KPN_PROGRAM, "denoise", tmp_path / "card", "-o", alone, *options]
    one = subprocess.run(command, capture_output=True, text=True, env=EPOCH)
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "kpn_cli", "denoise"]
    command += [tmp_path / "card", "-o", shared, *options]
    two = subprocess.run(command, capture_output=True, text=True, env=EPOCH, timeout=250)
    assert one.returncode == two.returncode == 1  # the bad one
    assert digests(alone) == digests(shared)
    said = [json.loads(run.stdout) for run in (one, two)]
    for key in ("reference", "frames", "noise", "shifts"):
        assert [b[key] for b in said[0]["bursts"]] == [b[key] for b in said[1]["bursts"]]
    assert said[0]["failed"] == said[1]["failed"]


def test_jobs_of_nothing_are_nothing(tmp_path):
    assert run_jobs([], Options(tmp_path)) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    assert Job((), tmp_path, "").files == ()
