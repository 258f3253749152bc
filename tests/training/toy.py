"""Tiny trainings for the tests, and a program that runs them in processes that can be killed.

The program is started once and forks, because starting Python and torch takes longer than these trainings.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posekit.artifacts.provenance import Header
from posekit.training import checkpoints
from posekit.training.loop import LoopSettings, TrainingOutcome, train
from posekit.training.method import Method, Worker
from posekit.training.runs import RunFolder

CPU = torch.device("cpu")
SETTINGS = LoopSettings(epochs=12, batch=4, lr=1e-2, decay="cosine", log_every=7, checkpoint_every=9, seed=3)


@dataclass
class Pairs:
    """Inputs and targets."""

    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(self.x.to(device), self.y.to(device))

    def __len__(self) -> int:
        return len(self.x)


class Lines:
    """Twenty-two samples of a smooth function, a little different in each epoch."""

    def __len__(self) -> int:
        return 22

    def batch(self, samples: np.ndarray, epoch: int) -> Pairs:
        x = torch.tensor(samples, dtype=torch.float64)[:, None] / 22
        x = torch.cat([x, x.square() + 0.01 * epoch], dim=1)
        return Pairs(x.float(), torch.sin(3 * x).sum(1, keepdim=True).float())


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


class Regression(Method[Pairs]):
    """One network with BatchNorm and, if wanted, dropout; `before` is called at each step with its number.

    No bias stands before BatchNorm: its gradient is zero but for rounding, which Adam would blow up.
    """

    def __init__(self, dropout: float = 0.1, before: Callable[[int], None] | None = None, lr: float = 1e-2) -> None:
        self.net = seeded(
            lambda: nn.Sequential(
                nn.Linear(2, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1)
            )
        )
        self.adam = torch.optim.Adam(self.net.parameters(), lr=lr)
        self.before = before
        self.steps = 0

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"net": self.adam}

    def step(self, batch: Pairs, worker: Worker) -> dict[str, Tensor]:
        if self.before is not None:
            self.before(self.steps)
        self.steps += 1
        loss = (worker.module("net")(batch.x) - batch.y).square().mean()
        worker.backward(loss)
        worker.step("net")
        return {"fit": loss.detach()}


class Adversaries(Method[Pairs]):
    """Two networks in turn. The generator's pass leaves gradients in the critic that must not count, unless it goes `through`
    the critic."""

    def __init__(self, through: bool = False) -> None:
        self.through = through
        self.generator = seeded(
            lambda: nn.Sequential(nn.Linear(2, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
        )
        self.critic = seeded(lambda: nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1)), 1)
        self.adams: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(module.parameters(), lr=1e-2, betas=(0.5, 0.999))
            for name, module in self.modules().items()
        }

    def modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return self.adams

    def step(self, batch: Pairs, worker: Worker) -> dict[str, Tensor]:
        generator, critic = worker.module("generator"), worker.module("critic")
        noise = worker.mine(torch.rand(SETTINGS.batch, 1, generator=worker.generator).double())
        made = generator(batch.x) + noise
        real, fake = torch.cat([batch.x, batch.y], 1), torch.cat([batch.x, made], 1)
        losses = {}
        losses["critic"] = (
            nn.functional.softplus(-critic(real)) + nn.functional.softplus(critic(fake.detach()))
        ).mean()
        worker.backward(losses["critic"])
        worker.step("critic")
        losses["generator"] = (
            self._through(fake, worker) if self.through else nn.functional.softplus(-critic(fake)).mean()
        )
        worker.backward(losses["generator"])
        if self.through:
            worker.step("generator", 0.5)
        else:
            worker.step("generator")
        return {name: loss.detach() for name, loss in losses.items()}

    def _through(self, fake: Tensor, worker: Worker) -> Tensor:
        """Of the samples right of the middle, of which processes have different numbers."""
        with worker.through("critic") as critic:
            verdict = critic(fake)
        there = fake[:, :1] > 0.5
        count = worker.mean(there.sum().double())
        return torch.where(there, nn.functional.softplus(-verdict), 0.0).sum() / torch.where(count == 0, 1.0, count)


def folder(path: Path, **settings: object) -> RunFolder:
    return RunFolder(path, Header("model", "train toy", settings=settings, seed=SETTINGS.seed))


def in_child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Runs `work` in a fork of this process, killing it after some seconds if asked; returns what `os.waitpid` says."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # a fork must never come back into the caller's program
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def in_processes(work: Callable[[], object], world: int) -> list[int]:
    """Runs `work` in `world` forks that torchrun might have started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
            os.environ.update({name: str(value) for name, value in places.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            os._exit(_outcome(work))
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def _outcome(work: Callable[[], object]) -> int:
    try:
        work()
    except BaseException as error:  # as above
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def die_at(step: int) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return before


def die_while_writing(number: int) -> None:
    """Makes the `number`-th checkpoint of this process stop half-way."""
    real = checkpoints.save_file
    written = []

    def save_half(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
        real(tensors, path, metadata=metadata)
        written.append(path)
        if len(written) == number:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_file = save_half


def run_regression(path: Path, before: Callable[[int], None] | None = None) -> TrainingOutcome:
    return train(Regression(before=before), Lines(), SETTINGS, folder(path), CPU)


def interrupted(path: Path) -> None:
    """Trains once undisturbed (`whole`) and once killed again and again (`pieces`)."""
    assert in_child(lambda: run_regression(path / "whole")) == 0
    for step in (3, 13, 1, 20):
        assert in_child(lambda step=step: run_regression(path / "pieces", die_at(step))) == signal.SIGKILL

    def half_written() -> None:
        die_while_writing(2)
        run_regression(path / "pieces")

    assert in_child(half_written) == signal.SIGKILL
    moments = random.Random(5)
    for _ in range(3):
        in_child(lambda: run_regression(path / "pieces"), kill_after=moments.uniform(0.0, 0.15))

    def the_rest() -> None:
        outcome = run_regression(path / "pieces")
        assert outcome.first_step > 0, "nothing of the interrupted trainings was used"

    assert in_child(the_rest) == 0


def together(path: Path) -> None:
    """Trains with two processes (`...2`) what one trains alone (`...1`), in float64.

    The two are killed once and go on; a third regression (`regression21`) is begun by two and ended by one.
    """
    settings = replace(SETTINGS, precision="64-true")

    def regression(name: str, before: Callable[[int], None] | None = None) -> None:
        train(Regression(0.0, before), Lines(), settings, folder(path / name), CPU)

    def both(world: int) -> None:
        regression(f"regression{world}")
        train(Adversaries(), Lines(), settings, folder(path / f"adversaries{world}"), CPU)
        train(Adversaries(through=True), Lines(), settings, folder(path / f"through{world}"), CPU)

    for name in ("regression2", "regression21"):
        assert in_processes(lambda name=name: regression(name, die_at(20)), 2) == [signal.SIGKILL] * 2
    assert in_processes(lambda: both(2), 2) == [0, 0]
    assert in_child(lambda: both(1)) == 0
    assert in_child(lambda: regression("regression21")) == 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"interrupted": interrupted, "together": together}[sys.argv[1]](Path(sys.argv[2]))
