"""The processes that work together, started by PyTorch's own launcher (`torchrun`).

Without a launcher it is a world of one, and all here costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import KpnError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and reports: the first does."""
        return self.rank == 0

    def members(self, batch: int) -> range:
        """Share of this process in a batch; the shares are equal, so that means add up.

        Raises:
            KpnError: if the batch cannot be shared out.
        """
        if batch % self.size:
            raise KpnError(
                f"training: a batch of {batch} cannot be shared by {self.size} processes; "
                f"give a --batch that is a multiple of {self.size}"
            )
        share = batch // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    def wrapped(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network, its gradients averaged over the processes in backward."""
        if self.size == 1:
            return network
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes, on each of them."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.size
        return value

    def first_says(self, value: bool) -> bool:
        """Return what the first process says: clocks differ, decisions must not."""
        if self.size == 1:
            return value
        said = [value]
        dist.broadcast_object_list(said)
        return said[0]

    def from_first(self, make: Callable[[], T]) -> T:
        """Have the first process make something, and return it on each of them."""
        if self.size == 1:
            return make()
        made = [make() if self.writes else None]
        dist.broadcast_object_list(made)
        return made[0]

    def check_same(self, value: object, advice: str) -> None:
        """Check that all processes have the same value.

        Raises:
            KpnError: with the advice, on each process, if they don't.
        """
        if self.size == 1:
            return
        values: list[object] = [None] * self.size
        dist.all_gather_object(values, value)
        if any(other != value for other in values):
            raise KpnError(advice)

    def gather(self, value: Any) -> list[Any]:
        """Return what each process has, in order, on the first; nothing on the others."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values if self.writes else []

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(device: torch.device, patience: timedelta | None = None) -> Iterator[World]:
    """Join the processes that `torchrun` has started, for as long as the block lasts.

    Args:
        device: of the tensors that they exchange.
        patience: how long one waits for the others; by default PyTorch's.

    Raises:
        KpnError: if they cannot find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_initialized():  # by the program that calls this
        yield World(dist.get_rank(), dist.get_world_size())
        return
    if size == 1:
        yield World()
        return
    if device.type == "mps":
        raise KpnError("torchrun: needs --device cpu or cuda, not mps")
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise KpnError(
            f"torchrun: the processes cannot be joined ({reason}); see its help"
        ) from None
    try:
        yield World(dist.get_rank(), size)
    except RuntimeError as error:
        if "peer" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise KpnError("torchrun: another process has stopped; its own message says why") from None
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """Return this process's own GPU where the device is one."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    number = int(os.environ["LOCAL_RANK"])
    if number >= torch.cuda.device_count():
        raise KpnError(
            f"torchrun: there are {torch.cuda.device_count()} GPUs; "
            "start no more processes than that on a machine"
        )
    own = torch.device("cuda", number)
    torch.cuda.set_device(own)
    return own
