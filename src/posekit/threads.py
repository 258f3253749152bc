"""Threads for work that consists of many small tensor operations.

Torch shares each operation among all its threads. For operations of a few microseconds that costs more than it gains, and on
a machine that has other work it costs dearly: measured, seven times. Such work is faster with one thread for each piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Lets torch work on one thread inside the block; several Python threads may then work side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def for_chunks(work: Callable[[slice], None], length: int, chunk: int, device: torch.device) -> None:
    """Calls `work` for consecutive slices of `length` items; on a CPU several at a time, as many as torch has threads.

    `work` must write to places of its own. The slices do not depend on the number of threads, so neither does the result.
    """
    parts = [slice(begin, min(begin + chunk, length)) for begin in range(0, length, chunk)]
    workers = min(torch.get_num_threads(), len(parts))
    if device.type != "cpu" or workers < 2:
        for part in parts:
            work(part)
        return
    with one_thread_each(), ThreadPoolExecutor(max_workers=workers) as pool:
        for _ in pool.map(work, parts):
            pass
