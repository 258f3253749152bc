"""The terms of the objective, by their laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.registration import losses
from posekit.registration.initial import resting
from posekit.registration.landmarks import landmark_blends
from posekit.registration.losses import Weights, hinges_of
from posekit.registration.matched import MatchedBody, Posed, ShapedMatchedBody
from posekit.skeleton.catalog import BODY25B, H36M17, SMPL24


def random_parameters(body: SegmentScaledBody, count: int, seed: int = 0) -> Any:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=body.template.dtype)

    start = resting(body, count)
    pose = 0.3 * normal(count, 24, 3)
    pose[:, 0] = 0.0
    return replace(
        start,
        pose=pose,
        segment_scales=1.0 + 0.1 * normal(count, 24),
        betas=normal(count, 10),
        orientation=start.orientation + 0.3 * normal(count, 3, 3),
        translation=normal(count, 3),
        scale=1.0 + 0.1 * normal(count),
    )


@pytest.fixture(scope="module")
def wide(body_data: Any) -> SegmentScaledBody:
    return SegmentScaledBody(body_data, dtype=torch.float64)


@pytest.mark.parametrize("skeleton", [H36M17, BODY25B, SMPL24])
def test_landmarks_and_points_are_those_of_the_whole_mesh(wide: SegmentScaledBody, skeleton: Any) -> None:
    from posekit.body.landmarks import landmarks, regressor
    from posekit.geometry.rotations import matrix_from_axis_angle

    parameters = random_parameters(wide, 3)
    vertices = torch.randint(6890, (3, 11), generator=torch.Generator().manual_seed(1))
    whole = wide.posed_vertices(matrix_from_axis_angle(parameters.pose), parameters.segment_scales, parameters.betas)
    blends = landmark_blends(wide, skeleton)
    if skeleton is H36M17:
        expected = torch.from_numpy(regressor(wide.body, skeleton)) @ whole.points
    else:
        points = landmarks(wide.body, skeleton.joints)
        expected = points.points(whole.points[:, points.vertex_ids], whole.joints)
    for model in (
        MatchedBody(wide, blends, vertices, parameters.betas),
        ShapedMatchedBody(wide, blends, vertices),
    ):
        posed = model.pose(parameters)
        torch.testing.assert_close(posed.landmarks, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(posed.points, whole.points[torch.arange(3)[:, None], vertices])
        torch.testing.assert_close(posed.joints, whole.joints)


def test_points_posed_by_rotations_have_gradients(wide: SegmentScaledBody) -> None:
    from posekit.geometry.rotations import matrix_from_axis_angle

    parameters = random_parameters(wide, 2)
    vertices = torch.randint(6890, (2, 3), generator=torch.Generator().manual_seed(1))
    model = MatchedBody(wide, landmark_blends(wide, H36M17), vertices, parameters.betas)
    rotations = matrix_from_axis_angle(parameters.pose)
    posed, same = model.posed(rotations, parameters.segment_scales), model.pose(parameters)
    for name in ("landmarks", "points", "joints"):
        assert torch.equal(getattr(posed, name), getattr(same, name))

    def objective(rotations: Tensor, scales: Tensor) -> Tensor:
        posed = model.posed(rotations, scales)
        return posed.landmarks.square().sum() + posed.points.sin().sum() + posed.joints.cos().sum()

    inputs = (rotations.clone().requires_grad_(), parameters.segment_scales.clone().requires_grad_())
    assert torch.autograd.gradcheck(objective, inputs, fast_mode=True)


def test_data_terms_vanish_at_the_truth_and_are_means_of_squares(scene_maker: Any, body: SegmentScaledBody) -> None:
    scene = scene_maker(2, points=5, noise_px=0.0, noise_m=0.0)
    targets = scene.targets.cleaned()
    truth = Posed(
        scene.joints,
        torch.gather(scene.vertices, 1, targets.vertices.flatten(1)[..., None].expand(-1, -1, 3)),
        scene.joints[:, :0],
    )
    start = resting(body, 2)
    still = replace(start, orientation=torch.eye(3).expand(2, 3, 3))
    for term in losses.data_losses(truth, still, targets, None):
        assert (term < 1e-6).all()
    shifted = replace(targets, keypoints=targets.keypoints + torch.tensor([0.3, 0.4])).cleaned()
    _, keypoints, _ = losses.data_losses(truth, still, shifted, None)
    torch.testing.assert_close(keypoints, torch.full((2,), 0.25), atol=1e-3, rtol=0)
    _, robust, _ = losses.data_losses(truth, still, shifted, 0.5)
    torch.testing.assert_close(robust, torch.full((2,), 0.125), atol=1e-3, rtol=0)
    residual = losses.residual_px(truth, still, shifted)
    share = 17 / (17 + 5)
    torch.testing.assert_close(residual, torch.full((2,), 0.5 * 112 * share), atol=0.05, rtol=0)


def test_depths_are_never_let_go(scene_maker: Any, body: SegmentScaledBody) -> None:
    scene = scene_maker(1, points=1)
    posed = Posed(scene.joints, scene.vertices[:, :4], scene.joints[:, :0])
    still = replace(resting(body, 1), orientation=torch.eye(3)[None])
    far = replace(scene.targets, joints=scene.joints + torch.tensor([0.0, 0.0, 2.0]))
    depths = replace(far, joint_weights=torch.tensor([0.0, 0.0, 1.0]).expand(1, 17, 3), weak=True)
    for robust in (None, 0.1):
        torch.testing.assert_close(losses.data_losses(posed, still, depths, robust)[2], torch.tensor([4.0]))
    assert losses.data_losses(posed, still, far, 0.1)[2] < 0.1


def test_confidence_lowers_a_label(scene_maker: Any, body: SegmentScaledBody) -> None:
    scene = scene_maker(1, points=5)
    posed = Posed(scene.joints + 0.1, scene.vertices[:, :20], scene.joints[:, :0])
    still = replace(resting(body, 1), orientation=torch.eye(3)[None])
    full = losses.data_losses(posed, still, scene.targets.cleaned(), None)[1]
    half = replace(scene.targets, keypoint_weights=0.5 * scene.targets.keypoint_weights).cleaned()
    torch.testing.assert_close(losses.data_losses(posed, still, half, None)[1], 0.5 * full)


def test_the_scale_term(body: SegmentScaledBody) -> None:
    parents = torch.tensor(body.kinematics.parents[1:])
    same = torch.full((1, 24), 1.2)
    # Equal scales have no steps; the gauge keeps the mean near 1.
    assert losses.scale_loss(same, parents).item() == pytest.approx(1e-2 * 0.04, rel=1e-4)
    one = torch.ones(1, 24)
    one[0, 15] = 1.3  # the head has one neighbour
    expected = 0.09 / 23 + 1e-2 * (0.3 / 24) ** 2
    assert losses.scale_loss(one, parents).item() == pytest.approx(expected, rel=1e-4)


def test_natural_flexion_moves_forearms_forwards_and_feet_backwards(body: SegmentScaledBody) -> None:
    hinges = hinges_of(body)
    blends = landmark_blends(body, SMPL24)
    rest = resting(body, 1)
    model = MatchedBody(body, blends, torch.zeros(1, 0, dtype=torch.long), rest.betas)
    ends = {"left_elbow": ("left_wrist", 1.0), "right_elbow": ("right_wrist", 1.0)} | {
        "left_knee": ("left_ankle", -1.0),
        "right_knee": ("right_ankle", -1.0),
    }
    before = model.pose(rest).landmarks[0]
    for joint, axis in zip(hinges.joints.tolist(), hinges.axes, strict=True):
        end, sign = ends[SMPL24.joints[joint]]
        bent, back = (rest.pose.clone() for _ in range(2))
        bent[0, joint], back[0, joint] = axis, -axis
        moved = model.pose(replace(rest, pose=bent)).landmarks[0] - before
        assert sign * moved[SMPL24.index(end), 2] > 0.1
        assert losses.pose_loss(bent, hinges, False) < losses.pose_loss(rest.pose, hinges, False) + 1.0
        assert losses.pose_loss(bent, hinges, False) < losses.pose_loss(back, hinges, False)
        free = losses.pose_loss(bent, hinges, False, limits=False)
        torch.testing.assert_close(free, losses.pose_loss(back, hinges, False, limits=False))
        assert losses.pose_loss(bent, hinges, True) < losses.pose_loss(bent, hinges, False)
        assert losses.hinge_loss(bent, hinges).item() == pytest.approx(0.0, abs=1e-6)


def test_sideways_bends_of_hinges_count_and_twists_do_not(body: SegmentScaledBody) -> None:
    hinges = hinges_of(body)
    pose = torch.zeros(1, 24, 3)
    pose[0, hinges.joints[0]] = hinges.bones[0]
    assert losses.hinge_loss(pose, hinges).item() < 1e-2
    pose[0, hinges.joints[0]] = torch.linalg.cross(hinges.axes[0], hinges.bones[0])
    assert losses.hinge_loss(pose, hinges).item() > 0.9


def test_the_determinant_term(body: SegmentScaledBody) -> None:
    matrix = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses.determinant_loss(matrix), torch.exp(-torch.linalg.det(matrix)))


def test_size_and_temporal_terms(body: SegmentScaledBody, scene_maker: Any) -> None:
    start = resting(body, 3)
    assert losses.size_loss(replace(start, scale=torch.tensor([1.0, 1.1, 2.0]))).tolist() == pytest.approx([0, 0.01, 1])
    targets = replace(scene_maker(3, points=1).targets, linked=torch.tensor([False, True, False]))
    moved = replace(start, translation=torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [9.0, 0, 0]]))
    posed = Posed(torch.zeros(3, 1, 3), torch.zeros(3, 0, 3), torch.zeros(3, 24, 3))
    torch.testing.assert_close(losses.temporal_loss(posed, moved, targets), torch.tensor([0.0, 0.09, 0.0]))


def test_weights_name_every_term() -> None:
    assert Weights(dense=2.0).vector(torch.zeros(1)).tolist()[0] == 2.0
    some = Weights(dense=0.0, limits=False)
    assert (some.every().vector(torch.zeros(1)) > 0).all()
    assert some.every().keypoints == some.keypoints and not some.every().limits


def test_gradients_agree_with_finite_differences(wide: SegmentScaledBody, scene_maker: Any) -> None:
    targets = scene_maker(2, points=3).targets.cleaned()
    targets = replace(
        targets,
        **{
            name: getattr(targets, name).double()
            for name in (
                *("projections", "keypoints", "keypoint_weights", "joints", "joint_weights"),
                *("points", "point_weights"),
            )
        },
    )
    model = ShapedMatchedBody(wide, landmark_blends(wide, H36M17), targets.vertices.flatten(1))
    start = replace(random_parameters(wide, 2), translation=torch.zeros(2, 3, dtype=torch.float64))
    hinges = hinges_of(wide)
    parents = torch.tensor(wide.kinematics.parents[1:])

    def objective(flat: Tensor) -> Tensor:
        parameters = start.from_flat(flat)
        posed = model.pose(parameters)
        terms = [*losses.data_losses(posed, parameters, targets, 0.3)]
        terms += [losses.scale_loss(parameters.segment_scales, parents)]
        terms += [losses.pose_loss(parameters.pose, hinges, False), losses.determinant_loss(parameters.orientation)]
        return torch.stack(terms).sum()

    assert torch.autograd.gradcheck(objective, (start.flat().requires_grad_(),), fast_mode=True)
