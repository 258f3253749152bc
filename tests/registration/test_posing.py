"""Stored fits back to bodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.registration.fitting import canonical
from posekit.registration.initial import resting
from posekit.registration.parameters import BodyParameters
from posekit.registration.posing import crop_pixels, posed_bodies


def some_parameters(body: SegmentScaledBody, count: int) -> BodyParameters:
    random = torch.Generator().manual_seed(0)
    pose = 1.5 * torch.randn(count, 24, 3, generator=random)
    pose[:, 0] = 0.0
    return replace(
        resting(body, count, torch.randn(count, 10, generator=random)),
        pose=pose,
        segment_scales=1.0 + 0.2 * torch.rand(count, 24, generator=random),
        orientation=torch.randn(count, 3, 3, generator=random),
        translation=torch.randn(count, 3, generator=random),
        scale=1.0 + torch.rand(count, generator=random),
    )


def columns(parameters: BodyParameters) -> dict[str, np.ndarray]:
    return {name: getattr(parameters, name).numpy() for name in BodyParameters.__dataclass_fields__}


@pytest.mark.parametrize("count", [0, 3, 70])
def test_posed_bodies_are_the_parameters(body: SegmentScaledBody, count: int) -> None:
    parameters = some_parameters(body, count)
    posed = body.posed_vertices(matrix_from_axis_angle(parameters.pose), parameters.segment_scales, parameters.betas)
    vertices, joints = posed_bodies(columns(parameters), body)
    assert vertices.shape == (count, 6890, 3) and joints.shape == (count, 24, 3)
    torch.testing.assert_close(vertices, parameters.placed(posed.points), atol=1e-5, rtol=0)
    torch.testing.assert_close(joints, parameters.placed(posed.joints), atol=1e-5, rtol=0)


def test_the_canonical_body_is_the_same_body(body: SegmentScaledBody) -> None:
    parameters = some_parameters(body, 4)
    stored = canonical(parameters)
    torch.testing.assert_close(
        posed_bodies(columns(stored), body).points, posed_bodies(columns(parameters), body).points, atol=2e-4, rtol=0
    )
    torch.testing.assert_close(stored.segment_scales.mean(1), torch.ones(4))
    assert (stored.pose.norm(dim=-1) <= np.pi + 1e-4).all()
    eye = torch.eye(3).expand(4, 3, 3)
    torch.testing.assert_close(stored.orientation @ stored.orientation.transpose(1, 2), eye, atol=1e-5, rtol=0)


def test_crop_pixels_inverts_the_crop() -> None:
    crops = np.array([[[0.01, 0.0, -2.0], [0.0, 0.01, -1.0]]])
    pixels = torch.tensor([[[250.0, 90.0], [100.0, 120.0]]])
    normalized = pixels * 0.01 + torch.tensor([-2.0, -1.0])
    torch.testing.assert_close(crop_pixels(normalized, crops), pixels)
