from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from posekit.geometry import rotations as rot


def _vectors(count: int = 64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    vectors[0] = 0.0
    vectors[1] = torch.tensor([1e-9, -2e-9, 1e-9])
    vectors[2] = torch.tensor([0.0, torch.pi - 1e-9, 0.0])
    vectors[3] = torch.tensor([3e-4, 0.0, 0.0])
    return vectors


def test_axis_angle_agrees_with_scipy_and_is_orthonormal() -> None:
    vectors = _vectors()
    matrices = rot.matrix_from_axis_angle(vectors)
    torch.testing.assert_close(matrices.numpy(), Rotation.from_rotvec(vectors.numpy()).as_matrix(), rtol=0, atol=1e-14)
    eye = torch.eye(3, dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(matrices @ matrices.mT, eye, rtol=0, atol=1e-14)


def test_axis_angle_round_trip() -> None:
    vectors = _vectors()
    vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1.0) * 3.0 * torch.rand(64, 1, dtype=torch.float64)
    back = rot.axis_angle_from_matrix(rot.matrix_from_axis_angle(vectors))
    torch.testing.assert_close(back, vectors, rtol=0, atol=1e-9)


def test_axis_angle_of_either_quaternion_is_the_short_one() -> None:
    generator = torch.Generator().manual_seed(9)
    vectors = 3.1 * (2.0 * torch.rand(50, 3, generator=generator, dtype=torch.float64) - 1.0) / 3.0**0.5
    quaternions = rot.quaternion_from_axis_angle(vectors)
    for sign in (1.0, -1.0):
        torch.testing.assert_close(rot.axis_angle_from_quaternion(sign * quaternions), vectors)


def test_axis_angle_of_the_identity_quaternion_has_its_exact_gradient() -> None:
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(rot.axis_angle_from_quaternion, identity)
    torch.testing.assert_close(jacobian, torch.cat([torch.zeros(3, 1), 2.0 * torch.eye(3)], dim=1).double())


def test_axis_angle_gradient_at_zero_is_the_generator() -> None:
    vector = torch.zeros(3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(rot.matrix_from_axis_angle, vector)
    expected = torch.zeros(3, 3, 3, dtype=torch.float64)
    for (i, j, k), sign in {
        (2, 1, 0): 1,
        (1, 2, 0): -1,
        (0, 2, 1): 1,
        (2, 0, 1): -1,
        (1, 0, 2): 1,
        (0, 1, 2): -1,
    }.items():
        expected[i, j, k] = sign
    torch.testing.assert_close(jacobian, expected)


def test_axis_angle_gradient_matches_finite_differences() -> None:
    vectors = (_vectors()[3:9]).clone().requires_grad_()
    assert torch.autograd.gradcheck(rot.matrix_from_axis_angle, vectors)


def test_axis_angle_of_the_identity_has_finite_gradient() -> None:
    matrix = torch.eye(3, dtype=torch.float64, requires_grad=True)
    rot.axis_angle_from_matrix(matrix).sum().backward()
    assert matrix.grad is not None and bool(matrix.grad.isfinite().all())


def test_quaternions_agree_with_scipy() -> None:
    vectors = _vectors()
    expected = np.roll(Rotation.from_rotvec(vectors.numpy()).as_quat(), 1, axis=-1)
    ours = rot.quaternion_from_axis_angle(vectors)
    np.testing.assert_allclose(ours.abs(), np.abs(expected), atol=1e-12)
    matrices = rot.matrix_from_axis_angle(vectors)
    torch.testing.assert_close(rot.matrix_from_quaternion(ours * 3.0), matrices, rtol=0, atol=1e-12)
    torch.testing.assert_close(rot.matrix_from_quaternion(-ours), matrices, rtol=0, atol=1e-12)
    recovered = rot.quaternion_from_matrix(matrices)
    torch.testing.assert_close(recovered, rot.canonical_quaternion(ours), rtol=0, atol=1e-12)
    assert bool((recovered[:, 0] >= -1e-6).all())


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ([-0.5, 0.5, 0.5, 0.5], [0.5, -0.5, -0.5, -0.5]),
        ([0.5, -0.5, 0.5, 0.5], [0.5, -0.5, 0.5, 0.5]),
        ([0.0, -1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]),
        ([1e-9, 0.0, -0.6, 0.8], [-1e-9, 0.0, 0.6, -0.8]),
        ([-1e-9, 0.0, 0.6, -0.8], [-1e-9, 0.0, 0.6, -0.8]),
    ],
)
def test_canonical_quaternion(given: list[float], canonical: list[float]) -> None:
    result = rot.canonical_quaternion(torch.tensor(given, dtype=torch.float64))
    torch.testing.assert_close(result, torch.tensor(canonical, dtype=torch.float64))


