"""What timings of training steps share: the loop's part played in one process, and functions timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from harness import Timing, time_function
from torch import Tensor, nn

from posekit.training.method import Method


class Lowered(nn.Module):
    """A network in lower precision, if that is wanted."""

    def __init__(self, network: nn.Module, mixed: bool, device: torch.device) -> None:
        super().__init__()
        self._network, self._mixed, self._device = network, mixed, device

    def forward(self, images: Tensor) -> Tensor:
        with arithmetic(self._mixed, self._device):
            return self._network(images)


class Bench:
    """Lends a method what the training loop would, in one process; gradients are not cut."""

    def __init__(self, method: Method[Any], mixed: bool, device: torch.device) -> None:
        self.device, self.progress, self.generator = device, 0.0, torch.Generator()
        self._method, self._mixed = method, mixed

    def module(self, name: str) -> nn.Module:
        return Lowered(self._method.modules()[name], self._mixed, self.device)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    @contextmanager
    def through(self, name: str) -> Iterator[nn.Module]:
        module = self._method.modules()[name].requires_grad_(False)
        yield Lowered(module, self._mixed, self.device)
        module.requires_grad_(True)

    def mean(self, value: Tensor) -> Tensor:
        return value

    def step(self, name: str, most: float | None = None) -> None:
        optimizer = self._method.optimizers()[name]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def mine(self, whole: Tensor) -> Tensor:
        return whole


def arithmetic(mixed: bool, device: torch.device) -> AbstractContextManager[object]:
    """bf16 where it is wanted."""
    return torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext()


def timed_in_turn(functions: tuple[Callable[[], object], Callable[[], object]], repeats: int) -> tuple[Timing, Timing]:
    """Timings of two functions, called in turn so that a busy machine slows both."""
    both: list[list[Timing]] = [[], []]
    for turn in range(repeats):
        for timings, function in zip(both, functions, strict=True):
            timings.append(time_function(function, warmup=int(turn == 0), repeats=1))
    first, second = (_joined(timings) for timings in both)
    return first, second


def _joined(timings: list[Timing]) -> Timing:
    seconds = sorted(timing.minimum for timing in timings)
    count = len(seconds)
    spread = seconds[(3 * count) // 4 if count > 1 else 0] - seconds[count // 4]
    return Timing(seconds[count // 2], seconds[0], spread, count)
