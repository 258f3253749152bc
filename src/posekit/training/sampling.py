"""Which samples make which step: a function of the seed alone, so that every process and every restart agrees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from posekit.errors import ConfigError

_ORDER, _STEP, _PROCESS = 1, 2, 3


def step_seed(seed: int, step: int) -> int:
    """The seed of the random numbers of one step."""
    return _seed(seed, step, _STEP)


def process_seed(seed: int, step: int, rank: int) -> int:
    """The seed of the random numbers that a network draws for itself (dropout), in one process."""
    return _seed(seed, step, _PROCESS, rank)


def _seed(*identity: int) -> int:
    return int(np.random.SeedSequence(identity).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> Int[np.ndarray, " N"]:
    """The order of the samples in an epoch."""
    order = np.random.default_rng((seed, epoch, _ORDER)).permutation(count)
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class Schedule:
    """The steps of a training. The last samples of an epoch, when they fill no batch, are left out of it.

    `rank` and `world` say which share of each batch belongs to this process. Raises ConfigError for a batch that the data
    do not fill, or that cannot be shared evenly.
    """

    samples: int
    batch: int
    epochs: int
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch % self.world:
            raise ConfigError(
                "the samples of a batch must share out evenly among the processes",
                got=f"batch {self.batch}, {self.world} processes",
                accepted=f"a multiple of {self.world}",
            )
        if self.samples < self.batch:
            raise ConfigError(
                "there are fewer samples than one batch takes",
                got=f"batch {self.batch}",
                accepted=f"at most {self.samples}",
                hint="Take a smaller batch or more data",
            )

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch."""
        return self.samples // self.batch

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.epochs

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return step // self.steps_per_epoch

    def own_samples(self, step: int) -> Int[np.ndarray, " B"]:
        """The samples of a step that belong to this process."""
        first = step % self.steps_per_epoch * self.batch
        order = epoch_order(self.samples, self.seed, self.epoch(step))
        return order[first : first + self.batch][self.rank :: self.world]
