"""Reading ahead: order, bounds, errors, and threads that end."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from posekit.errors import InputError
from posekit.training.loading import BATCHES_AHEAD, BatchLoader
from posekit.training.sampling import Schedule


@dataclass
class Numbers:
    samples: list[int]
    epoch: int

    def to(self, device: torch.device) -> Numbers:
        return self

    def __len__(self) -> int:
        return len(self.samples)


class Source:
    """Counts the batches asked for; `delay` seconds each; fails at epoch `fails`."""

    def __init__(self, delay: float = 0.0, fails: int = -1) -> None:
        self.asked = 0
        self.delay, self.fails = delay, fails
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return 12

    def batch(self, samples: np.ndarray, epoch: int) -> Numbers:
        with self.lock:
            self.asked += 1
        time.sleep(self.delay * (samples[0] % 3))
        if epoch == self.fails:
            raise InputError("cannot read", got=int(samples[0]))
        return Numbers(samples.tolist(), epoch)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_batches_come_in_order_whatever_the_threads_do() -> None:
    schedule = Schedule(12, 3, 4, seed=5)
    with BatchLoader(Source(delay=0.002), schedule, workers=4) as loader:
        taken = [(step, batch.samples, batch.epoch) for step, batch in loader.batches(5)]
    assert taken == [(step, schedule.own_samples(step).tolist(), step // 4) for step in range(5, 16)]
    assert not reading_threads()


def test_no_more_is_read_ahead_than_agreed() -> None:
    source = Source()
    with BatchLoader(source, Schedule(12, 1, 10, seed=5), workers=2) as loader:
        batches = loader.batches(0)
        for taken in range(1, 6):
            next(batches)
            time.sleep(0.02)
            assert source.asked <= taken - 1 + 2 * BATCHES_AHEAD
    assert not reading_threads()


def test_an_error_is_raised_where_its_batch_is_taken() -> None:
    with (
        pytest.raises(InputError, match="cannot read"),
        BatchLoader(Source(fails=1), Schedule(12, 3, 4, seed=5), workers=2) as loader,
    ):
        for step, _ in loader.batches(0):
            assert step < 4
    assert not reading_threads()


def test_waiting_is_measured() -> None:
    with BatchLoader(Source(delay=0.01), Schedule(12, 3, 4, seed=5), workers=1) as loader:
        began = time.perf_counter()
        for _ in loader.batches(0):
            pass
        elapsed = time.perf_counter() - began
    assert 0.8 * elapsed < loader.waited <= elapsed


def test_leaving_early_ends_the_threads() -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        BatchLoader(Source(delay=0.01), Schedule(12, 3, 400, seed=5), workers=3) as loader,
    ):
        for _ in loader.batches(0):
            raise RuntimeError("stop")
    assert not reading_threads()
