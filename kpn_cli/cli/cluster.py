"""`--dask`: work on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from ..errors import KpnError
from ..system.distributed import launched
from . import console

if TYPE_CHECKING:
    from ..system.cluster import Cluster

DASK = click.option(
    "--dask",
    metavar="ADDRESS|local",
    help="Let the workers of a Dask cluster do the work: the address of its scheduler, such as "
    "tcp://host:8786, or its scheduler file (.json); local starts workers on this machine. Needs "
    "pip install 'kpn[dask]'.",
)


@contextmanager
def cluster_at(
    address: str | None, threads: int | None = None, device: str = "cpu"
) -> Iterator[Cluster | None]:
    """Connect to a cluster for as long as the block lasts; None without an address.

    Args:
        address: as given with `--dask`.
        threads: of each worker for a piece of work; None for its share.
        device: of the network.

    Raises:
        KpnError: if that is not possible.
    """
    if address is None:
        yield None
        return
    if launched("WORLD_SIZE", 1) > 1:
        raise KpnError("--dask: start kpn without torchrun; Dask shares the work")
    from ..system.cluster import LOCAL, connect

    one_worker = False
    if address == LOCAL and device != "cpu":
        from ..system.device import pick_device

        one_worker = pick_device(device).type != "cpu"
    with ExitStack() as stack:
        with console.bar("connecting", None):
            cluster = stack.enter_context(connect(address, threads, one_worker=one_worker))
        yield cluster
