"""Starting values from 3D joints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.registration.initial import resting, start_from_joints, triangulated
from posekit.registration.landmarks import landmark_blends
from posekit.registration.losses import hinges_of
from posekit.registration.matched import MatchedBody
from posekit.skeleton.catalog import SMPL24


def test_straight_and_bent_limbs_are_found_exactly(body: SegmentScaledBody) -> None:
    hinges, blends = hinges_of(body), landmark_blends(body, SMPL24)
    random = torch.Generator().manual_seed(0)
    pose = torch.zeros(20, 24, 3)
    for joint in ("left_shoulder", "right_shoulder", "left_hip", "right_hip"):
        pose[:, SMPL24.index(joint)] = 0.7 * torch.randn(20, 3, generator=random)
    for joint, axis in zip(hinges.joints.tolist(), hinges.axes, strict=True):
        pose[:, joint] = axis * (0.6 + torch.rand(20, 1, generator=random))
    turned = matrix_from_axis_angle(torch.randn(20, 3, generator=random))
    truth = replace(
        resting(body, 20),
        pose=pose,
        orientation=turned,
        translation=torch.randn(20, 3, generator=random),
        scale=torch.full((20,), 1.1),
    )
    model = MatchedBody(body, blends, torch.zeros(20, 0, dtype=torch.long), truth.betas)
    joints = truth.placed(model.pose(truth).landmarks)
    start, found = start_from_joints(body, blends, hinges, joints, torch.ones(20, 24, dtype=torch.bool))
    assert found.all()
    torch.testing.assert_close(start.scale, truth.scale, atol=1e-4, rtol=0)
    torch.testing.assert_close(start.rotation, truth.rotation, atol=1e-3, rtol=0)
    ends = ("elbow", "wrist", "knee", "ankle")
    limbs = torch.tensor(SMPL24.indices(*(f"{side}_{end}" for side in ("left", "right") for end in ends)))
    placed = start.placed(model.pose(start).landmarks)
    torch.testing.assert_close(placed[:, limbs], joints[:, limbs], atol=5e-3, rtol=0)
    # The bend's plane fixes the twist of the upper bone, all but the part that is taken from the rest pose.
    ends = torch.tensor(SMPL24.indices("left_shoulder", "right_hip"))
    angles = (
        (matrix_from_axis_angle(start.pose[:, ends]).transpose(-1, -2) @ matrix_from_axis_angle(pose[:, ends]))
        .diagonal(dim1=-1, dim2=-2)
        .sum(-1)
    )
    assert torch.arccos(((angles - 1) / 2).clamp(-1, 1)).mean() < 0.2


def test_opposite_limbs_and_missing_joints(body: SegmentScaledBody) -> None:
    hinges, blends = hinges_of(body), landmark_blends(body, SMPL24)
    rest = MatchedBody(body, blends, torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 10))
    joints = rest.pose(resting(body, 1)).landmarks
    mirrored = joints.clone()
    shoulder, elbow, wrist = SMPL24.indices("left_shoulder", "left_elbow", "left_wrist")
    for joint in (elbow, wrist):
        mirrored[:, joint] = 2 * joints[:, shoulder] - joints[:, joint]
    known = torch.ones(1, 24, dtype=torch.bool)
    start, _ = start_from_joints(body, blends, hinges, mirrored, known)
    assert start.flat().isfinite().all()
    torch.testing.assert_close(
        start.placed(rest.pose(start).landmarks)[:, [elbow, wrist]], mirrored[:, [elbow, wrist]], atol=1e-2, rtol=0
    )
    known[:, elbow] = False
    start, found = start_from_joints(body, blends, hinges, mirrored, known)
    assert found.all() and (start.pose[:, [shoulder, elbow]] == 0).all()
    _, found = start_from_joints(body, blends, hinges, mirrored, torch.zeros(1, 24, dtype=torch.bool))
    assert not found.any()


def test_triangulation_needs_two_views(scene_maker: Any) -> None:
    scene = scene_maker(2, points=1, noise_px=0.0)
    targets = scene.targets
    made, enough = triangulated(targets.projections, targets.keypoints, targets.keypoint_weights)
    assert enough.all()
    torch.testing.assert_close(made, scene.joints, atol=2e-3, rtol=0)
    weights = torch.zeros_like(targets.keypoint_weights)
    weights[:, 1] = 1.0
    made, enough = triangulated(targets.projections, targets.keypoints, weights)
    assert not enough.any() and (made == 0).all()
