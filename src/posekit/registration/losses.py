"""The terms of the registration objective (Yoshiyasu and Gamez 2019, section 6), one value per body and term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.body.hinges import hinge_limits
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.registration.matched import Posed
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import PX_PER_UNIT, Targets

LOSS_NAMES = ("dense", "keypoints", "depth", "joints3d", "scale", "pose", "hinge", "det", "size", "shape", "temporal")

_GAUGE = 1e-2
_NEAREST = 0.1
"""Points nearer to a camera than this (m) are projected as if they were this far."""


@dataclass(frozen=True)
class Weights:
    """How much each term counts; zero leaves it out.

    Under weak perspective the 3D joints are depths alone, and `depth` counts in the place of `joints3d`. `limits` says
    whether the pose term has the exponential of wrong bends, and `squared_limits` whether that is squared.
    """

    dense: float = 10.0
    keypoints: float = 10.0
    depth: float = 10.0
    joints3d: float = 10.0
    scale: float = 10.0
    pose: float = 1e-3
    hinge: float = 0.0
    det: float = 1.0
    size: float = 0.0
    shape: float = 0.0
    temporal: float = 0.0
    limits: bool = True
    squared_limits: bool = False

    def every(self) -> Weights:
        """Weights that leave no term out."""
        weights: dict[str, Any] = {name: getattr(self, name) or 1.0 for name in LOSS_NAMES}
        return replace(self, **weights)

    def vector(self, like: Tensor) -> Float[Tensor, " L"]:
        """The weights in the order of `LOSS_NAMES`."""
        return like.new_tensor([getattr(self, name) for name in LOSS_NAMES])


@dataclass(frozen=True, eq=False)
class Hinges:
    """Joints that bend one way only: their index, the axis of natural flexion (right-handed), the direction of the bone beyond.

    Axes and directions have unit length, in the rest pose.
    """

    joints: Int[Tensor, " H"]
    axes: Float[Tensor, "H 3"]
    bones: Float[Tensor, "H 3"]


def hinges_of(body: SegmentScaledBody) -> Hinges:
    """The elbows and knees of a body."""
    limits = hinge_limits(body.body)
    rest = body.mean_rest_joints
    joints = torch.tensor(limits.joints, dtype=torch.long, device=rest.device)
    children = [body.kinematics.parents.index(joint) for joint in limits.joints]
    bones = torch.nn.functional.normalize(rest[children] - rest[joints], dim=-1)
    return Hinges(joints, torch.as_tensor(limits.axes).to(rest), bones)


def data_losses(
    posed: Posed, parameters: BodyParameters, targets: Targets, robust: float | None
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"], Float[Tensor, " B"]]:
    """The dense, key-point and 3D-joint (or depth) terms, each the weighted mean of squared distances.

    With `robust`, the squared distance r2 of every label becomes ``r2 / (1 + r2 / robust^2)`` (Geman and McClure), which
    lets go of labels that are much further off than `robust` (crop units in the image, metres for 3D joints). Not of depths
    of single views, which nothing else tells: letting go of them costs a third of the accuracy (measured).
    """
    points, keypoints = _image_distances(posed, parameters, targets)
    placed = parameters.placed(posed.landmarks)
    present = targets.joint_weights.amax(-1)
    # The axes' weights are relative to the joint's own, which the mean applies.
    relative = targets.joint_weights / torch.where(present > 0, present, 1.0)[..., None]
    return (
        _weighted_mean(points, targets.point_weights, robust),
        _weighted_mean(keypoints, targets.keypoint_weights, robust),
        _weighted_mean(
            ((placed - targets.joints).square() * relative).sum(-1), present, None if targets.weak else robust
        ),
    )


def residual_px(posed: Posed, parameters: BodyParameters, targets: Targets) -> Float[Tensor, " B"]:
    """Mean distance, weighted by confidence, of projected points to their labels; pixels of a 224 crop."""
    points, keypoints = _image_distances(posed, parameters, targets)
    distances = torch.cat([points.flatten(1), keypoints.flatten(1)], dim=1).sqrt()
    weights = torch.cat([targets.point_weights.flatten(1), targets.keypoint_weights.flatten(1)], dim=1)
    return PX_PER_UNIT * (distances * weights).sum(1) / weights.sum(1).clamp_min(1e-9)


def _image_distances(
    posed: Posed, parameters: BodyParameters, targets: Targets
) -> tuple[Float[Tensor, "B C N"], Float[Tensor, "B C J"]]:
    """Squared distances of the projected points and landmarks to their labels, crop units."""
    turn = parameters.scale[:, None, None] * parameters.rotation
    linear = targets.projections[..., :3]
    # The body's placement and the cameras are put together first: one product per point is left.
    cameras = (linear @ turn[:, None]).transpose(-1, -2)
    shifts = targets.projections[..., 3] + (linear @ parameters.translation[:, None, :, None])[..., 0]
    points = _project(posed.points.reshape(*targets.points.shape[:3], 3), cameras, shifts)
    keypoints = _project(posed.landmarks[:, None], cameras, shifts)
    return (points - targets.points).square().sum(-1), (keypoints - targets.keypoints).square().sum(-1)


def _project(
    points: Float[Tensor, "B #C N 3"], cameras: Float[Tensor, "B C 3 3"], shifts: Float[Tensor, "B C 3"]
) -> Float[Tensor, "B C N 2"]:
    homogeneous = points @ cameras + shifts[:, :, None]
    return homogeneous[..., :2] / homogeneous[..., 2:].clamp_min(_NEAREST)


def _weighted_mean(
    square: Float[Tensor, "B *labels"], weights: Float[Tensor, "B *labels"], robust: float | None
) -> Float[Tensor, " B"]:
    """The weighted sum over the number of labels that have weight: a low confidence lowers the term."""
    if robust is not None:
        square = square / (1.0 + square / robust**2)
    count = (weights > 0).flatten(1).sum(1).clamp_min(1)
    return (square * weights).flatten(1).sum(1) / count


def scale_loss(segment_scales: Float[Tensor, "B K"], parents: Int[Tensor, " K-1"]) -> Float[Tensor, " B"]:
    """Differences between neighbouring segments; weakly, too, the distance of the mean from 1, which fixes the gauge."""
    steps = segment_scales[:, 1:] - segment_scales[:, parents]
    return steps.square().mean(1) + _GAUGE * (segment_scales.mean(1) - 1.0).square()


def pose_loss(pose: Float[Tensor, "B K 3"], hinges: Hinges, squared: bool, limits: bool = True) -> Float[Tensor, " B"]:
    """Squares of all joint angles, and with `limits` the exponential of bending a hinge the wrong way.

    With `squared` the exponential is squared, as in SMPLify (Bogo et al. 2016).
    """
    angles = pose[:, 1:].square().flatten(1).sum(1)
    if not limits:
        return angles
    flexion = (pose[:, hinges.joints] * hinges.axes).sum(-1)
    wrong_way = torch.exp(-(2.0 if squared else 1.0) * flexion)
    return angles + wrong_way.sum(1)


def hinge_loss(pose: Float[Tensor, "B K 3"], hinges: Hinges) -> Float[Tensor, " B"]:
    """Squares of the sideways bend of hinges, about the axis that is neither that of flexion nor along the bone."""
    sideways = torch.linalg.cross(hinges.axes, hinges.bones)
    return (pose[:, hinges.joints] * sideways).sum(-1).square().sum(1)


def determinant_loss(orientation: Float[Tensor, "B 3 3"]) -> Float[Tensor, " B"]:
    """Keeps the nine numbers of the orientation away from a reflection."""
    first, second, third = orientation.unbind(-1)
    return torch.exp(-(torch.linalg.cross(first, second) * third).sum(-1))


def size_loss(parameters: BodyParameters) -> Float[Tensor, " B"]:
    """How far the body's size is from the template's: what tells a near child from a far adult in a single view."""
    return (parameters.scale * parameters.segment_scales.mean(1) - 1.0).square()


def temporal_loss(posed: Posed, parameters: BodyParameters, targets: Targets) -> Float[Tensor, " B"]:
    """Mean squared step of the rig joints from the instant before, for rows that continue one."""
    placed = parameters.placed(posed.joints)
    # Chosen before squaring: a body that is not finite must not reach the next one, nor its gradient.
    steps = torch.where(targets.linked[1:, None, None], placed[1:] - placed[:-1], 0.0)
    return torch.nn.functional.pad(steps.square().sum(-1).mean(1), (1, 0))
