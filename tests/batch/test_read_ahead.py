"""No burst can stop the others, and a killed run can be resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cards import EPOCH, denoised, digests, write_bursts, write_frame
from command_line import KPN_PROGRAM

from kpn_cli.batch import plan, read_ahead
from kpn_cli.batch.plan import GroupingOptions, Job
from kpn_cli.errors import KpnError, TransientError
from kpn_cli.pipeline import denoise, fingerprint, loading
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_capture, read_info

needs_limits = pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of resources")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, weights) -> tuple[list[object], dict[str, str]]:
    """A command that lacks its output's folder, and what it makes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_bursts(folder / "card", 3, frames=3)
    command = [KPN_PROGRAM, "denoise", folder / "card", "--weights", weights]
    command += ["--format", "dng,linear,jpeg", "-o"]
    subprocess.run([*command, folder / "out"], check=True, env=EPOCH, capture_output=True)
    return command, digests(folder / "out")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
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


def run_jobs(jobs, options, **changes):
    return list(read_ahead.denoise_all(jobs, options, **changes))


def test_a_crash_of_the_decoder_fails_the_burst_and_the_next_run_retries(tmp_path, weights):
    write_bursts(tmp_path / "card", 1, frames=3)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs

    def crash(path):
        if path.name == "IMG_0001.dng":
            raise TransientError("it crashes")
        return loading.read_packed(path)

    (outcome,) = run_jobs(jobs, options, read=crash)
    assert outcome.failure.error == "it crashes"
    (outcome,) = run_jobs(jobs, options)
    assert len(outcome.result.frames) == 3


def test_finished_bursts_load_no_network(tmp_path, weights, monkeypatch):
    write_bursts(tmp_path / "card", 2)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    run_jobs(jobs, options)
    made = []
    monkeypatch.setattr(denoise, "Engine", made.append)
    assert all(outcome.result.skipped for outcome in run_jobs(jobs, options))
    assert not made


def test_a_network_that_cannot_be_loaded_ends_the_batch(tmp_path):
    write_bursts(tmp_path / "card", 2)
    options = Options(tmp_path / "out", formats=("dng",), weights=tmp_path / "card/IMG_0000.dng")
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    with pytest.raises(KpnError, match=r"IMG_0000\.dng: damaged or not weights"):
        run_jobs(jobs, options)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: x")]
)
def test_a_lack_of_memory_costs_one_burst(tmp_path, weights, error):
    write_bursts(tmp_path / "card", 2)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs

    def short(path):
        if path.name == "IMG_0000.dng":
            raise error
        return loading.read_packed(path)

    first, second = run_jobs(jobs, options, read=short)
    assert "--burst-size" in first.failure.error
    assert second.result is not None


def test_a_file_that_cannot_be_read_is_left_out(tmp_path, weights, monkeypatch):
    write_bursts(tmp_path / "card", 1, frames=3)
    file_digest = fingerprint.file_digest

    def bad_sector(path):
        if path.name == "IMG_0001.dng":
            raise KpnError(f"{path}: cannot be read (Input/output error)")
        return file_digest(path)

    def read(path):
        bad_sector(path)
        return loading.read_packed(path)

    monkeypatch.setattr(loading, "file_digest", bad_sector)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    (outcome,) = run_jobs(jobs, options, read=read)
    assert len(outcome.result.frames) == 2
    monkeypatch.undo()  # the card is read at last
    (outcome,) = run_jobs(jobs, options)
    assert "made of other frames" in outcome.failure.error


def test_an_interrupt_ends_reading_after_the_current_frame(tmp_path, weights):
    write_bursts(tmp_path / "card", 2, frames=4)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    seen = []
    go_on = threading.Event()

    def slow(path):
        seen.append(path)
        if len(seen) == 5:  # the second burst's first, while the first is denoised
            go_on.wait(60)
        return loading.read_packed(path)

    def interrupt(job, stage):
        if stage.name == "denoising":
            threading.Timer(0.5, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, options, read=slow, on_stage=interrupt)
    assert len(seen) == 5


def test_a_burst_that_fails_does_not_stop_the_others(tmp_path, weights):
    write_bursts(tmp_path / "card", 4)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
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


def test_unusable_weights_end_the_run(tmp_path, weights):
    write_bursts(tmp_path / "card", 2)
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not weights")
    options = Options(tmp_path / "out", formats=("dng",), weights=wrong)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    with pytest.raises(KpnError, match=r"wrong\.safetensors"):
        run_jobs(jobs, options)


@needs_limits
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


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk as Linux does")
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


def test_memory_does_not_grow_over_a_hundred_bursts(tmp_path, weights):
    """A day in small; in a process of its own, whose memory is nothing but this."""
    write_bursts(tmp_path / "card", 1, frames=3)
    files = sorted((tmp_path / "card").iterdir())
    script = """
import sys, psutil
from pathlib import Path
from kpn_cli.batch.read_ahead import denoise_all
from kpn_cli.pipeline.options import Options
from kpn_cli.batch.plan import Job
*files, weights, out = map(Path, sys.argv[1:])
options = Options(out, formats=("dng", "jpeg"), weights=weights, overwrite=True)
jobs = [Job(tuple(files), out, "")] * 110
memory = []
for outcome in denoise_all(jobs, options):
    assert outcome.failure is None, outcome.failure
    memory.append(psutil.Process().memory_info().rss)
early, late = max(memory[20:40]), max(memory[-20:])
print(len(memory), late / early)
"""
    command = [sys.executable, "-c", script, *files, weights, tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=EPOCH)
    count, growth = run.stdout.split()
    assert int(count) == 110
    assert float(growth) < 1.03


def test_no_jobs_give_no_outcomes(tmp_path):
    assert run_jobs([], Options(tmp_path)) == []
    assert Job((), tmp_path, "").files == ()


def test_when_the_last_burst_is_read_nothing_more_is(tmp_path, weights):
    """Then the processes that decode files end: their memory is needed."""
    write_bursts(tmp_path / "card", 3)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    events = []

    def read(path, image=0):
        events.append(path)
        return loading.read_packed(path, image)

    given = {"read": read, "on_all_read": lambda: events.append("all")}
    done = list(read_ahead.denoise_all(jobs, options, **given))
    assert all(outcome.result for outcome in done)
    assert events.count("all") == 1
    assert events[-1] == "all"
