"""Skinning: posekit's body model, whole and for a few vertices, against `smplx`, and one registration step.

Run ``python benchmarks/bench_skinning.py [BODIES]``. Inputs are the same for both, in single precision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from harness import time_function, write_results

from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.body.smplx_bridge import to_smplx
from posekit.geometry.rotations import matrix_from_axis_angle

CHOSEN = 120
GOALS = {"forward_whole": 1.0, "forward_few": 10.0, "with_gradient_whole": 1.0, "with_gradient_few": 10.0}
"""Times faster than smplx, at least."""
REGISTERED = 64


def main(bodies: int = 256) -> None:
    random = torch.Generator().manual_seed(0)
    betas, pose = torch.randn(bodies, 10, generator=random), 0.4 * torch.randn(bodies, 24, 3, generator=random)
    body = load_body()
    whole, smplx = BodyModel(body), to_smplx(body, bodies)
    few = whole.subset(torch.randperm(whole.vertex_count, generator=random)[:CHOSEN].numpy())

    def theirs() -> torch.Tensor:
        return smplx(betas=betas, global_orient=pose[:, 0], body_pose=pose[:, 1:].flatten(1)).vertices

    difference = (whole(betas, pose).vertices - theirs()).norm(dim=-1).max().item()
    with torch.no_grad():
        forward = {
            "smplx": time_function(theirs, repeats=5),
            "whole": time_function(lambda: whole(betas, pose)),
            "few": time_function(lambda: few(betas, pose)),
            "joints": time_function(lambda: whole.posed_joints(betas, pose)),
        }
    betas, pose = betas.requires_grad_(), pose.requires_grad_()
    step: dict[str, Callable[[], torch.Tensor]] = {
        "smplx": theirs,
        "whole": lambda: whole(betas, pose).vertices,
        "few": lambda: few(betas, pose).vertices,
    }
    backward = {name: time_function(_with_gradient(vertices), repeats=5) for name, vertices in step.items()}
    registration = time_function(_registration_step(random), repeats=30)
    ratios = {
        "forward_whole": forward["smplx"].minimum / forward["whole"].minimum,
        "forward_few": forward["smplx"].minimum / forward["few"].minimum,
        "with_gradient_whole": backward["smplx"].minimum / backward["whole"].minimum,
        "with_gradient_few": backward["smplx"].minimum / backward["few"].minimum,
    }
    print(f"{bodies} bodies, largest difference {1e3 * difference:.2g} mm")
    for title, timings in (("forward", forward), ("with gradient", backward)):
        print(f"{title}: " + ", ".join(f"{name} {timing.minimum_ms:.1f} ms" for name, timing in timings.items()))
    for name, ratio in ratios.items():
        met = "met" if ratio >= GOALS[name] else "not met"
        print(f"times faster than smplx, {name}: {ratio:.1f}, goal at least {GOALS[name]:.0f}: {met}")
    print(f"registration step, {REGISTERED} bodies with {CHOSEN} own points each: {registration.minimum_ms:.2f} ms")
    results = {"bodies": bodies, "forward": forward, "with_gradient": backward, "registration_step": registration}
    write_results(
        "skinning", {**results, "times_faster_than_smplx": ratios, "goals": GOALS, "largest_difference_m": difference}
    )


def _with_gradient(vertices: Callable[[], torch.Tensor]) -> Callable[[], None]:
    return lambda: vertices().square().sum().backward()


def _registration_step(random: torch.Generator) -> Callable[[], None]:
    """Forward and backward of the segment-scaled body, every body with points of its own."""
    body = SegmentScaledBody(load_body())
    rest = body.rest_points(torch.randint(body.vertex_count, (REGISTERED, CHOSEN), generator=random))
    pose = (0.3 * torch.randn(REGISTERED, 24, 3, generator=random)).requires_grad_()
    scales = torch.ones(REGISTERED, 24, requires_grad=True)

    def step() -> None:
        posed = body(matrix_from_axis_angle(pose), scales, rest)
        (posed.points.square().sum() + posed.joints.square().sum()).backward()

    return step


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