def test_6d_round_trip_and_layout() -> None:
    matrices = rot.matrix_from_axis_angle(_vectors())
    torch.testing.assert_close(rot.matrix_from_6d(rot.six_d_from_matrix(matrices)), matrices)
    # Columns, interleaved: x and y of (1, 0, 0), (0, 1, 0) are rows of a 3 x 2 matrix.
    numbers = torch.tensor([0.0, -2.0, 3.0, 0.0, 0.0, 0.0])
    expected = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(rot.matrix_from_6d(numbers), expected)


def test_9d_is_a_proper_rotation_invariant_to_column_lengths() -> None:
    raw = torch.randn(256, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrices = rot.matrix_from_9d(raw)
    eye = torch.eye(3, dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(matrices.mT @ matrices, eye, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(256, dtype=torch.float64))
    stretched = raw * torch.tensor([0.1, 5.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(rot.matrix_from_9d(stretched), matrices, rtol=0, atol=1e-10)
    torch.testing.assert_close(rot.matrix_from_9d(raw.flatten(1)), matrices)
    # A reflection is mended through the third column, which itself plays no part.
    mirrored = matrices * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(rot.matrix_from_9d(mirrored), matrices, rtol=0, atol=1e-12)


def test_gram_schmidt_stays_finite_on_zeros() -> None:
    numbers = torch.zeros(9, requires_grad=True)
    rotation = rot.matrix_from_9d(numbers)
    rotation.sum().backward()
    assert bool(rotation.isfinite().all()) and numbers.grad is not None and bool(numbers.grad.isfinite().all())


@pytest.mark.parametrize("axes", ["xyz", "zyx", "zxy", "xy", "z"])
def test_euler_agrees_with_scipy_intrinsic(axes: str) -> None:
    angles = torch.randn(20, len(axes), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = Rotation.from_euler(axes.upper(), angles.numpy()).as_matrix()
    np.testing.assert_allclose(rot.matrix_from_euler(axes, angles), expected, atol=1e-14)


@pytest.mark.parametrize("axes", ["xy", "XYZ", "abc", "xyzx"])
def test_euler_refuses_wrong_axes(axes: str) -> None:
    with pytest.raises(ValueError, match="axes"):
        rot.matrix_from_euler(axes, torch.zeros(3))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, torch.pi - 1e-9, torch.pi])
def test_geodesic_angle_is_exact_with_finite_gradient(angle: float) -> None:
    base = rot.matrix_from_axis_angle(torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64))
    turn = rot.matrix_from_axis_angle(angle * torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64))
    second = (base @ turn).requires_grad_()
    measured = rot.geodesic_angle(base, second)
    measured.backward()
    assert abs(measured.item() - angle) < 1e-12 + 1e-8 * (angle > 3)
    assert second.grad is not None and bool(second.grad.isfinite().all())


def test_single_precision_stays_single() -> None:
    vectors = _vectors().float()
    assert rot.matrix_from_axis_angle(vectors).dtype == torch.float32
    assert rot.geodesic_angle(rot.matrix_from_axis_angle(vectors), torch.eye(3)).dtype == torch.float32
