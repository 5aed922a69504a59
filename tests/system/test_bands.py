"""Bands cover a picture once, and threads that work on them leave torch as it was."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.system.bands import bands, for_each

CPU = torch.device("cpu")


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 9))
def test_every_row_is_in_one_band_with_all_rows_within_reach(height, step, reach):
    found = []
    for rows, around, inner in bands(height, step, reach):
        assert list(range(height))[around][inner] == list(range(height))[rows]
        assert around.start == max(rows.start - reach, 0)
        assert around.stop == min(rows.stop + reach, height)
        found += range(height)[rows]
    assert found == list(range(height))


@pytest.mark.parametrize("number", [0, 1, 5, 100])
def test_each_item_is_worked_on_once(two_threads, number):
    done = []
    for_each(lambda: done.append, range(number), CPU)
    assert sorted(done) == list(range(number))


def test_operations_in_a_band_run_on_its_thread_alone_and_torch_keeps_its_threads(two_threads):
    seen = set()
    for_each(lambda: lambda _: seen.add(torch.get_num_threads()), range(8), CPU)
    assert seen == {1}
    assert torch.get_num_threads() == 2
    later = []  # a thread that torch has not met before
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


@pytest.mark.parametrize("inference", [True, False])
def test_work_is_done_in_the_caller_s_mode_and_without_gradients(two_threads, inference):
    x, seen = torch.ones(3, requires_grad=True), []

    def work(_):
        seen.append((torch.is_inference_mode_enabled(), (x * 2).requires_grad))

    with torch.inference_mode(inference):
        for_each(lambda: work, range(4), CPU)
    assert set(seen) == {(inference, False)}


def test_an_error_in_a_band_is_raised_and_ends_the_work(two_threads):
    done = []

    def work(item):
        if item == 3:
            raise ValueError("broken")
        done.append(item)

    with pytest.raises(ValueError, match="broken"):
        for_each(lambda: work, range(10_000), CPU)
    assert len(done) < 10_000
    for_each(lambda: done.append, [-1], CPU)
    assert done[-1] == -1


def test_after_an_error_no_thread_works_any_more(two_threads):
    other_began, ended = threading.Event(), []

    def work(item):
        if item == 0:
            assert other_began.wait(20)
            raise ValueError("broken")
        other_began.set()
        time.sleep(0.1)
        ended.append(item)

    with pytest.raises(ValueError, match="broken"):
        for_each(lambda: work, range(2), CPU)
    assert ended == [1]
