"""A training step of the body regressor, against the bare trunk's forward and backward pass on the same images.

The step is everything that `RegressorMethod.step` does for a batch that is loaded: bytes to normalised images, network,
bodies, losses with 500 correspondences and 17 key points with depths, backward pass, Adam. The two are timed in turn, so
that a busy machine slows both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import torch
from harness import Timing, write_results
from steps import Bench, arithmetic, timed_in_turn

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.models.backbone import Backbone, BackboneName, normalised
from posekit.models.body_regressor import BodyRegressor
from posekit.registration.initial import resting
from posekit.registration.landmarks import landmark_blends
from posekit.registration.targets import WEAK_PROJECTION, Targets
from posekit.skeleton.catalog import H36M17
from posekit.training.body_losses import LossBody
from posekit.training.crops import CropBatch
from posekit.training.regressor import LossWeights, RegressorMethod, RegressorSettings

BATCH, POINTS = 30, 500
GOAL = 1.15


@dataclass(frozen=True)
class Case:
    """A trunk, the side of its crops, and its arithmetic."""

    backbone: BackboneName
    size: int
    mixed: bool

    def __str__(self) -> str:
        return f"{self.backbone}, {self.size} px, {'bf16-mixed' if self.mixed else '32-true'}"


CASES = (
    Case("resnet50", 224, False),
    Case("resnet50", 224, True),
    Case("resnet18", 96, False),
    Case("resnet18", 96, True),
    Case("resnet10", 64, True),
)


def made_batch(body: LossBody, size: int) -> CropBatch:
    random = torch.Generator().manual_seed(0)
    flat = torch.tensor([0.0, 0.0, 1.0])
    fits = resting(body.body, BATCH)
    targets = Targets(
        projections=torch.tensor(WEAK_PROJECTION).expand(BATCH, 1, 3, 4),
        keypoints=0.5 * torch.randn(BATCH, 1, 17, 2, generator=random),
        keypoint_weights=torch.ones(BATCH, 1, 17),
        joints=0.2 * torch.randn(BATCH, 17, 3, generator=random) * flat,
        joint_weights=flat.expand(BATCH, 17, 3),
        points=0.5 * torch.randn(BATCH, 1, POINTS, 2, generator=random),
        point_weights=torch.ones(BATCH, 1, POINTS),
        vertices=torch.randint(body.body.vertex_count, (BATCH, 1, POINTS), generator=random),
        linked=torch.zeros(BATCH, dtype=torch.bool),
        weak=True,
    )
    return CropBatch(
        images=torch.randint(256, (BATCH, size, size, 3), generator=random).to(torch.uint8),
        targets=targets,
        fits=replace(fits, pose=0.2 * torch.randn(fits.pose.shape, generator=random)),
        fitted=torch.ones(BATCH, dtype=torch.bool),
        samples=torch.arange(BATCH),
    )


def measure(case: Case, repeats: int, device: torch.device) -> tuple[Timing, Timing]:
    """Timings of the bare trunk and of the step, taken in turn."""
    skinned = SegmentScaledBody(load_body())
    body = LossBody(skinned, landmark_blends(skinned, H36M17))
    batch = made_batch(body, case.size).to(device)
    method = RegressorMethod(
        BodyRegressor(Backbone(case.backbone), 24, "quaternion").to(device),
        body.to(device),
        RegressorSettings(LossWeights()),
    )
    worker = Bench(method, case.mixed, device)
    trunk = Backbone(case.backbone).to(device)
    images = normalised(batch.images)

    def bare() -> None:
        with arithmetic(case.mixed, device):
            features = trunk(images)
        features.float().sum().backward()
        trunk.zero_grad(set_to_none=True)

    return timed_in_turn((bare, lambda: method.step(batch, worker)), repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="measure the cases whose name contains this; nothing is written")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    results: dict[str, object] = {
        "goal: step / trunk": GOAL,
        "batch": BATCH,
        "points": POINTS,
        "device": options.device,
    }
    for case in CASES:
        if options.only not in str(case):
            continue
        trunk, step = measure(case, options.repeats, torch.device(options.device))
        ratio = step.minimum / trunk.minimum
        results |= {f"{case}: trunk": trunk, f"{case}: step": step, f"{case}: step / trunk": ratio}
        verdict = "met" if ratio <= GOAL else "not met"
        print(
            f"{case!s:28s} trunk {trunk.minimum_ms:8.1f} ms, step {step.minimum_ms:8.1f} ms, "
            f"ratio {ratio:.3f}, goal at most {GOAL}: {verdict}"
        )
    if not options.only:
        print("written:", write_results("regressor_step", results))


if __name__ == "__main__":
    main()
