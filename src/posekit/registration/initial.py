"""Starting values: near the answer where 3D joints are known, upright and facing a camera where they are not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.geometry.conventions import CAMERA_FROM_UPRIGHT_BODY
from posekit.geometry.rotations import axis_angle_from_matrix, matrix_from_euler
from posekit.geometry.transforms import fit_similarity
from posekit.registration.landmarks import LandmarkBlends
from posekit.registration.losses import Hinges
from posekit.registration.parameters import BodyParameters
from posekit.registration.targets import Targets

_TORSO = ("left_hip", "right_hip", "left_shoulder", "right_shoulder", "pelvis", "mid_hip", "thorax", "mid_shoulder")
_LIMBS = (
    ("left_shoulder", "left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow", "right_wrist"),
    ("left_hip", "left_knee", "left_ankle"),
    ("right_hip", "right_knee", "right_ankle"),
)
_STRAIGHT = 0.2
"""Sine of the bend below which a limb's plane is taken more from its rest pose than from its bend."""

_SMALLEST, _LARGEST = 0.5, 2.0
_TINY = 1e-9
_DEFAULT_WEAK_SCALE = 0.9


def resting(body: SegmentScaledBody, count: int, betas: Float[Tensor, "B S"] | None = None) -> BodyParameters:
    """T-poses at the origin, upright in a camera's frame and facing the camera."""
    like = body.template
    facing = torch.as_tensor(CAMERA_FROM_UPRIGHT_BODY).to(like)
    return BodyParameters(
        pose=like.new_zeros((count, body.joint_count, 3)),
        segment_scales=like.new_ones((count, body.joint_count)),
        betas=like.new_zeros((count, body.joint_shapedirs.shape[-1])) if betas is None else betas,
        orientation=facing.expand(count, 3, 3).clone(),
        translation=like.new_zeros((count, 3)),
        scale=like.new_ones(count),
    )


def start_from_labels(
    body: SegmentScaledBody, landmarks: LandmarkBlends, hinges: Hinges, targets: Targets, yaw: float = 0.0
) -> BodyParameters:
    """A start for every body from its labels alone; `targets` must be cleaned.

    Calibrated views: from 3D joints, given or (where missing) triangulated from the key points. Otherwise a T-pose where
    the key points are, turned by `yaw` (rad) about its own vertical from facing the camera.
    """
    if targets.weak:
        return _facing_crop(body, landmarks, targets, yaw)
    joints, known = _known_joints(targets)
    from_joints, found = start_from_joints(body, landmarks, hinges, joints, known)
    return from_joints.where(found, _facing_camera(body, landmarks, targets, yaw))


def start_from_joints(
    body: SegmentScaledBody,
    landmarks: LandmarkBlends,
    hinges: Hinges,
    joints: Float[Tensor, "B J 3"],
    known: Bool[Tensor, "B J"],
) -> tuple[BodyParameters, Bool[Tensor, " B"]]:
    """A start from 3D joints in the world, and whether there were enough of them.

    The torso is placed by a rigid fit, the size is that of the bones, and each limb is turned bone by bone, bent elbows
    and knees about the axis that they naturally bend about.
    """
    rest = _rest_landmarks(landmarks)
    start = resting(body, len(joints))
    torso = _indices(landmarks, _TORSO)
    size = _relative_size(landmarks, rest, joints, known)
    weights = known[:, torso].to(joints.dtype)
    source = size[:, None, None] * rest[torso].expand(len(joints), -1, -1)
    placed = fit_similarity(source, joints[:, torso], weights, with_scale=False)
    found = (weights.sum(1) >= 3) & ~placed.degenerate
    start = replace(start, orientation=placed.rotation, translation=placed.translation, scale=size)
    pose = start.pose.clone()
    for limb in _LIMBS:
        if all(name in landmarks.names and name in body.body.joint_names for name in limb):
            _turn_limb(pose, placed.rotation, limb, body, landmarks, hinges, joints, known)
    return replace(start, pose=pose), found


