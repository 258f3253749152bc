"""Several processes that work on one thing: which of them this is, what its share is, and waiting for the others.

The processes are started by ``torchrun --nproc-per-node N -m posekit ...``, which tells each of them its place in the
environment. Without it there is one process, and nothing here does anything.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from posekit.errors import ConfigError

Item = TypeVar("Item")

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: shards of a registration may differ by hours."""


def rank() -> int:
    """The number of this process among all."""
    return _place("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """The number of this process among those on its machine."""
    return _place("LOCAL_RANK", rank()) if world_size() > 1 else 0


def world_size() -> int:
    """The number of processes."""
    return max(_place("WORLD_SIZE", 1), 1) if "RANK" in os.environ else 1


def local_world_size() -> int:
    """The number of processes on this machine."""
    return _place("LOCAL_WORLD_SIZE", world_size()) if world_size() > 1 else 1


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def my_share(items: Sequence[Item]) -> list[Item]:
    """Every `world_size`-th item, beginning with this process' own."""
    return list(items[rank() :: world_size()])


def join() -> None:
    """Connects this process with the others, once; nothing to do when alone.

    Tensors of the CPU travel over gloo, tensors of CUDA devices over NCCL. Raises ConfigError where the others cannot be found.
    """
    if world_size() == 1:
        return
    import torch
    from torch import distributed

    if distributed.is_initialized():
        return
    both = torch.cuda.is_available() and distributed.is_nccl_available()
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "cannot connect with the other processes",
            got=error,
            hint="Start them with `torchrun --nproc-per-node N -m posekit ...`",
        ) from error
    atexit.register(_leave)


def wait_for_all() -> None:
    """Returns when every process has called it; at once when alone."""
    if world_size() == 1:
        return
    join()
    import torch
    from torch import distributed

    # A sum of numbers on the CPU is a barrier that needs no CUDA device.
    distributed.all_reduce(torch.zeros(1))


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _place(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"the environment variable {name} must be a number", got=text) from error
