"""The iterative regressor: its size, its start, its loop against a plain one, and the two cameras."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.errors import InputError
from posekit.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle, six_d_from_matrix
from posekit.models.mesh_estimator import (
    MeanParameters,
    MeshEstimate,
    MeshEstimator,
    MeshEstimatorForm,
    PoseForm,
    resting_means,
)

SMALL = {"features": 12, "hidden": 16}


def random_means(seed: int = 0) -> MeanParameters:
    generator = torch.Generator().manual_seed(seed)
    rotations = matrix_from_axis_angle(torch.randn(24, 3, generator=generator))
    return MeanParameters(rotations, torch.randn(10, generator=generator), torch.tensor([0.7, 0.1, -0.2]))


def features(count: int = 3) -> Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("pose_form", "inputs", "outputs", "count"), [("6d", 2205, 144, 3_469_469), ("aa", 2133, 72, 3_321_941)]
)
def test_the_estimators_of_spin_and_hmr_have_their_sizes(
    pose_form: PoseForm, inputs: int, outputs: int, count: int
) -> None:
    with torch.device("meta"):
        estimator = MeshEstimator(MeshEstimatorForm(pose_form=pose_form))
    assert (estimator.fc1.in_features, estimator.decpose.out_features) == (inputs, outputs)
    assert sum(values.numel() for values in estimator.parameters()) == count
    assert {name for name, _ in estimator.named_buffers()} == {"init_pose", "init_shape", "init_cam"}


@pytest.mark.parametrize("pose_form", ["6d", "aa"])
def test_without_a_correction_the_estimate_is_the_mean(pose_form: PoseForm) -> None:
    means = random_means()
    estimator = MeshEstimator(MeshEstimatorForm(pose_form=pose_form, **SMALL), means)
    found = estimator(features(2), iterations=0)
    torch.testing.assert_close(found.rotations, means.rotations.expand(2, 24, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.betas, means.betas.expand(2, 10))
    torch.testing.assert_close(found.camera, means.camera.expand(2, 3))


def test_an_untrained_estimator_gives_nearly_a_body_at_rest_that_faces_the_camera() -> None:
    form = MeshEstimatorForm(**SMALL)
    estimator = MeshEstimator(form).eval()
    for layer in (estimator.decpose, estimator.decshape, estimator.deccam):
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        found = estimator(features())
    body = BodyModel(load_body(None))
    vertices = found.posed(body).vertices
    # y points down in the camera's axes: the head, which is up in the body's, has the smallest y.
    head = body.template.view(3, -1)[1].argmax()
    assert (vertices[:, head, 1] - vertices[..., 1].amin(1)).abs().max() < 0.05
    torch.testing.assert_close(found.camera, torch.tensor([[0.9, 0.0, 0.0]]).expand(3, 3), atol=0.1, rtol=0)
    assert not torch.equal(found.rotations[0], found.rotations[1])


@pytest.mark.parametrize("hidden_act", ["none", "relu"])
def test_the_loop_is_that_of_the_public_code(hidden_act: str) -> None:
    """Written out once more as in SPIN's `hmr.py`, with larger weights so that every step matters."""
    means = random_means(2)
    estimator = MeshEstimator(MeshEstimatorForm(hidden_act=hidden_act, **SMALL), means, seed=3).eval()
    with torch.no_grad():
        for layer in (estimator.decpose, estimator.decshape, estimator.deccam):
            layer.weight.mul_(30)
    act = nn.functional.relu if hidden_act == "relu" else (lambda values: values)
    pose, shape, camera = six_d_from_matrix(means.rotations).reshape(1, -1), means.betas[None], means.camera[None]
    pose, shape, camera = (values.expand(3, -1) for values in (pose, shape, camera))
    for _ in range(3):
        state = torch.cat([features(), pose, shape, camera], 1)
        state = act(estimator.fc2(act(estimator.fc1(state))))
        pose, shape = estimator.decpose(state) + pose, estimator.decshape(state) + shape
        camera = estimator.deccam(state) + camera
    numbers = pose.reshape(-1, 3, 2)
    first = nn.functional.normalize(numbers[..., 0], dim=-1)
    second = numbers[..., 1] - (first * numbers[..., 1]).sum(-1, keepdim=True) * first
    second = nn.functional.normalize(second, dim=-1)
    expected = torch.stack([first, second, torch.linalg.cross(first, second)], -1).view(3, 24, 3, 3)
    found = estimator(features())
    torch.testing.assert_close(found.rotations, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.betas, shape)
    torch.testing.assert_close(found.camera, camera)


def test_the_vector_has_85_numbers_camera_shape_pose() -> None:
    found = MeshEstimator(MeshEstimatorForm(**SMALL), random_means(4))(features(2), iterations=0)
    vector = found.vector()
    assert vector.shape == (2, 85)
    torch.testing.assert_close(vector[:, :3], found.camera)
    torch.testing.assert_close(vector[:, 3:13], found.betas)
    torch.testing.assert_close(matrix_from_axis_angle(vector[:, 13:].view(2, 24, 3)), found.rotations)
    torch.testing.assert_close(axis_angle_from_matrix(found.rotations).flatten(1), vector[:, 13:])


def estimate(camera: Tensor) -> MeshEstimate:
    return MeshEstimate(torch.eye(3).expand(len(camera), 24, 3, 3), torch.zeros(len(camera), 10), camera)


def test_the_two_cameras_read_the_shift_differently() -> None:
    points = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    found = estimate(torch.tensor([[0.5, 0.2, -0.1]]))
    scaled = 0.5 * (points[..., :2] + torch.tensor([0.2, -0.1]))
    # At 5000 px the perspective changes what is 90 m away by a percent or so.
    torch.testing.assert_close(found.perspective().project(points), scaled, atol=0.02, rtol=0)
    torch.testing.assert_close(found.weak().project(points), 0.5 * points[..., :2] + torch.tensor([0.2, -0.1]))
    assert found.perspective().offset()[0, 2].item() == pytest.approx(2 * 5000 / (224 * 0.5), rel=1e-5)


def test_a_scale_that_fell_below_zero_can_come_back() -> None:
    camera = torch.tensor([[-0.3, 0.0, 0.0]], requires_grad=True)
    scale = estimate(camera).perspective().scale
    assert scale.item() == pytest.approx(0.05)
    scale.sum().neg().backward(retain_graph=True)
    assert camera.grad[0, 0] == -1
    camera.grad = None
    scale.sum().backward()
    assert camera.grad[0, 0] == 0


def test_weights_come_from_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (MeshEstimator(MeshEstimatorForm(**SMALL), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, values in first.state_dict().items():
        assert torch.equal(values, again.state_dict()[name])
        assert name.startswith("init_") or not torch.equal(values, other.state_dict()[name])
    assert first.decpose.weight.abs().max() <= 0.01 * (6 / (16 + 144)) ** 0.5


def test_means_of_another_body_are_refused() -> None:
    with pytest.raises(InputError, match="17 joints and 10 shape"):
        MeshEstimator(MeshEstimatorForm(**SMALL), resting_means(17, 10))
