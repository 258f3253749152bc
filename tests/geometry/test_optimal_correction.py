"""Optimal two-view correction against OpenCV and against an iterative method."""

from __future__ import annotations

import cv2
import pytest
import torch

from posekit.geometry.epipolar import essential_from_pose, fundamental_from_essential, homogeneous
from posekit.geometry.optimal_correction import correct_matches, correct_matches_iterative, triangulate_optimally
from posekit.geometry.rotations import matrix_from_axis_angle

K = torch.tensor([[1145.0, 0.0, 512.0], [0.0, 1145.0, 515.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def make_views(turn=(0.1, -1.3, 0.05), shift=(4.5, 0.2, 3.0)):
    rotation = matrix_from_axis_angle(torch.tensor(turn, dtype=torch.float64))
    translation = torch.tensor(shift, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(300, 3, generator=generator, dtype=torch.float64) * 0.6 + torch.tensor([0.0, 0.0, 5.0])
    projections = K @ torch.stack(
        [torch.eye(3, 4, dtype=torch.float64), torch.cat([rotation, translation[:, None]], dim=1)]
    )
    first, second = ((homogeneous(points) @ p.T)[:, :2] / (homogeneous(points) @ p.T)[:, 2:] for p in projections)
    fundamental = fundamental_from_essential(essential_from_pose(rotation, translation), K, K)
    return points, projections, fundamental / torch.linalg.matrix_norm(fundamental), first, second


def with_noise(points, sigma, seed):
    return points + sigma * torch.randn(
        points.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def moved_by(corrected, given):
    return sum((after - before).square().sum(-1) for after, before in zip(corrected, given, strict=True))


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0, 20.0, 150.0])
@pytest.mark.parametrize("method", [correct_matches, correct_matches_iterative])
def test_corrected_matches_meet_the_constraint(sigma, method):
    *_, fundamental, first, second = make_views()
    corrected = method(fundamental, with_noise(first, sigma, 1), with_noise(second, sigma, 2))
    error = ((homogeneous(corrected[1]) @ fundamental) * homogeneous(corrected[0])).sum(-1)
    assert error.abs().max() < 1e-9


@pytest.mark.parametrize("sigma", [0.5, 2.0, 20.0, 150.0])
def test_no_worse_than_opencv_and_equal_where_its_roots_are_sharp(sigma):
    *_, fundamental, first, second = make_views()
    given = with_noise(first, sigma, 1), with_noise(second, sigma, 2)
    ours = correct_matches(fundamental, *given)
    theirs = cv2.correctMatches(fundamental.numpy(), given[0].numpy()[None], given[1].numpy()[None])
    theirs = [torch.from_numpy(points[0]) for points in theirs]
    # OpenCV's root finder stops early on some matches: then it moves the points further than needed.
    assert (moved_by(ours, given) <= moved_by(theirs, given) + 1e-9).all()
    for mine, other in zip(ours, theirs, strict=True):
        difference = (mine - other).abs()
        assert difference.median() < 1e-3 * sigma
        if sigma <= 2:
            assert difference.max() < 1e-3 * sigma


@pytest.mark.parametrize("sigma", [0.5, 2.0, 20.0])
def test_polynomial_and_iterative_methods_agree(sigma):
    *_, fundamental, first, second = make_views()
    given = with_noise(first, sigma, 1), with_noise(second, sigma, 2)
    for exact, iterated in zip(
        correct_matches(fundamental, *given), correct_matches_iterative(fundamental, *given), strict=True
    ):
        torch.testing.assert_close(exact, iterated, rtol=0, atol=1e-6)


def test_epipoles_at_infinity():
    _, _, fundamental, first, second = make_views(turn=(0.0, 0.0, 0.0), shift=(1.0, 0.0, 0.0))
    given = with_noise(first, 2.0, 1), with_noise(second, 2.0, 2)
    corrected = correct_matches(fundamental, *given)
    row = (given[0][:, 1] + given[1][:, 1]) / 2
    for after, before in zip(corrected, given, strict=True):
        torch.testing.assert_close(after[:, 0], before[:, 0], rtol=0, atol=1e-6)
        torch.testing.assert_close(after[:, 1], row, rtol=0, atol=1e-6)


def test_exact_matches_give_the_points_and_none_gives_none():
    points, projections, fundamental, first, second = make_views()
    torch.testing.assert_close(triangulate_optimally(projections, fundamental, first, second), points)
    empty = correct_matches(fundamental, first[:0], second[:0])
    assert empty[0].shape == empty[1].shape == (0, 2)
