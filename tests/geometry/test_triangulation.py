"""Triangulation from several views."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from posekit.geometry.cameras import Cameras
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.geometry.triangulation import (
    TriangulationSettings,
    camera_matrices,
    focal_lengths,
    triangulate,
    triangulate_dlt,
    triangulate_robust,
)

DISTORTION = torch.tensor([-0.2, 0.24, -0.001, -0.0009, -0.0016], dtype=torch.float64)


def ring(count=4, radius=5.0, height=1.6):
    """Cameras on a ring (world z up) that look at the origin, with a lens."""
    rotations, translations = [], []
    for k in range(count):
        angle = 2 * math.pi * (k + 0.5) / count
        centre = torch.tensor([radius * math.cos(angle), radius * math.sin(angle), height], dtype=torch.float64)
        forward = torch.nn.functional.normalize(-centre, dim=0)
        right = torch.nn.functional.normalize(
            torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)), dim=0
        )
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        rotations.append(rotation)
        translations.append(-rotation @ centre)
    K = torch.tensor([[1145.0, 0.0, 512.0], [0.0, 1143.0, 515.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Cameras(
        K.expand(count, 3, 3),
        torch.stack(rotations),
        torch.stack(translations),
        DISTORTION.expand(count, 5),
        "opencv",
        torch.full((count, 2), 1000.0, dtype=torch.float64),
    )


def cloud(*shape, seed=0):
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.6


def pixels_of(cameras, points, noise_px=0.0, seed=1):
    """(*batch, C, 2)."""
    flat = points.reshape(-1, 3)
    seen = cameras.project(flat).transpose(0, 1)
    seen = seen + noise_px * torch.randn(seen.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return seen.reshape(*points.shape[:-1], len(cameras), 2)


def distance(a, b):
    return torch.linalg.vector_norm(a - b, dim=-1)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_exact_observations_give_the_points_through_a_lens(count):
    cameras, points = ring(count), cloud(5, 11)
    found = triangulate(cameras, pixels_of(cameras, points), torch.ones(5, 11, count))
    assert found.ok.all() and found.inliers.all()
    assert distance(found.points, points).max() < 1e-8
    assert found.error_px.max() < 1e-5


def test_single_precision_in_single_precision_out():
    cameras, points = ring(), cloud(9)
    found = triangulate(cameras.to(dtype=torch.float32), pixels_of(cameras, points).float(), torch.ones(9, 4))
    assert found.points.dtype == torch.float32
    assert distance(found.points.double(), points).max() < 1e-4


def test_result_moves_with_the_world():
    cameras, points = ring(), cloud(40)
    seen, ones = pixels_of(cameras, points, 3.0), torch.ones(40, 4)
    plain = triangulate(cameras, seen, ones).points
    turn = matrix_from_axis_angle(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    shift = torch.tensor([100.0, -50.0, 30.0], dtype=torch.float64)
    moved = Cameras(
        cameras.intrinsics,
        cameras.rotation @ turn.T,
        cameras.translation - cameras.rotation @ turn.T @ shift,
        cameras.distortion,
        cameras.lens,
        cameras.image_size,
    )
    assert distance(triangulate(moved, seen, ones).points, plain @ turn.T + shift).max() < 1e-7


def test_order_of_cameras_does_not_matter():
    cameras, points = ring(), cloud(60)
    seen = pixels_of(cameras, points, 3.0)
    seen[:20, 1] += 150
    order = [2, 0, 3, 1]
    plain = triangulate(cameras, seen, torch.ones(60, 4))
    permuted = triangulate(cameras[order], seen[:, order], torch.ones(60, 4))
    torch.testing.assert_close(plain.points, permuted.points, rtol=0, atol=1e-6)
    assert torch.equal(plain.inliers[:, order], permuted.inliers)


@pytest.mark.parametrize("robust", [False, True])
def test_refined_point_minimises_the_reprojection_error(robust):
    cameras, points = ring(), cloud(12)
    seen = pixels_of(cameras, points, 3.0)
    huber = 2.0 if robust else 1e6
    settings = TriangulationSettings(threshold_px=1e6, huber_px=huber, refinement_steps=20)
    found = triangulate(cameras, seen, torch.ones(12, 4), settings).points
    matrices, focal = camera_matrices(cameras).numpy(), focal_lengths(cameras).numpy()
    normalized = cameras.undistort(seen.transpose(0, 1)).transpose(0, 1).numpy()

    def residuals(point, i):
        in_camera = matrices[:, :, :3] @ point + matrices[:, :, 3]
        return np.linalg.norm((in_camera[:, :2] / in_camera[:, 2:] - normalized[i]) * focal, axis=1)

    def squares(point, i):
        r = residuals(point, i)
        return np.where(r <= huber, r**2, huber * (2 * r - huber))

    def loss(point, i):
        return squares(point, i).sum()

    for i in range(12):
        best = least_squares(
            lambda p, i=i: np.sqrt(squares(p, i)), points[i].numpy(), xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        assert loss(found[i].numpy(), i) <= loss(best.x, i) * (1 + 2e-5)


def test_refinement_beats_the_linear_solution():
    cameras, points = ring(), cloud(2000)
    seen, ones = pixels_of(cameras, points, 2.0), torch.ones(2000, 4)
    linear = triangulate(cameras, seen, ones, TriangulationSettings(refinement_steps=0))
    refined = triangulate(cameras, seen, ones)
    assert distance(refined.points, points).mean() < distance(linear.points, points).mean() < 0.012


def test_one_wrong_view_in_each_point_is_found():
    cameras, points = ring(), cloud(400)
    seen = pixels_of(cameras, points, 1.0)
    generator = torch.Generator().manual_seed(5)
    wrong = torch.randint(4, (400,), generator=generator)
    angle = 2 * math.pi * torch.rand(400, generator=generator, dtype=torch.float64)
    seen[torch.arange(400), wrong] += 200 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    found = triangulate(cameras, seen, torch.ones(400, 4))
    assert found.ok.all()
    assert torch.equal(found.inliers.sum(dim=-1), torch.full((400,), 3))
    assert not found.inliers[torch.arange(400), wrong].any()
    assert distance(found.points, points).median() < 0.008
    assert (found.error_px[torch.arange(400), wrong] > 100).all()


def test_views_without_confidence_or_with_nan_are_not_used():
    cameras, points = ring(), cloud(30)
    seen, weights = pixels_of(cameras, points), torch.ones(30, 4)
    seen[:10, 0] = torch.nan
    weights[10:20, 3] = 0.0
    seen[10:20, 3] = -1e5
    found = triangulate(cameras, seen, weights)
    assert found.ok.all() and distance(found.points, points).max() < 1e-8
    assert not found.inliers[:10, 0].any() and not found.inliers[10:20, 3].any()
    assert found.error_px[:10, 0].isnan().all() and found.error_px[10:20, 3].isnan().all()


def test_fewer_views_than_needed_give_nan_and_no_ok():
    cameras, points = ring(), cloud(30)
    seen, weights = pixels_of(cameras, points), torch.ones(30, 4)
    weights[:10, 1:] = 0.0
    weights[10:20, 2:] = 0.0
    found = triangulate(cameras, seen, weights)
    assert not found.ok[:10].any() and found.points[:10].isnan().all() and not found.inliers[:10].any()
    assert found.ok[10:].all()
    strict = triangulate(cameras, seen, weights, TriangulationSettings(min_views=3))
    assert not strict.ok[:20].any() and strict.ok[20:].all()
    assert not triangulate(cameras, seen, torch.zeros(30, 4)).ok.any()


def test_rays_that_meet_behind_the_cameras_are_refused():
    cameras = ring(2)
    behind = cameras.world_from_camera(torch.tensor([[0.1, 0.2, -4.0]], dtype=torch.float64))[0]
    found = triangulate(cameras, pixels_of(cameras, behind), torch.ones(1, 2))
    assert not found.ok.any()


def test_narrow_angles_are_refused():
    cameras = ring()
    near_twin = Cameras.stack([cameras[0], cameras[0]])
    near_twin.translation[1] += torch.tensor([0.05, 0.0, 0.0], dtype=torch.float64)
    points = cloud(20)
    seen = pixels_of(near_twin, points)
    assert not triangulate(near_twin, seen, torch.ones(20, 2)).ok.any()
    allowed = triangulate(near_twin, seen, torch.ones(20, 2), TriangulationSettings(min_angle_deg=0.1))
    assert allowed.ok.all() and distance(allowed.points, points).max() < 1e-5


def test_two_views_that_disagree_are_not_ok():
    cameras, points = ring()[[0, 1]], cloud(20)
    seen = pixels_of(cameras, points)
    seen[:, 1, 1] += 100
    assert not triangulate(cameras, seen, torch.ones(20, 2)).ok.any()


def test_many_points_are_worked_in_chunks_with_the_same_result():
    cameras, points = ring(), cloud(9000)
    seen = pixels_of(cameras, points, 2.0)
    whole = triangulate(cameras, seen, torch.ones(9000, 4))
    parts = triangulate(cameras, seen[8500:], torch.ones(500, 4))
    torch.testing.assert_close(whole.points[8500:], parts.points, rtol=0, atol=1e-9)


def test_one_camera_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="at least two"):
        triangulate_robust(torch.eye(3, 4)[None], torch.zeros(5, 1, 2), torch.ones(5, 1), torch.ones(1, 2))


@pytest.mark.parametrize("reweightings", [0, 3])
def test_linear_method_with_general_projections(reweightings):
    cameras, points = ring(), cloud(50)
    pinhole = Cameras(
        cameras.intrinsics, cameras.rotation, cameras.translation, torch.zeros(4, 0), "pinhole", cameras.image_size
    )
    seen = pixels_of(pinhole, points)
    projections = pinhole.projection_matrices()
    shared = triangulate_dlt(projections, seen, reweightings=reweightings)
    per_point = triangulate_dlt(projections.expand(50, 4, 3, 4), seen, reweightings=reweightings)
    assert distance(shared, points).max() < 1e-8
    torch.testing.assert_close(shared, per_point)
    assert triangulate_dlt(projections, seen[0]).shape == (3,)


def test_linear_method_falls_back_where_rays_are_nearly_parallel():
    cameras = ring()
    twin = Cameras.stack([cameras[0], cameras[0]])
    twin.translation[1, 0] += 1e-7
    points = cloud(5)
    normalized = pixels_of(twin, points)
    normalized = twin.undistort(normalized.transpose(0, 1)).transpose(0, 1)
    found = triangulate_dlt(camera_matrices(twin), normalized)
    # No depth can be had from such a baseline, but the points must lie on the rays.
    in_camera = cameras[0].camera_from_world(found)
    torch.testing.assert_close(in_camera[:, :2] / in_camera[:, 2:], normalized[:, 0], rtol=0, atol=1e-4)


def test_linear_method_gives_nan_with_one_view():
    cameras, points = ring(), cloud(4)
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(4, 4)
    assert triangulate_dlt(cameras.projection_matrices(), pixels_of(cameras, points), weights).isnan().all()


def test_reweighting_minimises_image_distances():
    cameras, points = ring(), cloud(3000)
    pinhole = Cameras(
        cameras.intrinsics, cameras.rotation, cameras.translation, torch.zeros(4, 0), "pinhole", cameras.image_size
    )
    seen = pixels_of(pinhole, points, 4.0)

    def cost(found):
        return (pinhole.project(found).transpose(0, 1) - seen).square().sum(dim=(-1, -2)).mean()

    projections = pinhole.projection_matrices()
    assert cost(triangulate_dlt(projections, seen, reweightings=4)) < cost(triangulate_dlt(projections, seen))
