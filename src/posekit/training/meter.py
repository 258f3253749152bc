"""Means of losses and the pace of the steps between two lines of the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from posekit import parallel
from posekit.errors import TrainingError


class Meter:
    """Adds up losses on the device, so that no step has to wait for it."""

    def __init__(self, device: torch.device, batch: int) -> None:
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.last: dict[str, float] = {}
        self._device, self._batch = device, batch
        self._steps = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """The losses of one step."""
        for name, loss in losses.items():
            value = loss.detach().double()
            self.totals[name] = self.totals[name] + value if name in self.totals else value
            self.counts[name] = self.counts.get(name, 0) + 1
        self._steps += 1

    def restore(self, totals: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Goes on with sums that a checkpoint kept."""
        self.totals = {name: total.to(self._device) for name, total in totals.items()}
        self.counts = dict(counts)

    def whole(self) -> dict[str, Tensor]:
        """The sums of the losses since the last line, as means over all processes; every process must call it."""
        if not self.totals or parallel.world_size() == 1:
            return self.totals
        sums = torch.stack([total.reshape(()) for total in self.totals.values()])
        distributed.all_reduce(sums)
        return dict(zip(self.totals, (sums / parallel.world_size()).unbind(), strict=True))

    def means(self) -> dict[str, float]:
        """The means of the losses since the last line, over all processes; every process must call it."""
        if not self.totals:
            return {}
        sums = torch.stack([total.reshape(()) for total in self.whole().values()]).tolist()
        return {name: total / self.counts[name] for name, total in zip(self.totals, sums, strict=True)}

    def require_numbers(self, done: int) -> dict[str, float]:
        """The means; TrainingError when one of them is no number."""
        means = self.means()
        broken = [name for name, mean in means.items() if not abs(mean) < float("inf")]
        if broken:
            raise TrainingError(
                f"the losses are no numbers any more (in the {self._steps} steps up to step {done})",
                got=", ".join(f"{name} = {means[name]}" for name in broken),
                hint="Lower the learning rate (--lr), use --precision 32-true, or look for damaged samples; the last "
                "checkpoint is kept",
            )
        return means

    def take(self, done: int, waited: float) -> dict[str, Any]:
        """Losses and pace since the last line, which ends here. `waited` are the seconds spent waiting for data in all."""
        self.last = self.require_numbers(done)
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9) / max(self._steps, 1)
        pace = {
            "step_ms": 1e3 * seconds,
            "wait_ms": 1e3 * (waited - self._waited) / max(self._steps, 1),
            "samples_per_s": self._batch / seconds,
        }
        self.totals, self.counts = {}, {}
        self._steps, self._waited, self._since = 0, waited, now
        return {"losses": self.last, **{name: round(value, 3) for name, value in pace.items()}}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time spent inside the block out of the pace."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began
