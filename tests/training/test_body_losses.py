"""Losses of regressed bodies against registration's own, finite differences and written-out sums."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.models.body_regressor import RegressedBodies, RotationForm, layout_of, regressed_bodies
from posekit.registration.landmarks import landmark_blends
from posekit.registration.losses import data_losses
from posekit.registration.matched import MatchedBody
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import PX_PER_UNIT, WEAK_PROJECTION, Targets
from posekit.skeleton.catalog import H36M17
from posekit.training.body_losses import LossBody, ParameterComparison, parameter_loss

FORMS: tuple[RotationForm, ...] = ("quaternion", "axis-angle")
COUNT, POINTS = 3, 40


@pytest.fixture(scope="module")
def body() -> LossBody:
    skinned = SegmentScaledBody(load_body(), dtype=torch.float64)
    return LossBody(skinned, landmark_blends(skinned, H36M17))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made_bodies(form: RotationForm = "quaternion", seed: int = 0) -> tuple[Tensor, RegressedBodies]:
    layout = layout_of(24, form)
    raw = 0.15 * random(COUNT, layout.size, seed=seed)
    raw[:, layout.segment_scales] += 1.0
    raw[:, layout.image_scale] += 0.9
    raw[:, layout.global_matrix] += torch.tensor([1.0, -1.0, -1.0]).diag().flatten()
    if form == "quaternion":
        raw[:, layout.rotations][:, 0::4] += 1.0
    raw.requires_grad_()
    return raw, regressed_bodies(raw, 24, form)


def made_targets(seed: int = 0) -> Targets:
    flat = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    ids = torch.randint(6000, (COUNT, 1, POINTS), generator=torch.Generator().manual_seed(seed))
    return Targets(
        projections=torch.tensor(WEAK_PROJECTION, dtype=torch.float64).expand(COUNT, 1, 3, 4),
        keypoints=0.5 * random(COUNT, 1, 17, 2, seed=seed),
        keypoint_weights=random(COUNT, 1, 17, seed=seed + 1).abs().clamp_max(1.0),
        joints=0.3 * random(COUNT, 17, 3, seed=seed + 2) * flat,
        joint_weights=flat.expand(COUNT, 17, 3),
        points=0.5 * random(COUNT, 1, POINTS, 2, seed=seed + 3),
        point_weights=torch.ones(COUNT, 1, POINTS, dtype=torch.float64),
        vertices=ids,
        linked=torch.zeros(COUNT, dtype=torch.bool),
        weak=True,
    )


@pytest.mark.parametrize("form", FORMS)
def test_bodies_have_no_parameter_loss_against_themselves(form: RotationForm) -> None:
    _, bodies = made_bodies(form)
    mean = bodies.segment_scales.mean(1, keepdim=True)
    same = replace(bodies, segment_scales=bodies.segment_scales / mean, scale=bodies.scale * mean[:, 0])
    fits = bodies.parameters(10)
    torch.testing.assert_close(
        parameter_loss(same, fits, ParameterComparison()), torch.zeros(COUNT, dtype=torch.float64)
    )
    # Targets of another scaling that looks the same are made comparable first.
    other = replace(fits, segment_scales=1.3 * fits.segment_scales, scale=fits.scale / 1.3)
    torch.testing.assert_close(
        parameter_loss(same, other, ParameterComparison()), torch.zeros(COUNT, dtype=torch.float64)
    )


def test_the_parameter_loss_is_the_mean_of_smooth_l1_over_132_numbers() -> None:
    _, bodies = made_bodies()
    shifted = replace(bodies, translation=bodies.translation + torch.tensor([0.3, -2.0]))
    fits = bodies.parameters(10)
    for comparison, parts in (
        (ParameterComparison(), (0.5 * 0.3**2, 2.0 - 0.5)),
        (ParameterComparison(beta=0.1), (0.3 - 0.05, 2.0 - 0.05)),
        (ParameterComparison("l2"), (0.3**2, 2.0**2)),
    ):
        added = parameter_loss(shifted, fits, comparison) - parameter_loss(bodies, fits, comparison)
        torch.testing.assert_close(added, torch.full((COUNT,), sum(parts) / 132, dtype=torch.float64))


def test_antipodal_quaternions_are_equal_only_when_that_is_asked_for() -> None:
    _, bodies = made_bodies()
    fits = bodies.parameters(10)
    opposite = replace(bodies, rotations=-bodies.rotations)
    near, far = ParameterComparison(antipodal=True), ParameterComparison(antipodal=False)
    torch.testing.assert_close(parameter_loss(opposite, fits, near), parameter_loss(bodies, fits, near))
    assert (parameter_loss(opposite, fits, far) > parameter_loss(bodies, fits, far) + 0.1).all()


@pytest.mark.parametrize("form", FORMS)
def test_data_terms_are_those_of_registration(form: RotationForm, body: LossBody) -> None:
    _, bodies = made_bodies(form)
    targets = made_targets()
    fits = bodies.parameters(10)
    posed = MatchedBody(body.body, body.landmarks, targets.vertices.flatten(1), fits.betas).pose(fits)
    terms = body.data_terms(bodies, targets)
    for ours, theirs in zip(
        (terms.dense, terms.keypoints, terms.depth), data_losses(posed, fits, targets, None), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(terms.landmarks, fits.placed(posed.landmarks))


def test_labels_far_off_count_less_when_the_loss_is_robust(body: LossBody) -> None:
    _, bodies = made_bodies()
    targets = made_targets()
    robust = LossBody(body.body, body.landmarks, robust_px=20.0).data_terms(bodies, targets)
    plain = body.data_terms(bodies, targets)
    # No label counts more than one at the distance where squares are halved twice over.
    assert (robust.dense < plain.dense).all()
    assert (robust.dense <= (20.0 / PX_PER_UNIT) ** 2).all()


@pytest.mark.parametrize("form", FORMS)
def test_every_term_has_the_gradient_of_its_finite_differences(form: RotationForm, body: LossBody) -> None:
    targets = made_targets()
    _, fitted = made_bodies(form, seed=5)
    fits = fitted.parameters(10)
    fits = BodyParameters(**{name: value.detach() for name, value in vars(fits).items()})

    def terms(numbers: Tensor) -> Tensor:
        bodies = regressed_bodies(numbers, 24, form)
        data = body.data_terms(bodies, targets)
        every = (
            parameter_loss(bodies, fits, ParameterComparison(antipodal=False)),
            data.dense,
            data.keypoints,
            data.depth,
            body.scale_term(bodies),
            1e-2 * body.pose_term(bodies, False),
            body.determinant_term(bodies),
        )
        return torch.stack(every)

    raw, _ = made_bodies(form)
    point = raw.detach()
    direction = random(*point.shape, seed=9)
    step = 1e-6
    expected = (terms(point + step * direction) - terms(point - step * direction)) / (2 * step)
    leaf = point.clone().requires_grad_()
    found = [
        (torch.autograd.grad(value, leaf, retain_graph=True)[0] * direction).sum() for value in terms(leaf).flatten()
    ]
    torch.testing.assert_close(torch.stack(found), expected.flatten(), rtol=1e-5, atol=1e-7)


def test_terms_of_one_sample_do_not_depend_on_the_others(body: LossBody) -> None:
    raw, _ = made_bodies()
    targets = made_targets()
    together = body.data_terms(regressed_bodies(raw, 24, "quaternion"), targets)
    alone = body.data_terms(regressed_bodies(raw[1:2], 24, "quaternion"), targets.select(torch.tensor([1])))
    for name in ("dense", "keypoints", "depth"):
        torch.testing.assert_close(getattr(together, name)[1:2], getattr(alone, name))


def test_single_precision_labels_go_with_a_body_in_double_precision(body: LossBody) -> None:
    _, bodies = made_bodies()
    targets = made_targets()
    names = ("projections", "keypoints", "keypoint_weights", "joints", "joint_weights", "points", "point_weights")
    single = replace(targets, **{name: getattr(targets, name).float() for name in names})
    torch.testing.assert_close(
        body.data_terms(bodies, single).dense, body.data_terms(bodies, targets).dense, rtol=1e-5, atol=1e-6
    )


def test_the_pose_term_is_that_of_the_axis_angles(body: LossBody) -> None:
    _, bodies = made_bodies("axis-angle")
    pose = bodies.rotations
    flexion = (pose[:, body.hinges.joints] * body.hinges.axes).sum(-1)
    expected = pose.square().flatten(1).sum(1) + torch.exp(-flexion).sum(1)
    torch.testing.assert_close(body.pose_term(bodies, False), expected)
    torch.testing.assert_close(matrix_from_axis_angle(pose), bodies.matrices())
