"""Dask clusters of two workers on this machine, for tests."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Workers import the functions of tests by the path of this process, however pytest was started.
sys.path.append(str(Path(__file__).parents[1]))


@contextmanager
def two_workers() -> Iterator[object]:
    """Start two workers of one thread, which a nanny starts again when they die."""
    distributed = pytest.importorskip("distributed", reason="needs Dask (pip install 'kpn[dask]')")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            memory_limit=0,
            env={
                "DASK_LOGGING__DISTRIBUTED": "critical",
                "KPN_CONFIG": "none",
            },
        ) as cluster,
    ):
        yield cluster


def wait_for_workers(count: Callable[[], int]) -> None:
    """Wait for two workers, of which `count` returns the number."""
    end = time.monotonic() + 60
    while count() < 2:
        assert time.monotonic() < end, "two workers of Dask did not start within 60 s"
        time.sleep(0.05)
