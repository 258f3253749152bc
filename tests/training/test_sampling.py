"""The order of samples and the seeds of steps."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.errors import ConfigError
from posekit.training.sampling import Schedule, epoch_order, process_seed, step_seed


def test_an_epoch_takes_every_sample_at_most_once() -> None:
    schedule = Schedule(samples=23, batch=5, epochs=3, seed=1)
    assert (schedule.steps_per_epoch, schedule.steps) == (4, 12)
    orders = []
    for epoch in range(3):
        taken = np.concatenate([schedule.own_samples(step) for step in range(4 * epoch, 4 * epoch + 4)])
        assert len(set(taken.tolist())) == 20 and taken.max() < 23
        orders.append(taken.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_the_shares_of_the_processes_make_the_batch() -> None:
    alone = Schedule(24, 6, 1, seed=2)
    shares = [Schedule(24, 6, 1, seed=2, rank=rank, world=3) for rank in range(3)]
    for step in range(4):
        whole = alone.own_samples(step)
        for rank, share in enumerate(shares):
            assert share.own_samples(step).tolist() == whole[rank::3].tolist()


def test_every_sample_can_come_anywhere() -> None:
    first = [int(epoch_order(7, 0, epoch)[0]) for epoch in range(300)]
    counts = np.bincount(first, minlength=7)
    assert counts.min() > 20  # 43 expected, deviation 6


def test_seeds_differ_where_they_should() -> None:
    assert step_seed(1, 2) == step_seed(1, 2)
    seeds = {step_seed(0, 1), step_seed(1, 0), step_seed(1, 1), process_seed(1, 1, 0), process_seed(1, 1, 1)}
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)


def test_batches_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="at most 3"):
        Schedule(3, 4, 1, 0)
    with pytest.raises(ConfigError, match="multiple of 2"):
        Schedule(30, 5, 1, 0, world=2)
