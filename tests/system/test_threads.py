"""Pieces of work run in threads of one core each, in no more threads than there are cores."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kpn_cli.system import threads
from kpn_cli.system.threads import (
    limit_torch,
    map_in_threads,
    one_core_threads,
    usable_cores,
    work_ahead,
)


def test_results_come_in_the_order_of_the_items(two_threads):
    second_done = threading.Event()

    def work(item):
        if item == 0:
            assert second_done.wait(20)  # so both run at once
        else:
            second_done.set()
        return 10 * item

    assert list(map_in_threads(work, [0, 1])) == [0, 10]


def test_operations_of_a_piece_use_one_core_and_those_of_others_all(two_threads):
    assert list(map_in_threads(lambda _: torch.get_num_threads(), range(4))) == [1, 1, 1, 1]
    assert torch.get_num_threads() == 2
    in_new_thread = []
    thread = threading.Thread(target=lambda: in_new_thread.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert in_new_thread == [2]


def test_one_piece_and_a_gpu_keep_the_thread_and_its_cores(two_threads):
    def work(_):
        return threading.current_thread() is threading.main_thread(), torch.get_num_threads()

    assert list(map_in_threads(work, [0])) == [(True, 2)]
    assert list(map_in_threads(work, [0, 1], on_cpu=False)) == [(True, 2)] * 2
    assert list(map_in_threads(work, [])) == []


def test_the_first_error_in_order_is_raised(two_threads):
    def work(item):
        if item:
            raise ValueError(str(item))

    with pytest.raises(ValueError, match="1"):
        list(map_in_threads(work, [0, 1, 2]))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("nonsense", 8), ("1 0", 8)],
)
def test_a_control_group_limits_the_cores(monkeypatch, tmp_path, limit, cores):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "cpu.max").write_text(limit)
    monkeypatch.setattr(threads, "control_groups", lambda: [tmp_path / "group", tmp_path])
    assert usable_cores() == cores


def test_torch_gets_no_more_threads_than_cores_and_never_more_than_it_had(monkeypatch, two_threads):
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    limit_torch()
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    limit_torch()
    assert torch.get_num_threads() == 1


def test_work_ahead_comes_in_order_and_no_more_begins_than_may():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError(item)
        return 10 * item

    ahead = work_ahead(work, range(9), threads=2)
    assert [next(ahead).result() for _ in range(3)] == [0, 10, 20]
    with pytest.raises(ValueError, match="3"):
        next(ahead).result()
    ahead.close()
    assert set(begun) <= set(range(5))


def test_if_a_thread_cannot_be_started_the_others_end_and_torch_keeps_its_threads(
    two_threads, monkeypatch
):
    submit = ThreadPoolExecutor.submit
    started = []

    def submit_one(self, work):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(submit(self, work))
        return started[0]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_one)
    with pytest.raises(RuntimeError, match="can't start"):
        one_core_threads.__wrapped__(2)
    with pytest.raises(threading.BrokenBarrierError):
        started[0].result(20)
    assert torch.get_num_threads() == 2


def test_the_user_limits_the_cores_but_does_not_add_to_them(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "control_groups", lambda: [])
    for allowed, cores in ((3, 3), (20, 8)):
        monkeypatch.setattr(threads, "_allowed", allowed)
        assert usable_cores() == cores
