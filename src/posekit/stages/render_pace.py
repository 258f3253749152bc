"""Drawing a few pictures ahead of the encoder, side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch

from posekit.threads import one_thread_each

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def ahead(work: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> Iterator[Iterator[Result]]:
    """The results of `work` in the order of the items, while the next few are in work in other threads.

    Items are taken, and results given, in the thread of the caller. On a CPU as many are in work as torch has threads,
    each with torch on one thread.
    """
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    pending: deque[Future[Result]] = deque()

    def results(pool: ThreadPoolExecutor) -> Iterator[Result]:
        for item in items:
            pending.append(pool.submit(work, item))
            # One more than the workers, so that none waits while the caller is busy with a result.
            if len(pending) > workers + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    with one_thread_each() if device.type == "cpu" else nullcontext(), ThreadPoolExecutor(workers) as pool:
        try:
            yield results(pool)
        finally:
            for future in pending:
                future.cancel()
