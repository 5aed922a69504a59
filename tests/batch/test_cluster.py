"""On a cluster, a batch gives the same bytes and the same summary as in one process."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cards import EPOCH, denoised, digests, write_bursts
from clusters import two_workers, wait_for_workers
from command_line import kpn

from kpn_cli.batch import cluster_worker, plan
from kpn_cli.batch.cluster import _as_given, _check
from kpn_cli.batch.cluster_worker import Arithmetic, Order, look, weights_digest, work
from kpn_cli.batch.plan import GroupingOptions
from kpn_cli.batch.read_ahead import BurstOutcome
from kpn_cli.cli.batch_view import BatchView
from kpn_cli.errors import KpnError
from kpn_cli.pipeline import denoise as pipeline
from kpn_cli.pipeline import loading
from kpn_cli.pipeline.fingerprint import options_digest
from kpn_cli.pipeline.options import Options
from kpn_cli.pipeline.result import Failure, Result
from kpn_cli.raw.reader import read_capture
from kpn_cli.system import files
from kpn_cli.system.cluster import Cluster
from kpn_cli.system.cluster_task import Again, Unfit
from kpn_cli.system.shared import shared_paths


@pytest.fixture
def dask(dask_cluster):
    return ["--dask", dask_cluster.scheduler_address]


@pytest.fixture(autouse=True)
def _epoch(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH["SOURCE_DATE_EPOCH"])


def without_times(document):
    varying = ("seconds", "timings")
    return [{k: v for k, v in burst.items() if k not in varying} for burst in document["bursts"]]


def test_the_bytes_the_summary_and_the_report_are_those_of_one_process(
    tmp_path, weights, dask_cluster, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_bursts(tmp_path / "card", 3)
    (tmp_path / "card" / "bad.dng").write_bytes(b"")
    options = ["card", "-o", "out", "--weights", weights, "--format", "dng,jpeg", "--report"]
    # Workers started before SOURCE_DATE_EPOCH was set: that of the client counts.
    said = denoised(*options, "--dask", dask_cluster.scheduler_address, code=1)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    pages = (tmp_path / "out/report.html").read_text()
    (tmp_path / "out").rename(tmp_path / "cluster")
    alone = denoised(*options, code=1)
    assert made == {path.name for path in (tmp_path / "out").iterdir()}
    for name in made:
        if name.endswith((".dng", ".jpg", ".xmp")):
            assert (tmp_path / "out" / name).read_bytes() == (
                tmp_path / "cluster" / name
            ).read_bytes()
    assert without_times(said) == without_times(alone)
    assert said["failed"] == alone["failed"]
    assert pages.count("<!-- kpn section") == 3
    again = denoised(*options, "--dask", dask_cluster.scheduler_address, code=1)
    assert all(burst["skipped"] for burst in again["bursts"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_worker_costs_no_burst(tmp_path, weights):
    write_bursts(tmp_path / "card", 6)
    out = tmp_path / "out"
    command = ["denoise", tmp_path / "card", "-o", out, "--weights", weights, "--format", "dng"]
    with (
        two_workers() as cluster
    ):  # of its own: a nanny gives up a worker that dies while it starts
        wait_for_workers(lambda: len(cluster.scheduler.workers))

        def kill():
            while not any(out.glob("*_kpn.dng")):
                time.sleep(0.01)
            pids = [worker.pid for worker in cluster.workers.values()]
            os.kill(pids[0], signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        result = kpn(*command, "--dask", cluster.scheduler_address)
        killer.join(60)
    assert result.exit_code == 0, result.output
    assert len(list(out.iterdir())) == 6  # no half file is left under a hidden name either


# --- what a worker does ----------------------------------------------------------------


@pytest.fixture
def order(tmp_path, weights, monkeypatch):
    """The order of a run of two bursts, whose worker this process is, and its jobs."""
    monkeypatch.setattr(cluster_worker, "worker_threads", lambda: 1)
    monkeypatch.setattr(cluster_worker, "FOLDER_SECONDS", 0)
    monkeypatch.setattr("kpn_cli.system.shared.FOLDER_SECONDS", 0.3)
    monkeypatch.setattr(cluster_worker, "limit_threads", lambda number: None)
    write_bursts(tmp_path / "card", 2)
    options = Options(tmp_path / "out", formats=("dng",), weights=weights)
    jobs = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    (tmp_path / "out").mkdir()
    marker = tmp_path / "out" / ".marker"
    marker.touch()
    paths = shared_paths(marker, jobs[0].files)
    run = f"run of {tmp_path}"
    digest = options_digest(options)
    yield Order(run, options, digest, weights_digest(options), paths, 1, 2), jobs
    cluster_worker.end_run(run)


def do(order, job):
    return work(job, order)


def test_a_worker_that_differs_says_how(order, tmp_path):
    order, _ = order
    assert isinstance(look(order), Arithmetic)
    assert "has other weights" in look(replace(order, weights="0" * 64))
    other = replace(order, arithmetic=Arithmetic("cuda:0", "bf16", "bf16"))
    assert "the others in bf16 on cuda:0" in look(other)
    missing = Options(tmp_path / "out", weights=tmp_path / "none.safetensors")
    assert "does not see the weights" in look(replace(order, options=missing))


def test_workers_that_compute_differently_are_refused():
    fp32, bf16 = Arithmetic("cpu", "fp32", "fp32"), Arithmetic("cpu", "bf16", "bf16")
    assert _check({"a": fp32, "b": fp32}) == fp32
    with pytest.raises(KpnError, match="give --device and --precision that all have"):
        _check({"a": fp32, "b": bf16})
    with pytest.raises(KpnError, match="worker b is too old"):
        _check({"a": fp32, "b": "is too old"})


def test_a_worker_without_the_folder_makes_none_in_its_place(order, tmp_path):
    order, jobs = order
    assert do(order, jobs[0]).outcome.result is not None
    (tmp_path / "out").rename(tmp_path / "away")
    assert isinstance(do(order, jobs[1]), Unfit)
    assert not (tmp_path / "out").exists()
    threading.Timer(0.1, lambda: (tmp_path / "away").rename(tmp_path / "out")).start()
    assert do(order, jobs[1]).outcome.result is not None


def test_frames_that_are_out_of_reach_are_not_taken_for_damaged(order, tmp_path, monkeypatch):
    order, jobs = order
    digest = loading.file_digest

    def vanish(path):
        if path == jobs[0].files[1]:
            path.parent.rename(tmp_path / "away")
            threading.Timer(0.2, lambda: (tmp_path / "away").rename(path.parent)).start()
        return digest(path)

    monkeypatch.setattr(loading, "file_digest", vanish)
    answer = do(order, jobs[0])
    assert isinstance(answer, Again)
    assert "has vanished since kpn found it" in answer.answer.outcome.failure.error
    assert not list((tmp_path / "out").glob("*.dng"))


def test_a_worker_that_loses_the_photos_leaves_the_burst_to_others(order, tmp_path):
    order, jobs = order
    (tmp_path / "card").rename(tmp_path / "away")
    answer = do(order, jobs[0])
    assert isinstance(answer, Unfit)
    assert "put the photos on a disk that all share" in answer.reason


def test_what_is_written_while_the_folder_vanishes_is_done_again(order, tmp_path, monkeypatch):
    order, jobs = order
    write = pipeline.write_computed

    def write_and_vanish(*arguments):
        result = write(*arguments)
        (tmp_path / "out").rename(tmp_path / "away")
        return result

    monkeypatch.setattr(pipeline, "write_computed", write_and_vanish)
    assert do(order, jobs[0]) == Unfit(order.paths.vanished)


def test_outcomes_have_the_paths_that_the_user_gave(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = Path("card/a.dng"), Path("card/b.dng")
    job = plan.Job(frames, Path("out"), "named")
    a, b = (path.absolute() for path in frames)
    second = a.with_name("b.dng#1")
    output = {"dng": Path("out/a_kpn.dng").absolute()}
    found = _as_given(BurstOutcome(job, Result(a, [a], output, dropped={b: "", second: ""})), job)
    assert found.result == Result(
        frames[0],
        [frames[0]],
        {"dng": Path("out/a_kpn.dng")},
        dropped={frames[1]: "", Path("card/b.dng#1"): ""},
    )


def test_a_failed_write_is_tried_again(order, monkeypatch):
    order, jobs = order

    def fail(*arguments):
        raise KpnError("cannot be written")

    monkeypatch.setattr(pipeline, "write_computed", fail)
    assert isinstance(do(order, jobs[0]), Again)


def test_a_stopped_run_begins_nothing(order, monkeypatch):
    order, jobs = order
    monkeypatch.setattr(cluster_worker, "is_stopped", lambda run: run == order.run)
    assert do(order, jobs[0]) is None


def test_what_is_done_before_the_scheduler_goes_is_told_and_reported(
    tmp_path, weights, dask, monkeypatch
):
    def goes(self, *arguments, **settings):
        yield next(work_on(self, *arguments, **settings))
        raise KpnError("the scheduler is gone")

    work_on = Cluster.work_on
    monkeypatch.setattr(Cluster, "work_on", goes)
    write_bursts(tmp_path / "card", 2)
    command = ["denoise", tmp_path / "card", "-o", tmp_path / "out", "--weights", weights]
    result = kpn(*command, "--format", "dng", "--report", "--json", *dask)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert len(document["bursts"]) == 1
    failed = {"files": [str(tmp_path / "card")], "error": "the scheduler is gone"}
    assert document["failed"] == [failed]
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_cluster_has_one_bar():
    view = BatchView(None)
    view._bursts = view._bars.add_task("bursts", total=9)
    view.on_workers(2)
    (bar,) = (task for task in view._bars.tasks if task.visible)
    assert bar.description == "bursts on 2 workers"
    alone = BatchView(None)
    alone.on_workers(1)
    assert [task.description for task in alone._bars.tasks] == ["on 1 worker"]


def test_two_batches_on_one_burst_write_it_once(tmp_path, weights):
    write_bursts(tmp_path / "card", 1)
    options = Options(tmp_path / "out", formats=("dng", "linear"), weights=weights)
    (job,) = plan.make_plan([tmp_path / "card"], options, GroupingOptions(), read_capture).jobs
    options = replace_name(options, job)
    engine = pipeline.Engine(options)
    digest = options_digest(options)
    both = [
        pipeline.compute(loading.load_burst(job.files, options, digest), options, engine)
        for _ in range(2)
    ]
    first = pipeline.write_computed(both[0], options)
    before = digests(tmp_path / "out")
    first.outputs["linear"].unlink()  # as if the other batch had not written it yet
    second = pipeline.write_computed(both[1], options)
    assert digests(tmp_path / "out").keys() == before.keys()
    assert first.outputs == second.outputs
    name = first.outputs["dng"].name
    assert digests(tmp_path / "out")[name] == before[name]


def replace_name(options, job):
    return replace(options, output=job.folder, name=job.name)


def test_failures_name_paths_as_the_user_gave_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = plan.Job((Path("card/a.dng"),), Path("card"), "named")
    told = f"{tmp_path}/card/a_kpn.dng: not {tmp_path}/card2, {tmp_path}/card: no, {tmp_path}/card"
    outcome = _as_given(BurstOutcome(job, failure=Failure(job.files, told)), job)
    assert outcome.failure.error == f"card/a_kpn.dng: not {tmp_path}/card2, card: no, card"
    here = plan.Job((Path("a.dng"),), Path(), "named")
    outcome = _as_given(BurstOutcome(here, failure=Failure(here.files, f"{tmp_path}/b: no")), here)
    assert outcome.failure.error == "b: no"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, weights, monkeypatch):
    def refuse(path, *arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    (tmp_path / "ro").mkdir()
    monkeypatch.setattr(files.os, "open", refuse)
    with (
        pytest.raises(KpnError, match="ro: cannot be written: Read-only file"),
        files.scratch_file(tmp_path / "ro" / "run"),
    ):
        pass


# --- usage -------------------------------------------------------------------------------


def test_wrong_use_is_a_line(tmp_path, monkeypatch):
    write_bursts(tmp_path / "card", 1)
    command = ["denoise", tmp_path / "card", "-o", tmp_path / "out"]
    result = kpn(*command, "--dask", "local", "--crop", "0,0,64,64")
    assert result.exit_code == 2
    assert "leave out --dask" in result.stderr
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = kpn(*command, "--dask", "local")
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_weights_that_workers_do_not_have_are_refused_before_any_work(
    tmp_path, weights, dask, monkeypatch
):
    write_bursts(tmp_path / "card", 1)
    monkeypatch.setattr(cluster_worker, "weights_digest", lambda options: "0" * 64)
    command = ["denoise", tmp_path / "card", "-o", tmp_path / "out", "--weights", weights]
    result = kpn(*command, *dask)
    assert result.exit_code == 1
    assert re.search(r"kpn: --dask: worker tcp://\S+ has other weights", result.stderr)
    assert not list((tmp_path / "out").iterdir())
