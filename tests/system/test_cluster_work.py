"""Each piece of work ends once, whatever the workers answer; with a stand-in for Dask's client."""

from __future__ import annotations

import pickle

import pytest

from kpn_cli.errors import KpnError
from kpn_cli.system import cluster_here, cluster_work
from kpn_cli.system.cluster_task import Lost, Unfit


class Future:
    def __init__(self, outcome):
        self.outcome = outcome
        self.status = "error" if isinstance(outcome, BaseException) else "finished"

    def exception(self):
        return self.outcome

    def result(self, timeout):
        assert timeout
        if self.outcome is None:
            raise RuntimeError("the worker that had it died")
        return self.outcome

    def add_done_callback(self, function):
        function(self)


class Cluster:
    """A cluster whose workers answer `outcomes` in turn; it is its own client."""

    patience = 0.2

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.client = self
        self.run = "run"
        self.present = [{"a": 1, "b": 1}]
        self.submitted, self.stops = [], 0

    def submit(self, item, **settings):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        self.submitted.append((item, settings.get("workers")))
        return Future(outcome(item) if callable(outcome) else outcome)

    def workers(self):
        return self.present.pop(0) if len(self.present) > 1 else self.present[0]

    def wait_for_scheduler(self):
        pass

    def stop(self):
        self.stops += 1

    def cancel(self, futures):
        pass

    def no_workers(self):
        return KpnError("no workers")


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch):
    monkeypatch.setattr(cluster_work, "_LOOK_SECONDS", 0.05)


def done(worker="a"):
    return lambda item: (worker, "", pickle.dumps(f"done {item}"))


def killed():
    distributed = pytest.importorskip("distributed")
    return distributed.KilledWorker.__new__(distributed.KilledWorker)


def batch(cluster, count, lines=None):
    tell = (lambda line: None) if lines is None else lines.append
    items = range(count)
    return cluster_work.Batch(cluster, lambda n: (n,), items, tell, lambda *counts: None)


def test_work_that_could_not_be_handed_in_is_handed_in_again():
    cluster = Cluster(OSError("no connection"), done(), OSError("no connection"), done())
    assert list(batch(cluster, 2).results([])) == [(0, "done 0"), (1, "done 1")]


def test_an_answer_that_is_lost_on_its_way_is_made_again():
    assert list(batch(Cluster(None, done()), 1).results([])) == [(0, "done 0")]


def test_an_answer_that_cannot_be_read_here_ends_and_the_others_are_done():
    # From another version of Python: pathlib._local, say.
    unreadable = ("a", "", b"cpathlib._nowhere\nPath\n.")
    cluster = Cluster(unreadable, done(), *[unreadable] * 20)
    second, first = batch(cluster, 2).results([])
    assert second == (1, "done 1")
    assert "no answer of a worker can be read here (ModuleNotFoundError" in first[1].reason
    assert len(cluster.submitted) == 6


def test_an_answer_that_never_arrives_ends():
    ((_, lost),) = batch(Cluster(*[None] * 20), 1).results([])
    assert "RuntimeError: the worker that had it died" in lost.reason


def test_after_ctrl_c_work_whose_workers_died_does_not_begin_again():
    cluster, interrupts = Cluster(done(), killed()), []
    results = batch(cluster, 2).results(interrupts)
    assert next(results) == (0, "done 0")
    interrupts.append(2)
    assert list(results) == []
    assert len(cluster.submitted) == 2
    assert cluster.stops == 1


def test_workers_that_come_after_ctrl_c_are_told_to_stop():
    cluster, interrupts = Cluster(done()), [2]
    cluster.present = [{"a": 1}, {"a": 1, "b": 1}]
    work = batch(cluster, 1)
    work._stop()
    work._look()
    before = cluster.stops
    work._looked -= 1
    work._look()
    assert cluster.stops == before + 1
    assert list(work.results(interrupts)) == []


