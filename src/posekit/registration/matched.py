"""Poses of the landmarks and matched vertices alone; the rest of the mesh is never skinned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.skinning import skinning_transforms
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.registration.landmarks import LandmarkBlends
from posekit.registration.parameters import BodyParameters


@dataclass(frozen=True, eq=False)
class Posed:
    """Posed points in the body's own frame: the root at the origin, metres."""

    landmarks: Float[Tensor, "B J 3"]
    points: Float[Tensor, "B M 3"]
    joints: Float[Tensor, "B K 3"]


class MatchedBody:
    """The landmarks, and for each body of a batch its own matched vertices, of shapes that stay as they are."""

    def __init__(
        self,
        body: SegmentScaledBody,
        landmarks: LandmarkBlends,
        vertices: Int[Tensor, "B M"],
        betas: Float[Tensor, "B S"] | None = None,
    ) -> None:
        self._body = body
        self._count = len(landmarks.names)
        shapes = betas if betas is not None and bool(betas.any()) else None
        self._rest_joints = body.rest_joints(shapes)
        blends = landmarks.shaped(shapes).expand(len(vertices), -1, -1)
        self._blend = torch.cat([blends, body.rest_points(vertices, shapes).blend], dim=1)

    def pose(self, parameters: BodyParameters) -> Posed:
        """The posed points; `betas` of the parameters are not looked at."""
        return self.posed(matrix_from_axis_angle(parameters.pose), parameters.segment_scales)

    def posed(self, rotations: Float[Tensor, "B K 3 3"], segment_scales: Float[Tensor, "B K"]) -> Posed:
        """The points posed by rotations relative to the parents, with gradients towards both."""
        transforms, joints = _transforms(self._body, rotations, segment_scales, self._rest_joints)
        points = self._blend @ transforms.transpose(2, 3).flatten(1, 2)
        return Posed(points[:, : self._count], points[:, self._count :], joints)


class ShapedMatchedBody:
    """The same with shape coefficients that may change from pose to pose."""

    def __init__(self, body: SegmentScaledBody, landmarks: LandmarkBlends, vertices: Int[Tensor, "B M"]) -> None:
        self._body = body
        self._landmarks = landmarks
        self._positions = body.template[vertices]
        self._weights = body.weights[vertices]
        self._directions = body.shapedirs[vertices].flatten(1, 2)

    def pose(self, parameters: BodyParameters) -> Posed:
        """The posed points."""
        betas = parameters.betas
        rotations = matrix_from_axis_angle(parameters.pose)
        rest_joints = self._body.rest_joints(betas)
        transforms, joints = _transforms(self._body, rotations, parameters.segment_scales, rest_joints)
        landmarks = self._landmarks.shaped(betas) @ transforms.transpose(2, 3).flatten(1, 2)
        rest = self._positions + (self._directions @ betas[..., None]).reshape(self._positions.shape)
        maps = (self._weights @ transforms.flatten(2)).reshape(*self._positions.shape, 4)
        # Written out: a batch of thousands of 3x3 products costs several times as much.
        points = torch.addcmul(maps[..., 3], maps[..., 0], rest[..., 0:1])
        points = torch.addcmul(points, maps[..., 1], rest[..., 1:2])
        points = torch.addcmul(points, maps[..., 2], rest[..., 2:3])
        return Posed(landmarks, points, joints)


def _transforms(
    body: SegmentScaledBody,
    rotations: Float[Tensor, "B K 3 3"],
    segment_scales: Float[Tensor, "B K"],
    rest_joints: Float[Tensor, "#B K 3"],
) -> tuple[Float[Tensor, "B K 3 4"], Float[Tensor, "B K 3"]]:
    turned, joints = body.kinematics(rotations, rest_joints, segment_scales)
    return skinning_transforms(turned * segment_scales[..., None, None], joints, rest_joints), joints
