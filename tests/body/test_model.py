"""Skinning against a plain float64 loop, and its laws; parity with smplx is in test_smplx_bridge.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.body.kinematics import ForwardKinematics
from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.skeleton.catalog import SMPL24


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return BodyModel(load_body())


@pytest.fixture(scope="module")
def exact_model() -> BodyModel:
    return BodyModel(load_body(), dtype=torch.float64)


def _inputs(count: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(4)
    betas = torch.randn(count, 10, generator=random, dtype=dtype)
    pose = 0.6 * torch.randn(count, 24, 3, generator=random, dtype=dtype)
    return betas, pose, torch.randn(count, 3, generator=random, dtype=dtype)


def _skinned_plainly(model: BodyModel, betas: np.ndarray, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loper et al. 2015, one vertex array and one joint at a time, in float64."""
    body = model.body
    vertices = body.v_template + body.shapedirs.astype(np.float64) @ betas
    rest = body.joint_regressor.astype(np.float64) @ vertices
    vertices = vertices + body.posedirs.astype(np.float64) @ (rotations[1:] - np.eye(3)).ravel()
    chains = []
    for joint, parent in enumerate(body.parents):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = rotations[joint], rest[joint] - (rest[parent] if parent >= 0 else 0)
        chains.append(local if parent < 0 else chains[parent] @ local)
    posed = np.zeros_like(vertices)
    for joint, chain in enumerate(chains):
        posed += body.weights[:, joint, None].astype(np.float64) * (
            (vertices - rest[joint]) @ chain[:3, :3].T + chain[:3, 3]
        )
    return posed, np.stack([chain[:3, 3] for chain in chains])


def test_equals_a_plain_float64_loop(exact_model: BodyModel) -> None:
    betas, pose, _ = _inputs(2, torch.float64)
    rotations = matrix_from_axis_angle(pose)
    posed = exact_model(betas, rotations)
    for i in range(2):
        vertices, joints = _skinned_plainly(exact_model, betas[i].numpy(), rotations[i].numpy())
        # Weights of the file sum to 1 only to single precision, hence not 1e-12.
        np.testing.assert_allclose(posed.vertices[i].numpy(), vertices, atol=1e-6)
        np.testing.assert_allclose(posed.joints[i].numpy(), joints, atol=1e-12)


def test_at_rest_the_body_is_its_template(model: BodyModel) -> None:
    posed = model(torch.zeros(1, 10), torch.zeros(1, 24, 3))
    np.testing.assert_allclose(posed.vertices[0].numpy(), model.body.v_template, atol=1e-6)
    np.testing.assert_allclose(posed.joints[0].numpy(), model.body.rest_joints, atol=1e-6)


def test_rest_shape_is_the_regressor_of_the_rest_vertices(exact_model: BodyModel) -> None:
    betas, _, _ = _inputs(3, torch.float64)
    regressor = torch.from_numpy(exact_model.body.joint_regressor).double()
    torch.testing.assert_close(
        exact_model.rest_joints(betas), regressor @ exact_model.rest_vertices(betas), atol=1e-12, rtol=0
    )


def test_a_root_rotation_and_translation_move_the_body_rigidly(exact_model: BodyModel) -> None:
    betas, pose, translation = _inputs(4, torch.float64)
    turned = pose.clone()
    turned[:, 0] = 0
    root = exact_model.rest_joints(betas)[:, :1]
    rotation = matrix_from_axis_angle(pose[:, 0]).transpose(1, 2)
    before, after = exact_model(betas, turned), exact_model(betas, pose, translation)
    expected = (before.vertices - root) @ rotation + root + translation[:, None]
    # Where weights sum to 1 only to single precision, a translation of a metre shows it.
    torch.testing.assert_close(after.vertices, expected, atol=1e-6, rtol=0)


def test_a_subset_is_exactly_those_vertices(model: BodyModel) -> None:
    ids = np.array([0, 6889, 332, 332, 17])
    betas, pose, translation = _inputs(3)
    whole, part = model(betas, pose, translation), model.subset(ids)(betas, pose, translation)
    torch.testing.assert_close(part.vertices, whole.vertices[:, ids], atol=1e-6, rtol=0)
    assert torch.equal(part.joints, whole.joints)


def test_the_mirrored_pose_gives_the_mirrored_body(model: BodyModel) -> None:
    betas, pose, _ = _inputs(2)
    flipped = pose[:, SMPL24.flip_permutation] * torch.tensor([1.0, -1.0, -1.0])
    mirrored = model(betas, pose).vertices[:, model.body.mirror] * torch.tensor([-1.0, 1.0, 1.0])
    assert (model(betas, flipped).vertices - mirrored).norm(dim=-1).max() < 1e-4


def test_axis_angle_and_matrices_agree_and_joints_alone_too(model: BodyModel) -> None:
    betas, pose, _ = _inputs(2)
    by_matrix = model(betas, matrix_from_axis_angle(pose))
    assert torch.equal(model(betas, pose).vertices, by_matrix.vertices)
    assert torch.equal(model.posed_joints(betas, pose), by_matrix.joints)


def test_slices_of_the_batch_do_not_show(model: BodyModel) -> None:
    betas, pose, _ = _inputs(20)
    one_by_one = torch.cat([model(b[None], p[None]).vertices for b, p in zip(betas, pose, strict=True)])
    torch.testing.assert_close(model(betas, pose).vertices, one_by_one, atol=1e-5, rtol=0)
    empty = model(betas[:0], pose[:0])
    assert empty.vertices.shape == (0, 6890, 3)


def test_gradients_agree_with_finite_differences(exact_model: BodyModel) -> None:
    part = exact_model.subset(np.array([100, 5000]))
    inputs = tuple(tensor.requires_grad_() for tensor in _inputs(2, torch.float64))
    assert torch.autograd.gradcheck(lambda *x: part(*x).vertices, inputs)


def test_checkpoints_carry_no_body(model: BodyModel) -> None:
    assert model.state_dict() == {}


def test_a_tree_with_a_child_before_its_parent_is_refused() -> None:
    with pytest.raises(ValueError, match="precede"):
        ForwardKinematics((-1, 2, 0))
    with pytest.raises(ValueError, match="precede"):
        ForwardKinematics((-1, -1))


def test_autocast_does_not_coarsen_the_body(model: BodyModel) -> None:
    betas, pose, translation = _inputs(2)
    exact = model(betas, pose, translation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model(betas, pose, translation)
        joints = model.posed_joints(betas, pose.bfloat16())
    assert torch.equal(cast.vertices, exact.vertices)
    assert torch.equal(cast.joints, exact.joints)
    assert joints.dtype == torch.float32


def test_three_joints_do_not_confuse_matrices_with_vectors() -> None:
    """A batch of 3x3 matrices for three joints ends in (3, 3), as one of axis-angle vectors does."""
    free = load_body()
    body = replace(
        free,
        parents=free.parents[:3],
        weights=np.eye(3, dtype=np.float32)[np.arange(6890) % 3],
        joint_regressor=free.joint_regressor[:3],
        posedirs=free.posedirs[..., :18],
    )
    model = BodyModel(body)
    pose = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
    by_vector = model(torch.zeros(2, 10), pose)
    by_matrix = model(torch.zeros(2, 10), matrix_from_axis_angle(pose))
    assert torch.equal(by_vector.vertices, by_matrix.vertices)
