"""The adversary's views against rotation matrices, and its two losses."""

from __future__ import annotations

import math

import pytest
import torch

from posekit.errors import DataError
from posekit.geometry.rotations import matrix_from_euler
from posekit.training.single_step import ProjectionAdversary, caught, deceived

NAMES = ("nose", "left_hip", "right_hip", "left_knee", "head_top")
LABELLED = ("left_hip", "right_hip", "left_knee", "nose")
ANGLES = (90.0, 180.0, 300.0)


def landmarks() -> torch.Tensor:
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def adversary(angles: tuple[float, ...] = ANGLES) -> ProjectionAdversary:
    return ProjectionAdversary(NAMES, LABELLED, angles).double()


def test_it_sees_what_labelled_poses_would_be_of_turned_bodies() -> None:
    points = landmarks()
    views = adversary().projected(points)
    assert views.shape == (12, 4, 2)
    for number, angle in enumerate(ANGLES):
        turn = matrix_from_euler("y", torch.tensor([math.radians(angle)], dtype=torch.float64))
        pictured = (points @ turn.T)[..., :2] * 37.0 + 5.0
        poses, complete = adversary().labelled(pictured, torch.ones(4, 5))
        assert complete.all()
        torch.testing.assert_close(views[4 * number : 4 * number + 4], poses, rtol=1e-4, atol=1e-5)


def test_poses_that_lack_a_joint_are_marked_and_joints_nobody_labels_do_not_matter() -> None:
    weights = torch.ones(4, 5)
    weights[0, 3] = 0.0
    weights[1, 4] = 0.0
    _, complete = adversary().labelled(landmarks()[..., :2], weights)
    assert complete.tolist() == [False, True, True, True]
    assert adversary().joints == ["nose", "left_hip", "right_hip", "left_knee"]


def test_a_pose_of_one_point_has_a_finite_gradient() -> None:
    points = torch.zeros(1, 5, 3, dtype=torch.float64, requires_grad=True)
    adversary().projected(points).square().sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_losses_are_those_of_a_standard_adversary_for_each_sample() -> None:
    real = torch.tensor([2.0, -1.0])
    made = torch.tensor([0.5, -0.5, 1.0, 3.0])
    log = torch.nn.functional.logsigmoid
    torch.testing.assert_close(
        deceived(made, 2), torch.stack([-(log(made[0]) + log(made[2])) / 2, -(log(made[1]) + log(made[3])) / 2])
    )
    expected = -(log(-made[0]) + log(-made[2])) / 2 - log(real[0])
    torch.testing.assert_close(caught(real, torch.tensor([True, False]), made)[0], expected)
    torch.testing.assert_close(caught(real, torch.tensor([True, False]), made)[1], -(log(-made[1]) + log(-made[3])) / 2)


def test_it_needs_hips() -> None:
    with pytest.raises(DataError, match="needs hips"):
        ProjectionAdversary(NAMES, ("left_hip", "nose"), ANGLES)
