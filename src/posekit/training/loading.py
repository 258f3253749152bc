"""Reading batches ahead, in threads, while the steps run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic

from posekit.training.method import Batch, BatchSource
from posekit.training.sampling import Schedule

BATCHES_AHEAD = 2
"""Batches that wait or are being read, for each thread."""


class BatchLoader(Generic[Batch]):
    """The batches of a schedule in their order.

    Iterate inside a `with` block; its end stops the threads. What goes wrong in a thread is raised where the batch is
    taken. `waited` adds up the seconds that the taker had to wait.
    """

    def __init__(self, source: BatchSource[Batch], schedule: Schedule, workers: int) -> None:
        self.waited = 0.0
        self._source = source
        self._schedule = schedule
        self._ahead = BATCHES_AHEAD * workers
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="batches")

    def __enter__(self) -> BatchLoader[Batch]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, first: int) -> Iterator[tuple[int, Batch]]:
        """The steps from `first` on, each with its batch."""
        coming: deque[Future[Batch]] = deque()
        asked = first
        for step in range(first, self._schedule.steps):
            while asked < min(step + self._ahead, self._schedule.steps):
                coming.append(self._pool.submit(self._read, asked))
                asked += 1
            began = time.perf_counter()
            batch = coming.popleft().result()
            self.waited += time.perf_counter() - began
            yield step, batch

    def _read(self, step: int) -> Batch:
        return self._source.batch(self._schedule.own_samples(step), self._schedule.epoch(step))
