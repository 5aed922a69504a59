"""Ctrl-C waits for the end of what it must not interrupt."""

from __future__ import annotations

import signal
import threading

import pytest

from kpn_cli.system.interrupts import interrupt_afterwards


@pytest.fixture(autouse=True)
def python_s_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_inside_the_block_is_raised_at_its_end():
    steps = []
    with pytest.raises(KeyboardInterrupt), interrupt_afterwards():
        signal.raise_signal(signal.SIGINT)
        steps.append("after Ctrl-C")
    assert steps == ["after Ctrl-C"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_inside_the_block_stays_and_ctrl_c_works_again():
    with pytest.raises(ValueError, match="own"), interrupt_afterwards():
        raise ValueError("own")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_other_threads_are_left_alone_and_another_handler_is_called_at_the_end():
    done = []

    def work():
        with interrupt_afterwards():
            done.append("thread")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, lambda *_: done.append("handler"))
    with interrupt_afterwards():
        signal.raise_signal(signal.SIGINT)
        done.append("block")
    assert done == ["thread", "block", "handler"]
