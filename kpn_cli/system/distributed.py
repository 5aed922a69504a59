"""The processes that work on one job together, started by PyTorch's launcher (`torchrun`).

Without a launcher the group has a single process, and nothing here costs anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import KpnError

if TYPE_CHECKING:  # a single process must not wait for PyTorch before it reads files
    import torch
    from torch import Tensor, nn

T = TypeVar("T")


def launched(variable: str, otherwise: int) -> int:
    """Return a number that `torchrun` hands over in the environment, such as WORLD_SIZE.

    Args:
        variable: its name.
        otherwise: what to return without the variable, or if it is no number: then it is empty,
            or of another program, and `torchrun` has not started this process.
    """
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else otherwise


@dataclass(frozen=True)
class ProcessGroup:
    """The position of this process in its group.

    Attributes:
        rank: index of this process, from 0.
        size: number of processes in the group.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the first process, the only one that writes files and reports."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Return the samples of a batch that this process computes.

        All shares have the same size, so the mean over processes is the mean over the batch.

        Raises:
            KpnError: if the size of the batch is not a multiple of the number of processes.
        """
        if batch % self.size:
            raise KpnError(
                f"training: a batch of {batch} cannot be shared by {self.size} processes; "
                f"give a --batch that is a multiple of {self.size}"
            )
        share = batch // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network so that `backward` averages its gradients over the processes."""
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes, the same on each of them."""
        if self.size > 1:
            import torch.distributed as dist

            value = value.clone()
            dist.all_reduce(value)
            value /= self.size
        return value

    def broadcast(self, value: T) -> T:
        """Return the value of the first process: clocks differ, decisions must not."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def make_on_first(self, make: Callable[[], T]) -> T:
        """Call `make` on the first process only; return what it made on every process."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made: list[Any] = [make() if self.is_first else None]
        dist.broadcast_object_list(made)
        result: T = made[0]
        return result

    def check_same(self, value: object, advice: str) -> None:
        """Check that all processes have the same value.

        Raises:
            KpnError: with the advice, on every process, if the values differ.
        """
        if self.size == 1:
            return
        import torch.distributed as dist

        values: list[object] = [None] * self.size
        dist.all_gather_object(values, value)
        if any(other != value for other in values):
            raise KpnError(advice)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes by rank on the first process, [] on the others."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values = [value] * self.size  # all of them replaced
        dist.all_gather_object(values, value)
        return values if self.is_first else []

    def barrier(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


@contextmanager
def process_group(
    device: torch.device | None = None, timeout: timedelta | None = None
) -> Iterator[ProcessGroup]:
    """Join the processes that `torchrun` has started, for as long as the block lasts.

    Args:
        device: device of the tensors that the processes exchange; None for the CPU.
        timeout: how long a process waits for the others; None for PyTorch's default.

    Raises:
        KpnError: if the processes cannot connect, or one of them stops during the block.
    """
    size = launched("WORLD_SIZE", 1)
    # Another thread may be importing it just now; then nobody has initialised it.
    is_initialised = getattr(sys.modules.get("torch.distributed"), "is_initialized", bool)
    if size <= 1 and not is_initialised():
        yield ProcessGroup()
        return
    import torch.distributed as dist

    if dist.is_initialized():  # by the program that calls this
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
        return
    kind = "cpu" if device is None else device.type
    if kind == "mps":
        raise KpnError("torchrun: needs --device cpu or cuda, not mps")
    try:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=timeout)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise KpnError(
            f"torchrun: the processes cannot be joined ({reason}); see its help"
        ) from None
    try:
        yield ProcessGroup(dist.get_rank(), size)
    except RuntimeError as error:
        if "peer" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise KpnError("torchrun: another process has stopped; its own message says why") from None
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process under `torchrun` if the device is "cuda"; else the device.

    Raises:
        KpnError: if this machine has fewer GPUs than processes.
    """
    index = launched("LOCAL_RANK", -1)
    if device.type != "cuda" or index < 0:
        return device
    import torch

    if index >= torch.cuda.device_count():
        raise KpnError(
            f"torchrun: this machine has {torch.cuda.device_count()} GPUs; "
            "start no more processes than that"
        )
    gpu = torch.device("cuda", index)
    torch.cuda.set_device(gpu)
    return gpu
