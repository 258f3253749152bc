"""3D labels of single images from the two-view labels of their camera pairs (Pose ResNet, section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from posekit.labeling.anthropometry import root_joints
from posekit.labeling.epipolar import PairLabels
from posekit.labeling.rig import PairGeometry
from posekit.skeleton.skeleton import Skeleton

Merge = Literal["average", "best", "random"]

SEVERAL = -1
"""The partner of a view whose label was made from several others."""


@dataclass(frozen=True, eq=False)
class ViewLabels:
    """Labels of one person in one camera over time, in the camera's frame (m); NaN where a joint was dropped.

    `partner` is the other camera of the pair, by its place in the session, or `SEVERAL`; `ok` says whether any pair passed
    the filter.
    """

    joints: Float[np.ndarray, "T J 3"]
    partner: Int[np.ndarray, " T"]
    ok: Bool[np.ndarray, " T"]


def merge_views(
    camera: int,
    found: Sequence[tuple[PairGeometry, PairLabels]],
    keypoints: Float[np.ndarray, "T C J 2"],
    skeleton: Skeleton,
    how: Merge,
    generators: Sequence[np.random.Generator],
) -> ViewLabels | None:
    """The labels of a camera from all pairs that it belongs to; None where there is no pair.

    Labels of different pairs agree but for their scale, since all lie on the rays of the same camera: before they are
    averaged each is scaled so that its root stands at the mean depth of the roots. A frame that one pair alone labels takes
    that pair's. `generators` (one for each frame) choose for `random`.
    """
    sides = [(pair, labels, 0 if pair.first == camera else 1) for pair, labels in found if camera in pair[:2]]
    if not sides:
        return None
    joints = np.stack([labels.joints[:, side].numpy() for _, labels, side in sides])
    usable = np.stack([labels.frames_ok.numpy() for _, labels, _ in sides])
    partners = np.array([pair.second if side == 0 else pair.first for pair, _, side in sides])
    joints[~usable] = np.nan
    ok = np.asarray(usable.any(axis=0))
    if how == "average":
        both = usable.sum(axis=0) > 1
        partner = np.where(both, SEVERAL, partners[usable.argmax(axis=0)])
        return ViewLabels(_mean(joints, skeleton), partner, ok)
    if how == "best":
        pixels = np.stack([labels.pixels[:, side].numpy() for _, labels, side in sides])
        error = np.linalg.norm(pixels - keypoints[None, :, camera], axis=-1)
        error[~np.isfinite(joints).all(axis=-1)] = np.nan
        rank = np.where(usable, _nanmean(error), np.inf)
    else:
        rank = np.stack([generator.random(len(sides)) for generator in generators], axis=1)
        rank = np.where(usable, rank, np.inf)
    chosen = rank.argmin(axis=0)
    return ViewLabels(joints[chosen, np.arange(len(chosen))], partners[chosen], ok)


def _mean(joints: Float[np.ndarray, "P T J 3"], skeleton: Skeleton) -> Float[np.ndarray, "T J 3"]:
    root = joints[:, :, list(root_joints(skeleton)), 2].mean(axis=2)
    common = _nanmean(np.moveaxis(root, 0, -1))
    scaled = joints * (common / root)[:, :, None, None]
    return _nanmean(np.moveaxis(scaled, 0, -1))


def _nanmean(values: Float[np.ndarray, "*batch N"]) -> Float[np.ndarray, "*batch"]:
    """The mean along the last axis of the numbers there are; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