def _turn_limb(
    pose: Float[Tensor, "B K 3"],
    trunk: Float[Tensor, "B 3 3"],
    limb: tuple[str, str, str],
    body: SegmentScaledBody,
    landmarks: LandmarkBlends,
    hinges: Hinges,
    joints: Float[Tensor, "B J 3"],
    known: Bool[Tensor, "B J"],
) -> None:
    """Sets the rotations of a limb's upper and lower joint, where its three joints are known."""
    upper, lower, end = (body.body.joint_index(name) for name in limb)
    a, b, c = (landmarks.names.index(name) for name in limb)
    rest = body.mean_rest_joints
    upper_rest, lower_rest = _unit(rest[lower] - rest[upper]), _unit(rest[end] - rest[lower])
    local = trunk.transpose(1, 2)
    upper_bone = _unit((local @ (joints[:, b] - joints[:, a])[..., None])[..., 0])
    lower_bone = _unit((local @ (joints[:, c] - joints[:, b])[..., None])[..., 0])
    swing = _swing(upper_rest.expand_as(upper_bone), upper_bone)
    axis_rest = hinges.axes[int((hinges.joints == lower).nonzero()[0, 0])]
    # The plane of the bend tells how the upper bone is twisted; a straight limb has none and keeps its rest twist.
    axis = torch.linalg.cross(upper_bone, lower_bone) + _STRAIGHT * (swing @ axis_rest)
    turn = _frame(upper_bone, axis) @ _frame(upper_rest, axis_rest).transpose(-1, -2)
    bend = _swing(lower_rest.expand_as(lower_bone), (turn.transpose(1, 2) @ lower_bone[..., None])[..., 0])
    whole = known[:, [a, b, c]].all(1)[:, None]
    pose[:, upper] = torch.where(whole, axis_angle_from_matrix(turn), pose[:, upper])
    pose[:, lower] = torch.where(whole, axis_angle_from_matrix(bend), pose[:, lower])


def _known_joints(targets: Targets) -> tuple[Float[Tensor, "B J 3"], Bool[Tensor, "B J"]]:
    given = (targets.joint_weights > 0).all(-1)
    made, possible = triangulated(targets.projections, targets.keypoints, targets.keypoint_weights)
    return torch.where(given[..., None], targets.joints, made), given | possible


def triangulated(
    projections: Float[Tensor, "B C 3 4"], points: Float[Tensor, "B C J 2"], weights: Float[Tensor, "B C J"]
) -> tuple[Float[Tensor, "B J 3"], Bool[Tensor, "B J"]]:
    """Points from two or more views by linear least squares; whether there were two."""
    P = projections[:, :, None]
    rows = points[..., None] * P[..., 2:, :] - P[..., :2, :]
    rows = (rows * weights[..., None, None].sqrt()).transpose(1, 2).flatten(2, 3)
    enough = (weights > 0).sum(1) >= 2
    normal = rows[..., :3].transpose(-1, -2) @ rows[..., :3]
    right = -(rows[..., :3].transpose(-1, -2) @ rows[..., 3:])[..., 0]
    eye = torch.eye(3, dtype=rows.dtype, device=rows.device)
    solved = torch.linalg.solve(torch.where(enough[..., None, None], normal + _TINY * eye, eye), right)
    enough = enough & solved.isfinite().all(-1)
    return torch.where(enough[..., None], solved, 0.0), enough


def _facing_crop(body: SegmentScaledBody, landmarks: LandmarkBlends, targets: Targets, yaw: float) -> BodyParameters:
    start = resting(body, len(targets))
    middle, height, any_seen = _extent(targets.keypoints[:, 0], targets.keypoint_weights[:, 0])
    rest = _rest_landmarks(landmarks)
    scale = torch.where(any_seen & (height > 0.1), height / _height(rest), _DEFAULT_WEAK_SCALE)
    turn = matrix_from_euler("y", start.scale.new_tensor([yaw]))
    return replace(
        start,
        orientation=start.orientation @ turn,
        scale=scale,
        translation=torch.nn.functional.pad(middle, (0, 1)),
    )


