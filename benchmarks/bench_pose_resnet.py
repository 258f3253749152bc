"""A training step of Pose ResNet, against the bare network's forward and backward pass on the same images.

The step is everything that `PoseMethod.step` does for a batch that is loaded: bytes to normalised images, network, soft-argmax
over the volumes, loss, backward pass, Adam. The bare network ends with its volumes. The two are timed in turn, so that a busy
machine slows both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from harness import Timing, write_results
from steps import Bench, arithmetic, timed_in_turn

from posekit.models.backbone import Backbone, BackboneName, normalised
from posekit.models.pose_resnet import PoseResNet, PoseResNetForm
from posekit.training.pose_resnet import PoseLoss, PoseMethod
from posekit.training.pose_samples import PoseBatch

BATCH = 16
GOAL = 1.15


@dataclass(frozen=True)
class Case:
    """A trunk, the side of its crops, the cells of its volumes in depth, and its arithmetic."""

    backbone: BackboneName
    size: int
    depth_bins: int
    mixed: bool

    def __str__(self) -> str:
        return f"{self.backbone}, {self.size} px, {'bf16-mixed' if self.mixed else '32-true'}"


CASES = (
    Case("resnet50", 256, 64, False),
    Case("resnet50", 256, 64, True),
    Case("resnet18", 128, 32, False),
    Case("resnet18", 128, 32, True),
    Case("resnet10", 96, 24, False),
)


def made_batch(size: int) -> PoseBatch:
    random = torch.Generator().manual_seed(0)
    return PoseBatch(
        images=torch.randint(256, (BATCH, size, size, 3), generator=random).to(torch.uint8),
        joints=0.3 * torch.randn(BATCH, 16, 3, generator=random).clamp(-1, 1),
        weights=torch.ones(BATCH, 16, 3),
        covered=torch.zeros(BATCH),
        samples=torch.arange(BATCH),
    )


def measure(case: Case, repeats: int, device: torch.device) -> tuple[Timing, Timing]:
    """Timings of the bare network and of the step, taken in turn."""
    network = PoseResNet(
        Backbone(case.backbone), PoseResNetForm(backbone=case.backbone, depth_bins=case.depth_bins)
    ).to(device)
    method = PoseMethod(network, PoseLoss(), lr=1e-3)
    batch = made_batch(case.size).to(device)
    worker = Bench(method, case.mixed, device)
    images = normalised(batch.images)

    def bare() -> None:
        with arithmetic(case.mixed, device):
            volumes = network.logits(images)
        # A gradient that is there already costs nothing to make.
        volumes.backward(volumes.detach())
        network.zero_grad(set_to_none=True)

    return timed_in_turn((bare, lambda: method.step(batch, worker)), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="measure the cases whose name contains this; nothing is written")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    results: dict[str, object] = {"goal: step / network": GOAL, "batch": BATCH, "device": options.device}
    for case in CASES:
        if options.only not in str(case):
            continue
        bare, step = measure(case, options.repeats, torch.device(options.device))
        ratio = step.minimum / bare.minimum
        results |= {f"{case}: network": bare, f"{case}: step": step, f"{case}: step / network": ratio}
        verdict = "met" if ratio <= GOAL else "not met"
        print(
            f"{case!s:28s} network {bare.minimum_ms:8.1f} ms, step {step.minimum_ms:8.1f} ms, "
            f"ratio {ratio:.3f}, goal at most {GOAL}: {verdict}"
        )
    if not options.only:
        suffix = "" if options.device == "cpu" else "_cuda"
        print("written:", write_results(f"pose_resnet_step{suffix}", results))


if __name__ == "__main__":
    main()
