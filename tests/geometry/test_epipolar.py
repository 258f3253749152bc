"""Laws of the fundamental matrix."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from posekit.errors import DataError
from posekit.geometry.epipolar import (
    RobustSettings,
    cross_matrix,
    eight_point,
    essential_from_fundamental,
    essential_from_pose,
    fundamental_from_essential,
    homogeneous,
    robust_fundamental,
    sampson_distance,
)
from posekit.geometry.rotations import matrix_from_axis_angle


@pytest.fixture
def two_views():
    """Matches in pixels, with K1, K2 and the true F of unit norm."""
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(400, 3, generator=generator, dtype=torch.float64) * 0.7 + torch.tensor([0.0, 0.0, 5.0])
    rotation = matrix_from_axis_angle(torch.tensor([0.1, 0.9, -0.05], dtype=torch.float64))
    translation = torch.tensor([-3.9, 0.2, 2.0], dtype=torch.float64)
    first_K = torch.tensor([[1145.0, 0.0, 512.0], [0.0, 1143.0, 515.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    second_K = torch.tensor([[1480.0, 0.0, 540.0], [0.0, 1470.0, 960.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    in_second = points @ rotation.T + translation
    first = (points @ first_K.T)[:, :2] / points[:, 2:]
    second = (in_second @ second_K.T)[:, :2] / in_second[:, 2:]
    fundamental = fundamental_from_essential(essential_from_pose(rotation, translation), first_K, second_K)
    return first, second, first_K, second_K, fundamental / torch.linalg.matrix_norm(fundamental)


def same_up_to_sign(actual, expected, tolerance):
    return min((actual - expected).abs().max(), (actual + expected).abs().max()) < tolerance


def test_cross_matrix_is_the_cross_product():
    v, w = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((cross_matrix(v) @ w[..., None])[..., 0], torch.linalg.cross(v, w))


def test_true_fundamental_meets_the_constraint(two_views):
    first, second, *_, fundamental = two_views
    error = ((homogeneous(second) @ fundamental) * homogeneous(first)).sum(-1)
    assert error.abs().max() < 1e-12
    assert sampson_distance(fundamental, first, second).abs().max() < 1e-9


def test_eight_point_recovers_the_fundamental_from_all_and_from_small_samples(two_views):
    first, second, *_, fundamental = two_views
    assert same_up_to_sign(eight_point(first, second), fundamental, 1e-9)
    assert same_up_to_sign(eight_point(first[:8], second[:8]), fundamental, 1e-7)
    samples = torch.arange(48).reshape(6, 8)
    for matrix in eight_point(first[samples], second[samples]):
        assert same_up_to_sign(matrix, fundamental, 1e-6)


def test_eight_point_is_unaffected_by_similarities_of_the_pictures(two_views):
    first, second, *_ = two_views
    noisy = second + torch.randn(second.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = sampson_distance(eight_point(first, noisy), first, noisy)
    moved = 0.01 * first - 30.0
    shifted = sampson_distance(eight_point(moved, noisy), moved, noisy)
    # The scale of one picture weighs its part of the Sampson distance, so only its zero set can be compared.
    assert torch.equal(plain.sign(), shifted.sign()) or torch.equal(plain.sign(), -shifted.sign())


def test_eight_point_refuses_seven(two_views):
    first, second, *_ = two_views
    with pytest.raises(ValueError, match="needs 8"):
        eight_point(first[:7], second[:7])


def test_essential_of_the_fundamental_has_two_equal_singular_values(two_views):
    *_, first_K, second_K, fundamental = two_views
    essential = essential_from_fundamental(fundamental, first_K, second_K)
    torch.testing.assert_close(torch.linalg.svdvals(essential), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    back = fundamental_from_essential(essential, first_K, second_K)
    assert same_up_to_sign(back / torch.linalg.matrix_norm(back), fundamental, 1e-12)


def test_sampson_distance_agrees_with_opencv(two_views):
    first, second, *_, fundamental = two_views
    moved = second + torch.randn(second.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 5
    ours = sampson_distance(fundamental, first, moved).square()
    for i in range(0, 400, 40):
        theirs = cv2.sampsonDistance(
            homogeneous(first[i])[:, None].numpy(), homogeneous(moved[i])[:, None].numpy(), fundamental.numpy()
        )
        assert np.isclose(float(ours[i]), theirs, rtol=1e-6)


@pytest.mark.parametrize("method", ["ransac", "lmeds"])
def test_robust_estimate_finds_the_outliers(two_views, method):
    first, second, *_ = two_views
    generator = torch.Generator().manual_seed(4)
    spoiled = second.clone()
    wrong = torch.rand(400, generator=generator) < 0.35
    spoiled[wrong] += 40 + 200 * torch.rand(int(wrong.sum()), 2, generator=generator, dtype=torch.float64)
    spoiled += 0.3 * torch.randn(second.shape, generator=generator, dtype=torch.float64)
    found = robust_fundamental(first, spoiled, generator, RobustSettings(method=method, threshold_px=1.5))
    # An outlier that moved along its epipolar line cannot be told.
    assert (found.inliers[~wrong]).double().mean() > 0.95
    assert (found.inliers[wrong]).double().mean() < 0.1
    assert sampson_distance(found.matrix, first, second).abs().median() < 0.5


def test_robust_estimate_is_the_same_for_the_same_seed(two_views):
    first, second, *_ = two_views
    noisy = second + torch.randn(second.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = [robust_fundamental(first, noisy, torch.Generator().manual_seed(7)).matrix for _ in range(2)]
    assert torch.equal(*results)


def test_robust_estimate_needs_eight_matches(two_views):
    first, second, *_ = two_views
    with pytest.raises(DataError, match="at least 8"):
        robust_fundamental(first[:5], second[:5], torch.Generator())
