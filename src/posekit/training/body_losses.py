"""Losses of regressed bodies: against registered bodies, against 2D labels, and against what no body does."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.skinning import skinning_transforms
from posekit.geometry.rotations import canonical_quaternion, quaternion_from_axis_angle
from posekit.models.body_regressor import RegressedBodies
from posekit.registration.landmarks import LandmarkBlends
from posekit.registration.losses import Hinges, data_losses, determinant_loss, hinges_of, pose_loss, scale_loss
from posekit.registration.matched import Posed
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import PX_PER_UNIT, Targets

Form = Literal["smooth-l1", "l2"]


@dataclass(frozen=True)
class ParameterComparison:
    """How regressed numbers are compared with registered ones.

    smooth-l1 is quadratic up to `beta` and linear beyond. With `antipodal` a quaternion may come close to either of the two
    that mean the target, so that there is no jump at half turns.
    """

    form: Form = "smooth-l1"
    beta: float = 1.0
    antipodal: bool = True


def parameter_loss(
    bodies: RegressedBodies, fits: BodyParameters, comparison: ParameterComparison
) -> Float[Tensor, " B"]:
    """The mean difference over all numbers of the layout (Yoshiyasu and Gamez 2019, section 7.1).

    Rotations are compared as they are used: unit quaternions, orthonormal matrices. Registered bodies are taken with a mean
    segment scale of 1, which is one of many scalings that look the same.
    """
    target = fits.with_mean_scale_one()
    rotations = target.pose
    if bodies.rotations.shape[-1] == 4:
        rotations = canonical_quaternion(quaternion_from_axis_angle(target.pose))
        if comparison.antipodal:
            along = (rotations * bodies.rotations.detach()).sum(-1, keepdim=True)
            rotations = torch.where(along < 0, -rotations, rotations)
    # The root's own rotation is that of a body at rest in both.
    found = _numbers(
        bodies.rotations[:, 1:], bodies.segment_scales, bodies.orientation, bodies.translation, bodies.scale
    )
    wanted = _numbers(
        rotations[:, 1:], target.segment_scales, target.rotation, target.translation[:, :2], target.scale
    ).to(found.dtype)
    if comparison.form == "l2":
        differences = (found - wanted).square()
    else:
        differences = nn.functional.smooth_l1_loss(found, wanted, reduction="none", beta=comparison.beta)
    return differences.sum(1) / (found.shape[1] + rotations.shape[-1])


def _numbers(*parts: Tensor) -> Float[Tensor, "B N"]:
    return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)


@dataclass(frozen=True, eq=False)
class DataTerms:
    """Losses against the 2D labels and their depths, and the landmarks in crop units that were compared with them."""

    dense: Float[Tensor, " B"]
    keypoints: Float[Tensor, " B"]
    depth: Float[Tensor, " B"]
    landmarks: Float[Tensor, "B J 3"]


class LossBody(nn.Module):
    """The body and its landmarks as losses use them, in one module so that they move to a device together.

    Only matched vertices are posed. `robust_px` is the distance (px of a 224 crop) from which labels count less and less,
    or None.
    """

    def __init__(self, body: SegmentScaledBody, landmarks: LandmarkBlends, robust_px: float | None = None) -> None:
        super().__init__()
        self.body = body
        self.joint_names = landmarks.names
        self._robust = None if robust_px is None else robust_px / PX_PER_UNIT
        hinges = hinges_of(body)
        self._constant("blend", landmarks.blend)
        self._constant("directions", landmarks.directions)
        self._constant("hinge_joints", hinges.joints)
        self._constant("hinge_axes", hinges.axes)
        self._constant("hinge_bones", hinges.bones)
        self._constant("parents", torch.tensor(body.kinematics.parents[1:]))

    def _constant(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    @property
    def landmarks(self) -> LandmarkBlends:
        """The labelled joints."""
        return LandmarkBlends(self.joint_names, self.get_buffer("blend"), self.get_buffer("directions"))

    @property
    def hinges(self) -> Hinges:
        """Elbows and knees."""
        return Hinges(*(self.get_buffer(f"hinge_{name}") for name in ("joints", "axes", "bones")))

    def data_terms(self, bodies: RegressedBodies, targets: Targets) -> DataTerms:
        """The terms of registration, of bodies that were regressed; labels have one view, under weak perspective."""
        precise = self.body.template.dtype
        placement = BodyParameters(
            # Not looked at: the rotations are given to what poses the body.
            pose=bodies.rotations.new_zeros(*bodies.segment_scales.shape, 3),
            segment_scales=bodies.segment_scales,
            betas=bodies.scale.new_zeros(len(bodies), 0),
            orientation=bodies.orientation,
            translation=nn.functional.pad(bodies.translation, (0, 1)),
            scale=bodies.scale,
        )
        posed = self._posed(bodies, targets.vertices.flatten(1))
        dense, keypoints, depth = data_losses(posed, placement, _as(targets, precise), self._robust)
        return DataTerms(dense, keypoints, depth, placement.placed(posed.landmarks))

    def _posed(self, bodies: RegressedBodies, vertices: Int[Tensor, "B M"]) -> Posed:
        """Landmarks and matched vertices. The vertices change with every batch: what `MatchedBody` prepares for many poses
        of the same ones would be prepared for a single pose here."""
        precise = self.body.template.dtype
        scales = bodies.segment_scales.to(precise)
        rest = self.body.mean_rest_joints[None]
        turned, joints = self.body.kinematics(bodies.matrices().to(precise), rest, scales)
        transforms = skinning_transforms(turned * scales[..., None, None], joints, rest)
        landmarks = self.get_buffer("blend") @ transforms.transpose(2, 3).flatten(1, 2)
        maps = (self.body.weights[vertices] @ transforms.flatten(2)).reshape(*vertices.shape, 3, 4)
        rest_points = self.body.template[vertices]
        # Written out: a batch of thousands of 3x3 products costs several times as much.
        points = torch.addcmul(maps[..., 3], maps[..., 0], rest_points[..., 0:1])
        points = torch.addcmul(points, maps[..., 1], rest_points[..., 1:2])
        points = torch.addcmul(points, maps[..., 2], rest_points[..., 2:3])
        return Posed(landmarks, points, joints)

    def scale_term(self, bodies: RegressedBodies) -> Float[Tensor, " B"]:
        """Differing scales of neighbouring segments."""
        parents: Int[Tensor, " K-1"] = self.get_buffer("parents")
        return scale_loss(bodies.segment_scales, parents)

    def pose_term(self, bodies: RegressedBodies, squared_limits: bool) -> Float[Tensor, " B"]:
        """Joint angles, and elbows and knees bent the wrong way."""
        return pose_loss(bodies.axis_angles(), self.hinges, squared_limits)

    def determinant_term(self, bodies: RegressedBodies) -> Float[Tensor, " B"]:
        """Nine numbers on the way to a reflection."""
        return determinant_loss(bodies.nine)


def _as(targets: Targets, dtype: torch.dtype) -> Targets:
    if targets.keypoints.dtype == dtype:
        return targets
    parts = {part.name: getattr(targets, part.name) for part in fields(targets) if part.name != "weak"}
    return replace(targets, **{name: value.to(dtype) for name, value in parts.items() if value.is_floating_point()})