def test_an_unfit_worker_does_not_end_a_run_that_others_work_on(monkeypatch):
    monkeypatch.setattr(cluster_work, "_LOOK_SECONDS", 0)
    lines = []
    cluster = Cluster(*[("b", "sees no photos", None)] * 3, done())
    cluster.patience = -1  # one look without a fit worker would end the run
    assert list(batch(cluster, 1, lines).results([])) == [(0, "done 0")]
    assert cluster.submitted[1:] == [(0, ["a"])] * 3
    assert lines == ["worker b sees no photos; others do its work"]


def test_that_no_worker_is_left_is_told_and_that_one_comes():
    lines = []
    cluster = Cluster()
    cluster.present = [{"a": 1, "b": 1}, {"b": 1}, {}, {}, {"c": 1}, {"c": 1}]
    looks(cluster, lines)
    assert lines == [
        "worker a has gone; others do its work",
        "worker b has gone; no other worker is left; waiting up to 0.2 s for one",
        "worker c is there; the work goes on",
    ]


def looks(cluster, lines):
    work = batch(cluster, 1, lines)
    for _ in range(len(cluster.present)):
        work._looked = 0
        work._look()
    return work


def test_an_unfit_worker_without_others_is_told_so():
    lines = []
    cluster = Cluster()
    cluster.present = [{"a": 1}]
    looks(cluster, lines)._is_unfit("a", "is too old")
    assert lines == ["worker a is too old; no other worker is left; waiting up to 0.2 s for one"]


def test_that_the_only_worker_is_fit_again_is_told():
    lines = []
    cluster = Cluster(("a", "sees no photos", None), done())
    cluster.present = [{"a": 1}]
    list(batch(cluster, 1, lines).results([]))
    assert lines[1:] == ["worker a is there; the work goes on"]


def test_many_workers_that_come_and_go_are_few_lines():
    lines = []
    cluster = Cluster()
    cluster.present = [{"stays": 1, str(n): 1} for n in range(400)]
    work = looks(cluster, lines)
    assert len(lines) == 11
    assert lines[-1] == "320 workers have gone so far; others do its work"
    lines.clear()
    for n in range(400):
        work._is_unfit(str(n), "is too old")
    assert len(lines) == 11


def test_a_worker_that_answers_is_fit_again():
    unfit_b, unfit_a = ("b", "sees no photos", None), ("a", "sees no photos", None)
    cluster = Cluster(unfit_b, done("b"), unfit_a, done("b"))
    assert dict(batch(cluster, 2).results([])) == {0: "done 0", 1: "done 1"}
    assert cluster.submitted[2:] == [(0, ["a"]), (0, ["b"])]


def test_a_run_without_a_fit_worker_ends():
    unfit = pickle.dumps(Unfit("sees no photos"))
    cluster = Cluster(*[("b", "", unfit), ("a", "sees nothing", None)] * 10**4)
    with pytest.raises(KpnError, match="no worker can do the work: a worker sees no"):
        list(batch(cluster, 1).results([]))


def test_a_run_without_workers_ends():
    cluster = Cluster(*[("b", "", pickle.dumps(None))] * 10**4)
    cluster.present = [{}]
    with pytest.raises(KpnError, match="no workers"):
        list(batch(cluster, 1).results([]))


def test_what_kills_workers_is_tried_once_more_alone_when_the_others_are_done():
    cluster = Cluster(killed(), done(), killed())
    first, second = batch(cluster, 2).results([])
    assert first == (1, "done 1")
    assert isinstance(second[1], Lost)
    assert [item for item, _ in cluster.submitted] == [0, 1, 0]


# --- workers on this machine ------------------------------------------------------------


def test_workers_that_die_while_they_start_are_a_line():
    with pytest.raises(KpnError, match="they end while they start"):
        cluster_here.wait_for(cluster_of(0, 2), 2)
    cluster_here.wait_for(cluster_of(1, 1), 2)  # goes on with one


def cluster_of(started, dead):
    def nanny(name):
        return type("Nanny", (), {"status": type("Status", (), {"name": name})})

    nannies = [nanny("running")] * started + [nanny("failed")] * dead
    scheduler = type("Scheduler", (), {"workers": range(started)})
    return type("Cluster", (), {"scheduler": scheduler, "workers": dict(enumerate(nannies))})
