"""The laws of the segment-scaled body, and its parameter vectors."""

from __future__ import annotations

import pytest
import torch

from posekit.body.model import BodyModel
from posekit.body.parameters import (
    registration_from_regression,
    registration_layout,
    regression_from_registration,
    regression_layout,
    unpack,
    with_mean_scale_one,
)
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.geometry.rotations import matrix_from_axis_angle

F64 = torch.float64


@pytest.fixture(scope="module")
def body() -> SegmentScaledBody:
    return SegmentScaledBody(load_body(), dtype=F64)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _pose(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    scales = 0.5 + 1.5 * torch.rand(count, 24, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return matrix_from_axis_angle(0.7 * _random(count, 24, 3, seed=seed)), scales


def test_without_rotation_and_with_unit_scales_it_is_the_template(body: SegmentScaledBody) -> None:
    still = body.posed_vertices(torch.eye(3, dtype=F64).expand(1, 24, 3, 3), torch.ones(1, 24, dtype=F64))
    torch.testing.assert_close(still.points[0], body.template, atol=1e-7, rtol=0)
    torch.testing.assert_close(still.joints[0], body.mean_rest_joints, atol=1e-12, rtol=0)
    assert torch.equal(still.joints[0, 0], torch.zeros(3, dtype=F64))


def test_parent_and_child_meet_at_the_joint(body: SegmentScaledBody) -> None:
    rotations, scales = _pose(3)
    transforms, joints = body._transforms(rotations, scales, body.rest_joints())
    for child, parent in enumerate(body.body.parents[1:], start=1):
        point = torch.cat([body.mean_rest_joints[child], torch.ones(1, dtype=F64)])
        for segment in (child, parent):
            torch.testing.assert_close(transforms[:, segment] @ point, joints[:, child], atol=1e-9, rtol=0)


def test_a_bone_is_stretched_by_the_scale_of_its_parent_alone(body: SegmentScaledBody) -> None:
    rotations, scales = _pose(3)
    _, joints = body._transforms(rotations, scales, body.rest_joints())
    for child, parent in enumerate(body.body.parents[1:], start=1):
        rest_length = (body.mean_rest_joints[child] - body.mean_rest_joints[parent]).norm()
        length = (joints[:, child] - joints[:, parent]).norm(dim=1)
        torch.testing.assert_close(length, scales[:, parent] * rest_length, atol=1e-9, rtol=0)


def test_scaling_all_segments_scales_the_posed_body_about_the_root(body: SegmentScaledBody) -> None:
    rotations, scales = _pose(2)
    once, more = body.posed_vertices(rotations, scales), body.posed_vertices(rotations, 1.7 * scales)
    torch.testing.assert_close(more.points, 1.7 * once.points, atol=1e-9, rtol=0)
    torch.testing.assert_close(more.joints, 1.7 * once.joints, atol=1e-9, rtol=0)


def test_no_segment_is_sheared(body: SegmentScaledBody) -> None:
    rotations, scales = _pose(2)
    transforms, _ = body._transforms(rotations, scales, body.rest_joints())
    linear = transforms[..., :3]
    gram = linear.transpose(-1, -2) @ linear
    expected = scales[..., None, None] ** 2 * torch.eye(3, dtype=F64)
    torch.testing.assert_close(gram, expected, atol=1e-9, rtol=0)


def test_with_unit_scales_it_is_plain_skinning(body: SegmentScaledBody) -> None:
    model = BodyModel(body.body, dtype=F64)
    model.directions[model.shape_count :] = 0  # pose correctives, which this body has not
    rotations, _ = _pose(2)
    betas = _random(2, 10)
    theirs = model(betas, rotations)
    ours = body.posed_vertices(rotations, torch.ones(2, 24, dtype=F64), betas)
    root = model.rest_joints(betas)[:, :1]
    torch.testing.assert_close(ours.points, theirs.vertices - root, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.joints, theirs.joints - root, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shaped", [False, True])
def test_chosen_points_are_those_of_the_whole_body(body: SegmentScaledBody, shaped: bool) -> None:
    rotations, scales = _pose(3)
    betas = _random(3, 10) if shaped else None
    ids = torch.randint(0, body.vertex_count, (3, 40), generator=torch.Generator().manual_seed(1))
    whole = body.posed_vertices(rotations, scales, betas)
    part = body(rotations, scales, body.rest_points(ids, betas), body.rest_joints(betas))
    expected = torch.take_along_dim(whole.points, ids[..., None], dim=1)
    torch.testing.assert_close(part.points, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(part.joints, whole.joints, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shaped", [False, True])
def test_points_in_faces_stay_on_the_posed_faces(body: SegmentScaledBody, shaped: bool) -> None:
    rotations, scales = _pose(2)
    betas = _random(2, 10) if shaped else None
    faces = torch.randint(0, len(body.faces), (2, 30), generator=torch.Generator().manual_seed(2))
    shares = torch.rand(2, 30, 3, dtype=F64, generator=torch.Generator().manual_seed(3))
    shares = shares / shares.sum(dim=2, keepdim=True)
    whole = body.posed_vertices(rotations, scales, betas).points
    corners = torch.stack([whole[i][body.faces[faces[i]]] for i in range(2)])
    rest = body.rest_surface_points(faces, shares, betas)
    posed = body(rotations, scales, rest, body.rest_joints(betas)).points
    torch.testing.assert_close(posed, (shares[..., None] * corners).sum(dim=2), atol=1e-9, rtol=0)


def test_gradients_agree_with_finite_differences(body: SegmentScaledBody) -> None:
    rest = body.rest_points(torch.tensor([[10, 4000]]))
    axis_angle, scales = (
        (0.5 * _random(1, 24, 3)).requires_grad_(),
        torch.full((1, 24), 1.2, dtype=F64).requires_grad_(),
    )

    def points(pose: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        return torch.cat(body(matrix_from_axis_angle(pose), scales, rest), dim=1)

    assert torch.autograd.gradcheck(points, (axis_angle, scales))


def test_layouts_have_the_published_sizes_and_cover_the_vector() -> None:
    for layout, size in ((registration_layout(24), 108), (regression_layout(24), 132)):
        slices = (layout.rotations, layout.segment_scales, layout.global_matrix, layout.translation, layout.image_scale)
        assert layout.size == size
        assert [i for part in slices for i in range(part.start, part.stop)] == list(range(size))


def test_packing_inverts_unpacking() -> None:
    for layout in (registration_layout(24), regression_layout(24), registration_layout(5)):
        vectors = _random(4, layout.size)
        assert torch.equal(unpack(vectors, layout).pack(), vectors)


def test_vectors_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="108"):
        unpack(_random(2, 107), registration_layout(24))


def test_both_parameter_vectors_describe_the_same_rotations() -> None:
    vectors = _random(6, 108)
    converted = regression_from_registration(vectors, 24)
    assert converted.shape == (6, 132)
    before, after = unpack(vectors, registration_layout(24)), unpack(converted, regression_layout(24))
    assert (after.rotations[..., 0] >= 0).all()
    torch.testing.assert_close(before.rotation_matrices(), after.rotation_matrices())
    torch.testing.assert_close(converted[:, 96:], vectors[:, 72:])
    back = unpack(registration_from_regression(2.0 * converted, 24), registration_layout(24))
    torch.testing.assert_close(back.rotation_matrices(), before.rotation_matrices())


def test_scales_of_mean_one_leave_the_picture(body: SegmentScaledBody) -> None:
    rotations, scales = _pose(3)
    parts = unpack(_random(3, 108), registration_layout(24))
    parts = type(parts)(parts.rotations, scales, parts.global_matrix, parts.translation, parts.image_scale)
    fixed = with_mean_scale_one(parts)
    torch.testing.assert_close(fixed.segment_scales.mean(dim=1), torch.ones(3, dtype=F64))
    before = body.posed_vertices(rotations, scales).points * parts.image_scale[:, None, None]
    after = body.posed_vertices(rotations, fixed.segment_scales).points * fixed.image_scale[:, None, None]
    torch.testing.assert_close(after, before)


def test_autocast_does_not_coarsen_the_body(body: SegmentScaledBody) -> None:
    rotations, scales = _pose(2)
    rest = body.rest_points(torch.tensor([[3, 4], [5, 6]]))
    exact = (body(rotations, scales, rest).points, body.posed_vertices(rotations, scales).points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = (body(rotations, scales, rest).points, body.posed_vertices(rotations, scales).points)
    assert all(torch.equal(a, b) for a, b in zip(exact, cast, strict=True))
