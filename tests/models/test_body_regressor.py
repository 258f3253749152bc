"""The network's start, and the laws of what is made of its numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import load_body
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.models.backbone import Backbone
from posekit.models.body_regressor import BodyRegressor, RotationForm, layout_of, regressed_bodies

FORMS: tuple[RotationForm, ...] = ("quaternion", "axis-angle")


def numbers(count: int, form: RotationForm, seed: int = 0, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(count, layout_of(24, form).size, generator=generator, dtype=torch.float64)


def test_the_paper_s_regressor_has_132_outputs_and_its_number_of_parameters() -> None:
    regressor = BodyRegressor(Backbone("resnet50"), 24, "quaternion")
    assert sum(values.numel() for values in regressor.parameters()) == 23_778_500
    assert regressor.head.out_features == 132
    assert layout_of(24, "axis-angle").size == 108


@pytest.mark.parametrize("form", FORMS)
def test_an_untrained_network_gives_a_t_pose_that_faces_the_camera(form: RotationForm) -> None:
    before = torch.random.get_rng_state()
    regressor = BodyRegressor(Backbone("resnet10"), 24, form).eval()
    assert torch.equal(torch.random.get_rng_state(), before)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    body = SegmentScaledBody(load_body(None))
    with torch.no_grad():
        bodies = regressed_bodies(regressor(images), 24, form)
        posed = body.posed_vertices(bodies.matrices(), bodies.segment_scales).points
    torch.testing.assert_close(posed, body.template.expand_as(posed), atol=0.05, rtol=0.0)
    facing = torch.tensor([1.0, -1.0, -1.0]).diag()
    torch.testing.assert_close(bodies.orientation, facing.expand(3, 3, 3), atol=0.05, rtol=0.0)
    torch.testing.assert_close(bodies.scale, torch.full((3,), 0.9), atol=0.05, rtol=0.0)
    torch.testing.assert_close(bodies.translation, torch.zeros(3, 2), atol=0.05, rtol=0.0)
    # The head is small, not zero: the trunk gets gradients from the first step.
    assert (bodies.translation[0] != bodies.translation[1]).all()


def test_the_bias_alone_is_exactly_the_t_pose() -> None:
    bias = BodyRegressor(Backbone("resnet10"), 24, "quaternion").head.bias.detach()[None]
    bodies = regressed_bodies(bias, 24, "quaternion")
    assert torch.equal(bodies.matrices(), torch.eye(3).expand(1, 24, 3, 3))
    assert torch.equal(bodies.segment_scales, torch.ones(1, 24))
    assert torch.equal(bodies.orientation, torch.tensor([1.0, -1.0, -1.0]).diag()[None])


@pytest.mark.parametrize("form", FORMS)
def test_bodies_are_valid_whatever_the_numbers(form: RotationForm) -> None:
    bodies = regressed_bodies(numbers(50, form, spread=3.0), 24, form)
    identity = torch.eye(3, dtype=torch.float64)
    for matrices in (bodies.matrices(), bodies.orientation):
        torch.testing.assert_close(matrices @ matrices.transpose(-1, -2), identity.expand_as(matrices))
        torch.testing.assert_close(torch.linalg.det(matrices), torch.ones_like(matrices[..., 0, 0]))
    assert torch.equal(bodies.matrices()[:, 0], identity.expand(50, 3, 3))
    assert bodies.segment_scales.min() == 0.5
    assert bodies.segment_scales.max() == 2.0
    assert bodies.scale.min() == 0.05
    torch.testing.assert_close(matrix_from_axis_angle(bodies.axis_angles()), bodies.matrices())


def test_quaternions_of_any_length_and_sign_mean_the_same_body() -> None:
    raw = numbers(5, "quaternion")
    scaled = raw.clone()
    scaled[:, :96] *= -3.0
    torch.testing.assert_close(
        regressed_bodies(scaled, 24, "quaternion").matrices(), regressed_bodies(raw, 24, "quaternion").matrices()
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_root_s_own_rotation_gets_no_gradient(form: RotationForm) -> None:
    raw = numbers(4, form).requires_grad_()
    bodies = regressed_bodies(raw, 24, form)
    (bodies.matrices() * torch.arange(9.0).reshape(3, 3)).sum().backward()
    assert raw.grad is not None
    width = bodies.rotations.shape[-1]
    assert not raw.grad[:, :width].any()
    assert (raw.grad[:, width : 24 * width] != 0).any(dim=0).all()


def test_a_scale_beyond_its_bounds_is_drawn_back_and_never_pushed_further() -> None:
    raw = numbers(1, "quaternion").fill_(1.0)
    columns = layout_of(24, "quaternion").segment_scales
    raw[:, columns] = torch.linspace(0.1, 3.0, 24, dtype=torch.float64)
    for sign in (1.0, -1.0):
        leaf = raw.clone().requires_grad_()
        (sign * regressed_bodies(leaf, 24, "quaternion").segment_scales).sum().backward()
        assert leaf.grad is not None
        values, gradient = raw[0, columns], leaf.grad[0, columns]
        # Descent with a positive gradient lowers the value.
        blocked = values < 0.5 if sign > 0 else values > 2.0
        assert torch.equal(gradient, torch.where(blocked, 0.0, sign).double())


def test_half_precision_numbers_become_single_precision_bodies() -> None:
    bodies = regressed_bodies(numbers(2, "quaternion").bfloat16(), 24, "quaternion")
    assert bodies.rotations.dtype == bodies.orientation.dtype == torch.float32


@pytest.mark.parametrize("form", FORMS)
def test_parameters_place_the_body_where_the_regressed_one_is(form: RotationForm) -> None:
    body = SegmentScaledBody(load_body(None), dtype=torch.float64)
    bodies = regressed_bodies(numbers(6, form), 24, form)
    parameters = bodies.parameters(10)
    torch.testing.assert_close(parameters.segment_scales.mean(1), torch.ones(6, dtype=torch.float64))
    assert not parameters.betas.any()
    ours = body.posed_vertices(bodies.matrices(), bodies.segment_scales).points
    placed = bodies.scale[:, None, None] * ours @ bodies.orientation.transpose(1, 2)
    placed = placed + torch.nn.functional.pad(bodies.translation, (0, 1))[:, None]
    theirs = body.posed_vertices(matrix_from_axis_angle(parameters.pose), parameters.segment_scales).points
    torch.testing.assert_close(parameters.placed(theirs), placed)