def _facing_camera(body: SegmentScaledBody, landmarks: LandmarkBlends, targets: Targets, yaw: float) -> BodyParameters:
    """T-poses in front of the view that has most labels, at the distance at which they are as high as these."""
    start = resting(body, len(targets))
    rows = torch.arange(len(targets), device=start.scale.device)
    best = (targets.keypoint_weights.sum(2) + targets.point_weights.sum(2)).argmax(1)
    projection = targets.projections[rows, best]
    middle, height, any_seen = _extent(targets.keypoints[rows, best], targets.keypoint_weights[rows, best])
    linear = projection[:, :, :3]
    forward = _unit(linear[:, 2])
    across = linear[:, 0] - (linear[:, 0] * forward).sum(-1, keepdim=True) * forward
    focal = torch.linalg.vector_norm(across, dim=-1)
    right = _unit(across)
    world_from_camera = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-1)
    distance = focal * _height(_rest_landmarks(landmarks)) / torch.where(any_seen, height, 1.0).clamp_min(0.1)
    image = distance[:, None] * torch.nn.functional.pad(middle, (0, 1), value=1.0)
    usable = torch.linalg.det(linear).abs() > _TINY
    eye = torch.eye(3, dtype=linear.dtype, device=linear.device)
    where = torch.linalg.solve(torch.where(usable[:, None, None], linear, eye), image - projection[:, :, 3])
    turn = matrix_from_euler("y", start.scale.new_tensor([yaw]))
    return replace(start, orientation=world_from_camera @ start.orientation @ turn, translation=where)


def _extent(
    points: Float[Tensor, "B J 2"], weights: Float[Tensor, "B J"]
) -> tuple[Float[Tensor, "B 2"], Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """Mean and height of the points that have weight, and whether there is one."""
    seen = (weights > 0)[..., None]
    some = seen.any(1)[:, 0]
    mean = (points * seen).sum(1) / seen.sum(1).clamp_min(1)
    high = torch.where(seen, points, -torch.inf).amax(1)[:, 1]
    low = torch.where(seen, points, torch.inf).amin(1)[:, 1]
    return mean, torch.where(some, high - low, 0.0), some


def _relative_size(
    landmarks: LandmarkBlends, rest: Float[Tensor, "J 3"], joints: Float[Tensor, "B J 3"], known: Bool[Tensor, "B J"]
) -> Float[Tensor, " B"]:
    """Total length of the limbs' known bones over that of the template's."""
    bones = [bone for limb in _LIMBS for bone in pairwise(limb)]
    pairs = [pair for pair in bones if all(name in landmarks.names for name in pair)]
    if not pairs:
        return joints.new_ones(len(joints))
    first, second = (_indices(landmarks, [pair[side] for pair in pairs]) for side in (0, 1))
    there = (known[:, first] & known[:, second]).to(joints.dtype)
    lengths = torch.linalg.vector_norm(joints[:, second] - joints[:, first], dim=-1)
    template = torch.linalg.vector_norm(rest[second] - rest[first], dim=-1)
    ratio = (lengths * there).sum(1) / (template * there).sum(1).clamp_min(_TINY)
    return torch.where(there.any(1), ratio, 1.0).clamp(_SMALLEST, _LARGEST)


def _rest_landmarks(landmarks: LandmarkBlends) -> Float[Tensor, "J 3"]:
    return landmarks.blend.reshape(len(landmarks.names), -1, 4).sum(1)[:, :3]


def _height(points: Float[Tensor, "J 3"]) -> Float[Tensor, ""]:
    return points[:, 1].max() - points[:, 1].min()


def _indices(landmarks: LandmarkBlends, names: tuple[str, ...] | list[str]) -> list[int]:
    return [landmarks.names.index(name) for name in names if name in landmarks.names]


def _unit(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _frame(along: Float[Tensor, "*batch 3"], near: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Right-handed axes as columns: the first along a unit vector, the second as near as may be to another vector."""
    second = _unit(near - (near * along).sum(-1, keepdim=True) * along)
    return torch.stack([along, second, torch.linalg.cross(along, second)], dim=-1)


def _swing(source: Float[Tensor, "B 3"], target: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    """The smallest rotations that turn unit vectors into others; about any axis for opposite ones."""
    axis = torch.linalg.cross(source, target)
    cosine = (source * target).sum(-1)
    zero = torch.zeros_like(cosine)
    x, y, z = axis.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*zero.shape, 3, 3)
    eye = torch.eye(3, dtype=source.dtype, device=source.device)
    turned = eye + skew + skew @ skew / (1.0 + cosine).clamp_min(1e-6)[:, None, None]
    helper = torch.where(source[:, :1].abs() < 0.9, eye[0], eye[1])
    normal = _unit(torch.linalg.cross(source, helper))
    half_turn = 2.0 * normal[:, :, None] * normal[:, None] - eye
    return torch.where((cosine < -0.9999)[:, None, None], half_turn, turned)
