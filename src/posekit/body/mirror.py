"""Left and right of a body: which joints and vertices change places in a mirrored picture.

A mirrored body is the same rig with the rotations and segment scales of each side given to the other, every rotation
reflected at the body's middle plane (x = 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from posekit.body.smpl_file import BodyData
from posekit.skeleton.skeleton import mirrored

_CANDIDATES = 16
"""Mirrored neighbours that a point may be paired with."""

_UNNAMED = "joint_"
_ACROSS = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class BodyMirror:
    """The joint and the vertex on the other side of each; those of the middle are their own.

    Both maps are their own inverse.
    """

    joints: Int[np.ndarray, " K"]
    vertices: Int[np.ndarray, " V"]


def mirror_of(body: BodyData) -> BodyMirror:
    """The mirror maps of a body.

    Joints pair by name, those without a name by their place. Vertices pair as the body itself says, or else with the
    nearest mirrored vertex that belongs to the mirrored joint, nearest pairs first: a template need be symmetric in its
    mesh, not to the last millimetre in its shape.
    """
    joints = _mirrored_joints(body)
    if body.mirror is not None:
        return BodyMirror(joints, np.asarray(body.mirror, dtype=np.int64))
    belongs = body.weights.argmax(axis=1)
    return BodyMirror(joints, _pairs(body.v_template.astype(np.float64), belongs, joints[belongs]))


def _mirrored_joints(body: BodyData) -> Int[np.ndarray, " K"]:
    names = body.joint_names
    unnamed = np.array([name.startswith(_UNNAMED) for name in names])
    joints = _pairs(body.rest_joints, unnamed.astype(np.int64), unnamed.astype(np.int64))
    for row, name in enumerate(names):
        if not unnamed[row]:
            joints[row] = names.index(mirrored(name)) if mirrored(name) in names else row
    return joints


def _pairs(
    points: Float[np.ndarray, "N 3"], group: Int[np.ndarray, " N"], partner_group: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """Each point's partner on the other side, by increasing distance; points that find none keep to themselves."""
    partner = np.arange(len(points))
    candidates = [
        _near_pairs(points, np.flatnonzero(group == label), np.flatnonzero(partner_group == label))
        for label in np.unique(group)
    ]
    distance, first, second = (np.concatenate(parts) for parts in zip(*candidates, strict=True))
    free = np.ones(len(points), dtype=bool)
    for row in np.lexsort((second, first, distance)):
        one, other = first[row], second[row]
        if free[one] and free[other]:
            partner[one], partner[other] = other, one
            free[one] = free[other] = False
    return partner


def _near_pairs(
    points: Float[np.ndarray, "N 3"], targets: Int[np.ndarray, " T"], queries: Int[np.ndarray, " Q"]
) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Distances of mirrored `queries` to the nearest `targets`, and the two points of each pair."""
    if not len(targets) or not len(queries):
        return np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    count = min(_CANDIDATES, len(targets))
    distance, near = cKDTree(points[targets]).query(points[queries] * _ACROSS, k=range(1, count + 1))
    return distance.ravel(), np.repeat(queries, count), targets[near.ravel()]


def mirrored_axis_angles(pose: Float[Tensor, "B K 3"], joints: Int[Tensor, " K"]) -> Float[Tensor, "B K 3"]:
    """Local rotations of the mirrored body; `joints` is its map of joints.

    An axis of rotation is a pseudovector: in a mirror at x = 0 its x component is what stays.
    """
    return pose[:, joints] * torch.as_tensor(-_ACROSS).to(pose)
