"""Depths of key points under weak perspective: lifted from the key points themselves, or those of 3D joints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from posekit.body.segment_scaled import SegmentScaledBody
from posekit.records import Camera
from posekit.registration.landmarks import LandmarkBlends, landmark_blends
from posekit.skeleton.catalog import CATALOG
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton
from posekit.threads import one_thread_each

_ROOTS = (("pelvis",), ("mid_hip",), ("left_hip", "right_hip"))
_Z_ONLY = (0.0, 0.0, 1.0)


@runtime_checkable
class DepthLifter(Protocol):
    """Gives key points depth."""

    digest: str

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The joints that `depths` takes."""

    def depths(
        self, keypoints: Float[Tensor, "B J 2"], valid: Bool[Tensor, "B J"]
    ) -> tuple[Float[Tensor, "B J"], Bool[Tensor, " B"]]:
        """Depths relative to the pelvis in the key points' unit (y down), and for which bodies they could be had."""


def lifter_skeleton(lifter: DepthLifter) -> Skeleton:
    """The joint order that a lifter speaks of."""
    known = (skeleton for skeleton in CATALOG.values() if skeleton.joints == lifter.joint_names)
    names = lifter.joint_names
    return next(known, None) or Skeleton("lifter", names, (-1, *[0] * (len(names) - 1)))


def labelled_landmarks(
    body: SegmentScaledBody, skeletons: Sequence[Skeleton], lifter: DepthLifter | None
) -> LandmarkBlends:
    """The joints that labels of these skeletons and a lifter speak of."""
    return landmark_blends(body, *skeletons, *(() if lifter is None else (lifter_skeleton(lifter),)))


class LiftedDepths:
    """A lifter applied to key points in the order `joint_names`; `skeleton` says what was annotated.

    Joints of the lifter that were not annotated are made from those that were, as the middle of two.
    """

    def __init__(self, lifter: DepthLifter, skeleton: Skeleton, joint_names: Sequence[str]) -> None:
        self._lifter = lifter
        self._map = joint_map(skeleton, lifter_skeleton(lifter))
        self._sources = [joint_names.index(name) for name in skeleton.joints]
        self._targets = [joint_names.index(name) for name in lifter.joint_names]

    def labels(
        self, keypoints: Float[np.ndarray, "B J 2"], confidence: Float[np.ndarray, "B J"]
    ) -> tuple[Float[np.ndarray, "B J 3"], Float[np.ndarray, "B J 3"]]:
        """Targets with depths and their weights: the key points' confidence, on z only."""
        joints = np.zeros((*confidence.shape, 3))
        weights = np.zeros_like(joints)
        given = self._map.points(keypoints[:, self._sources])
        trust = self._map.confidences(confidence[:, self._sources])
        trust = np.where(np.isfinite(given).all(-1), trust, 0.0)
        # The sums of a matrix product depend on the number of threads; results must not.
        with one_thread_each(), torch.no_grad():
            points = torch.from_numpy(np.where(trust[..., None] > 0, given, 0.0).astype(np.float32))
            depths, possible = self._lifter.depths(points, torch.from_numpy(trust > 0))
        joints[:, self._targets, 2] = depths.double().cpu().numpy()
        weights[:, self._targets, 2] = trust * possible.cpu().numpy()[:, None]
        return joints, weights


def measured_depths(
    joints: Float[np.ndarray, "B J 3"],
    weights: Float[np.ndarray, "B J 3"],
    joint_names: Sequence[str],
    cameras: Sequence[Camera],
    camera: Int[np.ndarray, " B"],
    crops: Float[np.ndarray, "B 2 3"],
) -> tuple[Float[np.ndarray, "B J 3"], Float[np.ndarray, "B J 3"]]:
    """Depths of 3D joints relative to the root in crop units.

    `camera` is the row of the camera that sees each body. Joints of bodies without a root or a posed camera get no weight.
    """
    root = next((names for names in _ROOTS if all(name in joint_names for name in names)), None)
    posed = np.array([c.posed for c in cameras])[camera]
    if root is None:
        return joints, np.zeros_like(weights)
    rotation = np.stack([c.rotation[2] for c in cameras])[camera]
    shift = np.array([c.translation[2] for c in cameras])[camera]
    focal = np.array([c.intrinsics[0, 0] for c in cameras])[camera]
    depth = (joints * rotation[:, None]).sum(-1) + shift[:, None]
    columns = [joint_names.index(name) for name in root]
    root_depth = depth[:, columns].mean(1)
    usable = posed & (weights[:, columns, 2] > 0).all(1) & (root_depth > 0)
    unit_per_metre = focal * crops[:, 0, 0] / np.where(usable, root_depth, 1.0)
    relative = np.zeros_like(joints)
    relative[..., 2] = (depth - root_depth[:, None]) * unit_per_metre[:, None]
    return relative, weights * usable[:, None, None] * _Z_ONLY
