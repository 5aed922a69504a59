"""Work on a cluster ends once for each item, whatever happens to workers and scheduler."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter, namedtuple
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from clusters import two_workers, wait_for_workers

from kpn_cli.errors import KpnError
from kpn_cli.system import cluster as module
from kpn_cli.system import cluster_task, cluster_work
from kpn_cli.system.cluster import connect
from kpn_cli.system.cluster_here import LocalSize, local_size
from kpn_cli.system.cluster_task import Again, Lost, Unfit


@contextmanager
def connected(cluster):
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with connect(cluster.scheduler_address, patience=30) as connection:
        wait_for_workers(lambda: len(connection.workers()))
        yield connection


@pytest.fixture
def workers(dask_cluster):
    with connected(dask_cluster) as connection:
        yield connection


@pytest.fixture
def mortal_workers():
    """Of a cluster of their own: a nanny gives up a worker that dies while it starts."""
    with two_workers() as cluster, connected(cluster) as connection:
        yield connection


def results(connection, work, items, *args, **changes) -> dict:
    answers = list(connection.work_on(work, items, *args, **changes))
    assert max(Counter(item for item, _ in answers).values()) == 1
    return dict(answers)


def doubled(item):
    return 2 * item


def test_each_item_is_done_once(workers):
    assert results(workers, doubled, range(40)) == {n: 2 * n for n in range(40)}


def kills_once(item, folder):
    if item == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


needs_kill = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


@needs_kill
def test_another_worker_does_the_work_of_a_killed_one(mortal_workers, tmp_path):
    answers = results(mortal_workers, kills_once, range(8), tmp_path)
    assert answers == {n: n for n in range(8)}


def always_kills(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@needs_kill
def test_an_item_that_kills_each_worker_is_lost_and_the_others_are_done(mortal_workers):
    answers = results(mortal_workers, always_kills, range(6))
    assert isinstance(answers.pop(3), Lost)
    assert answers == {n: n for n in range(6) if n != 3}


def unfit_in(item, pid):
    if os.getpid() == pid:
        time.sleep(0.1)
        return Unfit("is too old")
    return item


def own_pid():
    return os.getpid()


def test_the_work_of_an_unfit_worker_goes_to_others_with_one_line(workers):
    address, pid = next(iter(workers.ask_all(own_pid).items()))
    lines = []
    answers = results(workers, unfit_in, range(8), pid, tell=lines.append)
    assert answers == {n: n for n in range(8)}
    assert lines == [f"worker {address} is too old; others do its work"]


def test_the_run_ends_when_no_worker_is_fit_for_long(workers, monkeypatch):
    workers.patience = 0.3
    monkeypatch.setattr(cluster_work, "_LOOK_SECONDS", 0.1)
    with pytest.raises(KpnError, match="no worker can do the work: a worker is too old"):
        results(workers, never_fit, range(4))


def never_fit(item):
    time.sleep(0.1)
    return Unfit("is too old")


def again(item, folder):
    (folder / f"{item}-{time.monotonic_ns()}").touch()
    return Again(item)


def test_what_fails_for_a_while_is_tried_again_and_then_told(workers, tmp_path):
    assert results(workers, again, range(3), tmp_path) == {0: 0, 1: 1, 2: 2}
    assert len(list(tmp_path.iterdir())) == 6


def slow(item, folder, run):
    if cluster_task.is_stopped(run):
        return None
    time.sleep(0.5)
    (folder / str(item)).touch()
    return item


@needs_kill
def test_ctrl_c_lets_what_runs_end_and_drops_the_rest(workers, tmp_path):
    done, lines = [], []

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    threading.Timer(0.7, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        for item, _ in workers.work_on(slow, range(40), tmp_path, workers.run, tell=lines.append):
            done.append(item)
    assert 2 <= len(done) <= 8
    assert {str(item) for item in done} == {path.name for path in tmp_path.iterdir()}
    assert any(line.startswith("interrupted;") for line in lines)
    assert signal.getsignal(signal.SIGINT) is before


def slept(seconds):
    time.sleep(seconds)
    return seconds


def test_a_scheduler_that_goes_ends_the_run_with_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 2)
    with two_workers() as cluster, connect(cluster.scheduler_address) as connection:
        wait_for_workers(lambda: len(connection.workers()))  # Dask hangs if it closes earlier
        work = connection.work_on(slept, [0.01] * 5 + [0.3] * 40)
        next(work)
        cluster.close(timeout=2)
        with pytest.raises(KpnError, match="the scheduler is gone; what is finished stays"):
            list(work)


@pytest.fixture
def refused(monkeypatch):
    """Return how `connect` refuses an address."""
    pytest.importorskip("distributed")
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.3)

    def refused(address):
        with pytest.raises(KpnError) as refusal, connect(str(address)):
            pass
        return str(refusal.value)

    return refused


def test_what_is_no_address_is_a_line_that_says_what_to_give(refused):
    for address in ("nonsense", "Local", "", "x://y", "x://y:1", "http://127.0.0.1:80", "a b:1"):
        line = refused(address)
        assert line.startswith(f"--dask {address or repr('')}: that is no address; give the addr")
        assert "Error" not in line


def test_what_is_no_scheduler_file_is_a_line(refused, tmp_path):
    assert "no such scheduler file" in refused(tmp_path / "missing.json")
    for number, text in enumerate(("{}", "[1]", "no JSON", '{"address": 5}', "\xff", "[" * 10**5)):
        path = tmp_path / f"{number}.json"
        path.write_bytes(text.encode("latin-1"))
        assert "that is no scheduler file; give" in refused(path)


def test_what_listens_and_is_no_scheduler_is_a_line_in_time(refused):
    def answer_noise(listener):
        with suppress(OSError):
            while True:
                listener.accept()[0].sendall(b"HTTP/1.0 400 Bad request\r\n\r\n" * 9)

    assert "no scheduler answers there within 0.3 s" in refused("tcp://127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        assert "no scheduler answers there" in refused(f"127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begun < 5
        threading.Thread(target=answer_noise, args=[silent], daemon=True).start()
        assert "; give the address" in refused(f"127.0.0.1:{silent.getsockname()[1]}")


def test_the_address_of_a_worker_is_no_scheduler(refused, dask_cluster, monkeypatch):
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 10)
    line = refused(next(iter(dask_cluster.scheduler_info["workers"])))
    assert "no scheduler, or one whose Dask does not fit the one here" in line
    assert "Error" not in line


def test_without_dask_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(KpnError, match=r"pip install 'kpn\[dask\]'"), connect("local"):
        pass


class _Unreadable:
    def __reduce__(self):
        return unreadable_outside, (os.getpid(),)


def unreadable_outside(pid):
    if pid != os.getpid():
        raise ModuleNotFoundError("pathlib._local")


def makes_unreadable(item):
    return _Unreadable() if item == 3 else item


def test_answers_that_cannot_be_unpacked_here_fail_without_tracebacks(workers, capfd):
    answers = results(workers, makes_unreadable, range(6))
    assert "pathlib._local" in answers.pop(3).reason
    assert answers == {n: n for n in range(6) if n != 3}
    assert capfd.readouterr() == ("", "")


def test_dask_prints_no_table_of_versions_and_no_tracebacks(dask_cluster, monkeypatch):
    from distributed import versions

    monkeypatch.setattr(versions, "error_message", lambda *_: {"warning": "a table", "error": ""})
    with warnings.catch_warnings(record=True) as told, connect(dask_cluster.scheduler_address):
        assert not logging.getLogger("distributed.protocol.core").isEnabledFor(logging.CRITICAL)
    assert not told


def test_workers_of_another_version_or_without_kpn_are_refused(workers, monkeypatch):
    monkeypatch.setattr(cluster_task, "FOLDER_SECONDS", 0)
    monkeypatch.setattr(cluster_task, "__version__", "9.9")
    with pytest.raises(KpnError, match=r"worker tcp://\S+ has kpn \S+, here is 9\.9"):
        workers.ask_all(own_pid)
    monkeypatch.undo()
    monkeypatch.setattr(cluster_task, "FOLDER_SECONDS", 0)
    elsewhere = namedtuple("Sys", "version_info")((2, 7))
    monkeypatch.setattr(cluster_task, "sys", elsewhere)
    with pytest.raises(KpnError, match=r"worker tcp://\S+ has Python 3\.\d+, here is 2\.7; use"):
        workers.ask_all(own_pid)
    hide = "import sys\nsys.modules['kpn_cli'] = None\n"
    show = "\ndel sys.modules['kpn_cli']"
    monkeypatch.setattr(cluster_task, "_SOURCE", hide + cluster_task._SOURCE + show)
    with pytest.raises(KpnError, match=r"worker tcp://\S+ lacks kpn"):
        workers.ask_all(own_pid)


@pytest.mark.parametrize(
    ("threads", "cores", "gigabytes", "size"),
    [
        (None, 2, 64, LocalSize(2, 1)),
        (None, 16, 33, LocalSize(8, 2)),
        (None, 8, 1, LocalSize(1, 8)),
        (4, 16, 64, LocalSize(4, 4)),
        (4, 2, 64, LocalSize(1, 4)),
    ],
)
def test_a_local_cluster_fits_cores_and_memory(threads, cores, gigabytes, size):
    assert local_size(threads, cores, gigabytes << 30) == size


def test_a_folder_is_known_by_its_marker_and_samples(tmp_path):
    from kpn_cli.system.shared import shared_paths

    photo, marker = tmp_path / "a.dng", tmp_path / "marker"
    photo.write_bytes(b"1234")
    marker.touch()
    paths = shared_paths(marker, [photo, Path("nowhere/b.dng")])
    assert paths.lacking("photos") == ""
    photo.write_bytes(b"12")
    assert "sees another" in paths.lacking("photos")
    photo.unlink()
    assert "put the photos on a disk that all share" in paths.lacking("photos")
    marker.unlink()
    assert "does not see the output folder" in paths.lacking("photos")
