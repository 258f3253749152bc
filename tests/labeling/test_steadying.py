"""Joints steadied by constant bones and smooth motion."""

from __future__ import annotations

import pytest
import torch

from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.geometry.triangulation import camera_matrices, focal_lengths, triangulate
from posekit.labeling.steadying import BonePrior, Evidence, measure_bones, point_information, steady_joints
from posekit.skeleton.catalog import H36M17

NOISE_PX = 2.0


def evidence_of(recording, noise_px=NOISE_PX):
    found = triangulate(recording.cameras, recording.keypoints.transpose(1, 2), recording.confidence.transpose(1, 2))
    matrices, focal = camera_matrices(recording.cameras), focal_lengths(recording.cameras)
    return Evidence(found.points, point_information(matrices, found.points, found.inliers, focal, noise_px))


@pytest.fixture(scope="module")
def evidence(noisy):
    return evidence_of(noisy)


def root_relative_error(joints, truth):
    error = torch.linalg.vector_norm(joints - joints[:, :1] - (truth - truth[:, :1]), dim=-1)
    return float(error.nanmean())


def test_information_is_the_inverse_of_the_scatter_of_triangulated_points(clean):
    cameras, point = clean.cameras, clean.joints[7, 3]
    generator = torch.Generator().manual_seed(0)
    seen = cameras.project(point[None])[:, 0] + torch.randn(4000, 4, 2, generator=generator, dtype=torch.float64)
    found = triangulate(cameras, seen, torch.ones(4000, 4))
    information = point_information(
        camera_matrices(cameras), point, torch.ones(4, dtype=torch.bool), focal_lengths(cameras), 1.0
    )
    whitened = torch.linalg.cholesky(information).T @ torch.cov(found.points.T) @ torch.linalg.cholesky(information)
    torch.testing.assert_close(whitened, torch.eye(3, dtype=torch.float64), rtol=0, atol=0.15)


def test_error_is_halved_and_outliers_are_mended(noisy, evidence):
    prior = measure_bones(evidence, H36M17.bones)
    steadied = steady_joints(evidence, torch.arange(200), prior)
    before, after = root_relative_error(evidence.joints, noisy.joints), root_relative_error(steadied, noisy.joints)
    assert after < 0.010
    assert after < 0.6 * before


def test_bones_alone_help_where_frames_are_far_apart(noisy, evidence):
    prior = measure_bones(evidence, H36M17.bones)
    uneven = torch.arange(200) ** 2
    after = root_relative_error(steady_joints(evidence, uneven, prior), noisy.joints)
    assert after < 0.9 * root_relative_error(evidence.joints, noisy.joints)


def test_lengths_are_measured_without_the_bias_of_noise(noisy, evidence):
    prior = measure_bones(evidence, H36M17.bones)
    parents, children = torch.tensor(H36M17.bones).T
    true = torch.linalg.vector_norm(noisy.joints[0, children] - noisy.joints[0, parents], dim=-1)
    assert (prior.lengths - true).abs().max() < 0.004
    assert (prior.deviations < 0.01).all()


def test_what_is_not_rigid_is_left_alone(noisy, evidence):
    ends = ((H36M17.index("left_wrist"), H36M17.index("right_wrist")),)
    assert measure_bones(evidence, ends).deviations[0] > 0.05


def test_exact_joints_stay(clean):
    evidence = evidence_of(clean, noise_px=0.01)
    steadied = steady_joints(evidence, torch.arange(60), measure_bones(evidence, H36M17.bones))
    assert torch.linalg.vector_norm(steadied - clean.joints, dim=-1).max() < 1e-3


def test_result_moves_with_the_world(evidence):
    prior = measure_bones(evidence, H36M17.bones)
    turn = matrix_from_axis_angle(torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64))
    shift = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
    moved = Evidence(evidence.joints @ turn.T + shift, turn @ evidence.information @ turn.T)
    expected = steady_joints(evidence, torch.arange(200), prior) @ turn.T + shift
    torch.testing.assert_close(
        steady_joints(moved, torch.arange(200), prior), expected, rtol=0, atol=2e-3, equal_nan=True
    )


def test_missing_joints_stay_missing_and_spoil_nothing(noisy, evidence):
    prior = measure_bones(evidence, H36M17.bones)
    joints = evidence.joints.clone()
    joints[50:60, 5] = torch.nan
    joints[100] = torch.nan
    steadied = steady_joints(evidence._replace(joints=joints), torch.arange(200), prior)
    assert torch.equal(steadied.isnan(), joints.isnan())
    assert root_relative_error(steadied, noisy.joints) < 0.011


@pytest.mark.parametrize("frames", [0, 1, 2, 4])
def test_few_frames_are_no_problem(evidence, frames):
    part = Evidence(evidence.joints[:frames], evidence.information[:frames])
    prior = measure_bones(part, H36M17.bones)
    assert prior.deviations.isinf().all()
    torch.testing.assert_close(steady_joints(part, torch.arange(frames), prior), part.joints, equal_nan=True)


def test_a_skeleton_without_bones_is_smoothed_all_the_same(noisy, evidence):
    none = BonePrior((), torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    after = root_relative_error(steady_joints(evidence, torch.arange(200), none), noisy.joints)
    assert after < 0.9 * root_relative_error(evidence.joints, noisy.joints)
