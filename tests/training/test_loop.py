"""The loop: restarts, several processes, precision, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posekit.artifacts.provenance import Header
from posekit.training.loop import LoopSettings, train
from posekit.training.method import Method, Worker
from posekit.training.runs import RunFolder, load_run


@dataclass
class Pairs:
    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(self.x.to(device), self.y.to(device))

    def __len__(self) -> int:
        return len(self.x)


class Lines:
    def __len__(self) -> int:
        return 22

    def batch(self, samples: np.ndarray, epoch: int) -> Pairs:
        x = torch.tensor(samples, dtype=torch.float64)[:, None] / 22
        x = torch.cat([x, x.square() + 0.01 * epoch], dim=1).float()
        return Pairs(x, x.sum(1, keepdim=True))


class Regression(Method[Pairs]):
    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
        self.adam = torch.optim.Adam(self.net.parameters(), lr=1e-2)

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"net": self.adam}

    def step(self, batch: Pairs, worker: Worker) -> dict[str, Tensor]:
        loss = (worker.module("net")(batch.x) - batch.y).square().mean()
        worker.backward(loss)
        worker.step("net")
        return {"fit": loss.detach()}


def test_learns_and_is_stored(tmp_path: Path) -> None:
    settings = LoopSettings(epochs=30, batch=4, lr=1e-2, log_every=10)
    run = RunFolder(tmp_path / "run", Header("model", "train test"))
    outcome = train(
        Regression(), Lines(), settings, run, torch.device("cpu"), monitor=lambda epoch: {"epoch": float(epoch)}
    )
    assert outcome.steps == 150 and not outcome.skipped
    assert run.is_finished()
    assert set(load_run(run.path).module("net")) == set(Regression().net.state_dict())
    assert train(Regression(), Lines(), settings, run, torch.device("cpu")).skipped
