"""From what a Pose ResNet says of a crop to joints in metres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from posekit.camera_stack import stack_cameras
from posekit.records import Camera
from posekit.skeleton.skeleton import Skeleton


def by_bone_length(
    coordinates: Float[np.ndarray, "N J 3"], skeleton: Skeleton, root: int, total_length: float
) -> Float[np.ndarray, "N J 3"]:
    """Joints about the root in axes parallel to the camera's, all bones together `total_length` (m) long.

    `coordinates` are shares of the crop's side, which all three axes share, so that this is a pose under weak perspective.
    NaN where the bones have no length.
    """
    parents, children = [bone[0] for bone in skeleton.bones], [bone[1] for bone in skeleton.bones]
    length = np.linalg.norm(coordinates[:, children] - coordinates[:, parents], axis=-1).sum(axis=1)
    factor = np.divide(total_length, length, out=np.full(len(length), np.nan), where=length > 0)
    return (coordinates - coordinates[:, [root]]) * factor[:, None, None]


def by_root_depth(
    coordinates: Float[np.ndarray, "N J 3"],
    pixels: Float[np.ndarray, "N J 2"],
    depth_unit: Float[np.ndarray, " N"],
    root_depth: Float[np.ndarray, " N"],
    lenses: Sequence[Camera],
    camera: Int[np.ndarray, " N"],
) -> Float[np.ndarray, "N J 3"]:
    """Joints in the frame of each sample's camera (m), along the rays through their pixels.

    The third of the `coordinates` is depth from the root in units of `depth_unit` (m); `pixels` are those of the original,
    distorted image. NaN where a depth is not positive or the lens has no ray.
    """
    depth = root_depth[:, None] + coordinates[..., 2] * depth_unit[:, None]
    depth = np.where(depth > 0, depth, np.nan)
    rays = np.full(pixels.shape, np.nan)
    for number in np.unique(camera):
        rows = camera == number
        lens = stack_cameras([lenses[int(number)]])[0]
        rays[rows] = lens.undistort(torch.from_numpy(pixels[rows].astype(np.float64))).numpy()
    return np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=2) * depth[..., None]
