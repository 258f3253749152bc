"""Threads for work that consists of many small tensor operations.

Torch shares each operation among all its threads. For operations of a few microseconds that costs more than it gains, and on
a machine that has other work it costs dearly: measured, seven times. Such work is faster with one thread for each piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Lets torch work on one thread inside the block; several Python threads may then work side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """The results of `work` for all items, in their order; on a CPU several at a time, as many as torch has threads."""
    if device.type != "cpu":
        return [work(item) for item in items]
    workers = min(torch.get_num_threads(), len(items))
    with one_thread_each():
        if workers < 2:
            return [work(item) for item in items]
        gradients = torch.is_grad_enabled()

        def as_here(item: Item) -> Result:
            # Whether gradients are recorded is a matter of each thread.
            with torch.set_grad_enabled(gradients):
                return work(item)

        with ThreadPoolExecutor(max_workers=workers) as pool:
            return list(pool.map(as_here, items))


def for_chunks(work: Callable[[slice], None], length: int, chunk: int, device: torch.device) -> None:
    """Calls `work` for consecutive slices of `length` items, side by side.

    `work` must write to places of its own. The slices do not depend on the number of threads, so neither does the result.
    """
    side_by_side(work, [slice(begin, min(begin + chunk, length)) for begin in range(0, length, chunk)], device)
