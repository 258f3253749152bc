"""Relative camera pose from matches."""

from __future__ import annotations

import math

import pytest
import torch

from posekit.errors import DataError
from posekit.geometry.epipolar import RobustSettings, sampson_distance
from posekit.geometry.relative_pose import (
    ImagePair,
    RelativePoseSettings,
    _moved_on_sphere,
    _sampson_system,
    estimate_relative_pose,
    find_weakness,
    refine_relative_pose,
    relative_pose,
)
from posekit.geometry.rotations import geodesic_angle, matrix_from_axis_angle
from posekit.geometry.triangulation import triangulate_dlt

K = torch.tensor([[1145.0, 0.0, 512.0], [0.0, 1143.0, 515.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
SIZE = torch.tensor([1000.0, 1000.0], dtype=torch.float64)
ROTATION = matrix_from_axis_angle(torch.tensor([0.1, -1.3, 0.05], dtype=torch.float64))


def make_pair(points, *, noise_px=0.0, outliers=0.0, seed=0):
    """The pair, with its true rotation and unit translation."""
    generator = torch.Generator().manual_seed(seed)
    translation = torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64) - ROTATION @ torch.tensor(
        [0.0, 0.0, 5.0], dtype=torch.float64
    )
    translation = translation + torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    seen = []
    for in_camera in (points, points @ ROTATION.T + translation):
        pixels = (in_camera @ K.T)[:, :2] / in_camera[:, 2:]
        pixels = pixels + noise_px * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        wrong = torch.rand(len(pixels), generator=generator) < outliers
        pixels[wrong] += 100 * torch.randn(int(wrong.sum()), 2, generator=generator, dtype=torch.float64)
        seen.append(pixels)
    pair = ImagePair(seen[0], seen[1], K, K, SIZE, SIZE, "left-right")
    return pair, translation / torch.linalg.vector_norm(translation)


def cloud(count=1500, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64) * 0.6 + torch.tensor([0.0, 0.0, 5.0])


def errors_deg(pose, translation):
    return (
        math.degrees(float(geodesic_angle(pose.rotation, ROTATION))),
        math.degrees(float(torch.linalg.vector_norm(pose.translation - translation))),
    )


@pytest.mark.parametrize("solver", ["f8", "e5"])
def test_noise_free_pose_and_points_are_exact(solver):
    points = cloud(400)
    pair, translation = make_pair(points)
    pose = estimate_relative_pose(pair, torch.Generator().manual_seed(0), RelativePoseSettings(solver=solver))
    rotation_error, translation_error = errors_deg(pose, translation)
    assert rotation_error < 0.01 and translation_error < 0.01
    second = torch.cat([pose.rotation, pose.translation[:, None]], dim=1)
    cameras = torch.stack([torch.eye(3, 4, dtype=torch.float64), second])
    found = triangulate_dlt(cameras, torch.stack(pair.normalized(), dim=1))
    scale = torch.linalg.matrix_norm(points) / torch.linalg.matrix_norm(found)
    assert torch.linalg.vector_norm(found * scale - points, dim=-1).max() < 1e-4


@pytest.mark.parametrize("solver", ["f8", "e5"])
@pytest.mark.parametrize("method", ["ransac", "lmeds"])
def test_pose_from_noisy_matches_with_outliers(solver, method):
    pair, translation = make_pair(cloud(), noise_px=2.0, outliers=0.1)
    settings = RelativePoseSettings(solver=solver, robust=RobustSettings(method=method))
    pose = estimate_relative_pose(pair, torch.Generator().manual_seed(0), settings)
    assert max(errors_deg(pose, translation)) < 0.6
    assert pose.quality.in_front > 0.95
    assert pose.quality.inlier_ratio > 0.6


def test_refinement_lowers_the_error_of_a_wrong_pose():
    pair, translation = make_pair(cloud(), noise_px=1.0)
    off = ROTATION @ matrix_from_axis_angle(torch.tensor([0.05, -0.04, 0.03], dtype=torch.float64))
    rotation, direction = refine_relative_pose(pair, off, translation, huber_px=3.0)
    before = sampson_distance(pair.fundamental(off, translation), pair.first, pair.second).abs().mean()
    after = sampson_distance(pair.fundamental(rotation, direction), pair.first, pair.second).abs().mean()
    assert after < 0.1 * before
    assert math.degrees(float(geodesic_angle(rotation, ROTATION))) < 0.2


def test_sampson_jacobian_agrees_with_finite_differences():
    pair, translation = make_pair(cloud(40), noise_px=5.0)
    _, jacobian, _ = _sampson_system(pair, ROTATION, translation, 1e9)
    step = 1e-6
    for k in range(5):
        values = []
        for sign in (1.0, -1.0):
            delta = torch.zeros(5, dtype=torch.float64)
            delta[k] = sign * step
            moved = (ROTATION @ matrix_from_axis_angle(delta[:3]), _moved_on_sphere(translation, delta[3:]))
            values.append(_sampson_system(pair, *moved, 1e9)[0])
        torch.testing.assert_close(jacobian[:, k], (values[0] - values[1]) / (2 * step), rtol=1e-4, atol=1e-4)


def test_points_on_a_plane_are_refused_by_name_and_figure():
    flat = cloud()
    flat[:, 2] = 5.0 - 0.7 * flat[:, 0]
    pair, _ = make_pair(flat, noise_px=0.5)
    with pytest.raises(DataError, match=r"left-right.*(one plane|in front)"):
        estimate_relative_pose(pair, torch.Generator().manual_seed(0))


def test_points_in_a_corner_are_refused():
    small = (cloud() - torch.tensor([0.0, 0.0, 5.0])) * 0.02 + torch.tensor([0.3, 0.3, 5.0])
    pair, _ = make_pair(small)
    with pytest.raises(DataError, match=r"left-right.*spread.*at least 0\.1"):
        estimate_relative_pose(pair, torch.Generator().manual_seed(0))


def test_too_few_matches_are_refused():
    pair, _ = make_pair(cloud(30))
    with pytest.raises(DataError, match=r"number of inliers.*30.*at least 50"):
        estimate_relative_pose(pair, torch.Generator().manual_seed(0))


def test_unrelated_points_are_refused():
    pair, _ = make_pair(cloud())
    shuffled = pair._replace(second=pair.second[torch.randperm(1500, generator=torch.Generator().manual_seed(0))])
    pose = relative_pose(shuffled, torch.Generator().manual_seed(0))
    assert find_weakness(pose.quality, RelativePoseSettings()) is not None


def test_eight_matches_are_the_least():
    pair, _ = make_pair(cloud(6))
    for solver in ("f8", "e5"):
        with pytest.raises(DataError, match="at least 8"):
            relative_pose(pair, torch.Generator(), RelativePoseSettings(solver=solver))
