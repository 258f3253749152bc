"""What the training loop costs besides a method's own work: `train` against a bare loop over the same network.

Run ``python benchmarks/bench_training_loop.py [STEPS]``. Both loops take the same batches, made beforehand, and do the
same forward pass, backward pass and step of Adam. The loop of posekit reads ahead in threads, adds up losses, seeds each
step and logs every 50 steps. Networks: ``resnet18`` (pictures of 64 px, batch 16), ``mlp`` (six layers of 1024, batch 256)
and ``tiny`` (two layers of 8, batch 4), whose steps are so short that they show the overhead in microseconds. Loops take
turns, and the fastest of REPEATS counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import write_results
from torch import Tensor, nn
from torchvision.models import resnet18

from posekit.artifacts.provenance import Header
from posekit.training.loop import LoopSettings, train
from posekit.training.method import Method, Worker
from posekit.training.runs import RunFolder

REPEATS = 5
WARM_UP = 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Pair:
    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> Pair:
        return Pair(self.x.to(device), self.y.to(device))

    def __len__(self) -> int:
        return len(self.x)


@dataclass
class Same:
    """One batch, again and again."""

    pair: Pair
    steps: int

    def __len__(self) -> int:
        return self.steps * len(self.pair)

    def batch(self, samples: np.ndarray, epoch: int) -> Pair:
        return self.pair


class Timed(Method[Pair]):
    """A regression that notes when each step begins and the last one ends."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.adam = torch.optim.Adam(network.parameters(), lr=1e-5)
        self.moments: list[float] = []

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"network": self.adam}

    def step(self, batch: Pair, worker: Worker) -> dict[str, Tensor]:
        self.moments.append(moment())
        loss = (worker.module("network")(batch.x) - batch.y).square().mean()
        worker.backward(loss)
        worker.step("network")
        return {"loss": loss.detach()}


def moment() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def in_the_loop(network: nn.Module, source: Same) -> float:
    """Seconds of one step in `train`."""
    method = Timed(network)
    settings = LoopSettings(epochs=1, batch=len(source.pair), lr=1e-5, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        train(method, source, settings, RunFolder(Path(folder), Header("model", "benchmark")), DEVICE)
    return (method.moments[-1] - method.moments[WARM_UP]) / (len(method.moments) - 1 - WARM_UP)


def in_a_bare_loop(network: nn.Module, source: Same) -> float:
    """Seconds of one step without the loop."""
    network.to(DEVICE).train()
    adam = torch.optim.Adam(network.parameters(), lr=1e-5)
    moments = []
    for _ in range(source.steps):
        batch = source.pair.to(DEVICE)
        moments.append(moment())
        adam.zero_grad()
        loss = (network(batch.x) - batch.y).square().mean()
        loss.backward()
        adam.step()
    return (moments[-1] - moments[WARM_UP]) / (len(moments) - 1 - WARM_UP)


def mlp(width: int, layers: int, inputs: int) -> nn.Module:
    inner = [part for _ in range(layers - 2) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), *inner, nn.Linear(width, 4))


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    networks: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
        "resnet18": (lambda: resnet18(num_classes=4), (16, 3, 64, 64), steps),
        "mlp": (lambda: mlp(1024, 6, 32), (256, 32), 2 * steps),
        "tiny": (lambda: mlp(8, 2, 4), (4, 4), 20 * steps),
    }
    results: dict[str, dict[str, float]] = {}
    for name, (make, shape, count) in networks.items():
        source = Same(Pair(torch.randn(shape), torch.randn(shape[0], 4)), count)
        ours, bare = [], []
        for _ in range(REPEATS):
            bare.append(in_a_bare_loop(make(), source))
            ours.append(in_the_loop(make(), source))
        results[name] = {
            "bare_ms": 1e3 * min(bare),
            "loop_ms": 1e3 * min(ours),
            "ratio": min(ours) / min(bare),
            "overhead_us": 1e6 * (min(ours) - min(bare)),
        }
        print(f"{name:10}" + "  ".join(f"{key} {value:.3f}" for key, value in results[name].items()))
    print(write_results("training_loop", results))


if __name__ == "__main__":
    main()
