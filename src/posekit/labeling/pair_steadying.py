"""Two-view labels made steadier by what is known of bodies; see `posekit.labeling.steadying`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posekit.geometry.cameras import Cameras
from posekit.geometry.triangulation import focal_lengths
from posekit.labeling.epipolar import PairLabels
from posekit.labeling.rig import PairGeometry
from posekit.labeling.steadying import BonePrior, Evidence, measure_bones, point_information, steady_joints
from posekit.threads import one_thread_each

_LEAST_NOISE_PX = 0.01
_MEDIAN_OF_HALF_NORMAL = 0.6745


def measure_pair_bones(
    pair: PairGeometry,
    cameras: Cameras,
    labels: PairLabels,
    keypoints: Float[Tensor, "T C J 2"],
    bones: Sequence[tuple[int, int]],
) -> BonePrior:
    """The bones of a person as two views show them."""
    return measure_bones(_evidence(pair, cameras, labels, keypoints), bones)


def steady_pair(
    pair: PairGeometry,
    cameras: Cameras,
    labels: PairLabels,
    keypoints: Float[Tensor, "T C J 2"],
    frames: Int[Tensor, " T"],
    prior: BonePrior,
) -> PairLabels:
    """The labels of one person in one sequence with bones that keep their lengths and a smooth motion.

    `frames` are in rising order. Joints that were dropped stay so.
    """
    if not len(frames):
        return labels
    with one_thread_each():
        joints = steady_joints(_evidence(pair, cameras, labels, keypoints), frames, prior)
    both = torch.stack([joints, joints @ pair.rotation.T + labels.scale * pair.translation])
    views = cameras.to(dtype=torch.float64)[[pair.first, pair.second]]
    pixels = views.project_camera(both.flatten(1, 2)).reshape((*both.shape[:-1], 2))
    return labels._replace(joints=both.transpose(0, 1), pixels=pixels.transpose(0, 1))


def _evidence(
    pair: PairGeometry, cameras: Cameras, labels: PairLabels, keypoints: Float[Tensor, "T C J 2"]
) -> Evidence:
    joints = labels.joints[:, 0]
    second_from_first = torch.cat([pair.rotation, labels.scale * pair.translation[:, None]], dim=1)
    matrices = torch.stack([torch.eye(3, 4, dtype=joints.dtype, device=joints.device), second_from_first])
    inliers = labels.valid[..., None].expand(*labels.valid.shape, 2)
    focal = focal_lengths(cameras.to(dtype=torch.float64))[[pair.first, pair.second]]
    noise = max(_noise_px(pair, labels, keypoints), _LEAST_NOISE_PX)
    return Evidence(joints, point_information(matrices, joints, inliers, focal, noise))


def _noise_px(pair: PairGeometry, labels: PairLabels, keypoints: Float[Tensor, "T C J 2"]) -> float:
    """Standard deviation of the key points, per coordinate, from what triangulation left.

    Of the four coordinates three are fitted: what is left is one number of that deviation, shared by both views.
    """
    left = torch.linalg.vector_norm(labels.pixels - keypoints[:, [pair.first, pair.second]], dim=-1)
    whole = left.square().sum(dim=1).sqrt()[labels.valid]
    return float(whole.median()) / _MEDIAN_OF_HALF_NORMAL if len(whole) else 1.0
