"""Joints of crops in the normalised coordinates that Pose ResNet speaks, and what they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from posekit.artifacts.files import Artifact
from posekit.config.pose_resnet import DepthUnits
from posekit.errors import InputError
from posekit.records import cameras_from_columns
from posekit.skeleton.mapping import joint_map
from posekit.skeleton.skeleton import Skeleton

BOX_METRES = 2.0
"""The side of the square about the root whose image is the crop of `box2000` (EpipolarPose)."""

ROOT = "pelvis"


@dataclass(frozen=True, eq=False)
class PoseLabels:
    """Joints in normalised coordinates of crops.

    `rows` are those of the data set's samples, `crops` are unit_from_image (-1 to 1 over the crop), `boxes` the people's
    boxes in pixels of the image. `joints` hold x and y in shares of the crop's side from its centre and z from the root in
    the unit of depth; `weights` say, axis by axis, how much each counts.
    """

    rows: Int[np.ndarray, " N"]
    crops: Float[np.ndarray, "N 2 3"]
    boxes: Float[np.ndarray, "N 4"]
    joints: Float[np.ndarray, "N J 3"]
    weights: Float[np.ndarray, "N J 3"]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: Int[np.ndarray, " M"] | Bool[np.ndarray, " N"]) -> PoseLabels:
        """Some of them."""
        return PoseLabels(*(value[chosen] for value in vars(self).values()))

    @staticmethod
    def joined(parts: Sequence[PoseLabels]) -> PoseLabels:
        """Several of them one after the other."""
        return PoseLabels(*(np.concatenate(values) for values in zip(*(vars(p).values() for p in parts), strict=True)))


def person_crops(boxes: Float[np.ndarray, "N 4"], margin: float) -> Float[np.ndarray, "N 2 3"]:
    """unit_from_image of squares of `margin` times the longer side of the boxes, around their centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    side = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1) * margin, 1.0)
    return squares(centre, side)


def squares(centre: Float[np.ndarray, "N 2"], side: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 2 3"]:
    """unit_from_image of squares by centre and side (px)."""
    scale = 2.0 / side
    maps = np.zeros((len(side), 2, 3))
    maps[:, 0, 0] = maps[:, 1, 1] = scale
    maps[:, :, 2] = -scale[:, None] * centre
    return maps


def focal_lengths(dataset: Artifact, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The geometric mean of the focal lengths of each sample's camera, px."""
    cameras = cameras_from_columns(dataset.table("cameras"))
    of_camera = np.array([np.sqrt(camera.intrinsics[0, 0] * camera.intrinsics[1, 1]) for camera in cameras])
    return of_camera[dataset.read("samples", "camera", rows)]


def crops_of(
    dataset: Artifact, rows: Int[np.ndarray, " N"], margin: float, units: DepthUnits
) -> Float[np.ndarray, "N 2 3"]:
    """unit_from_image of the network's crops: about the people's boxes, or (`box2000`) about the true pelvis.

    Raises InputError for `box2000` without ground truth.
    """
    if units == "crop":
        return person_crops(dataset.read("samples", "bbox", rows).astype(np.float64), margin)
    root, depth = true_roots(dataset, rows)
    return squares(root, BOX_METRES * focal_lengths(dataset, rows) / depth)


def true_roots(
    dataset: Artifact, rows: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Pixels and depth (m) of the true pelvis; InputError where the data set does not know it."""
    if not dataset.has("samples", "joints3d"):
        raise InputError(
            "the depth of the root is not known",
            got=f"{dataset.path} without ground truth",
            hint="Use --depth-units crop, which needs none",
        )
    joints = joint_map(dataset.skeleton, Skeleton("root", (ROOT,), (-1,)), require_all=True)
    depth = joints.points(dataset.read("samples", "joints3d", rows).astype(np.float64))[:, 0, 2]
    pixels = joints.points(dataset.read("samples", "keypoints2d", rows)[..., :2].astype(np.float64))[:, 0]
    if not (np.isfinite(depth) & np.isfinite(pixels).all(axis=1)).all():
        raise InputError(
            "the depth of the root is not known for every sample",
            got=f"{int((~np.isfinite(depth)).sum())} of {len(rows)} samples without",
            hint="Use --depth-units crop, which needs none",
        )
    return pixels, depth


def depth_unit(
    crops: Float[np.ndarray, "N 2 3"],
    focal: Float[np.ndarray, " N"],
    root_depth: Float[np.ndarray, " N"],
    units: DepthUnits,
) -> Float[np.ndarray, " N"]:
    """Metres of one unit of z: the crop's width at the root's depth, or 2 m."""
    if units == "box2000":
        return np.full(len(crops), BOX_METRES)
    return 2.0 / crops[:, 0, 0] * root_depth / focal


def pixel_labels(dataset: Artifact, rows: Int[np.ndarray, " N"], skeleton: Skeleton, margin: float) -> PoseLabels:
    """The data set's own 2D key points; only seen joints count, and z counts nowhere."""
    joints = joint_map(dataset.skeleton, skeleton)
    given = dataset.read("samples", "keypoints2d", rows).astype(np.float64)
    pixels, seen = joints.points(given[..., :2]), joints.confidences(given[..., 2]) > 0
    crops = crops_of(dataset, rows, margin, "crop")
    flat = _normalised(crops, pixels)
    known = seen & np.isfinite(flat).all(axis=2)
    weights = np.stack([known, known, np.zeros_like(known)], axis=2).astype(np.float64)
    positions = np.concatenate([flat, np.zeros((*flat.shape[:2], 1))], axis=2)
    return _labels(dataset, rows, crops, positions, weights)


def spatial_labels(
    dataset: Artifact,
    rows: Int[np.ndarray, " N"],
    found: SpatialJoints,
    skeleton: Skeleton,
    margin: float,
    units: DepthUnits,
) -> PoseLabels:
    """3D joints in the frame of each sample's camera and their pixels.

    Depths are taken from the root. In units of the crop they do not change with the scale of the joints, which two views
    without extrinsics cannot tell. Samples whose root is unknown have no weight at all.
    """
    joints = joint_map(found.skeleton, skeleton)
    space, pixels = joints.points(found.joints), joints.points(found.pixels)
    weights = joints.confidences(found.weights)
    crops = crops_of(dataset, rows, margin, units)
    root = space[:, skeleton.index(ROOT), 2]
    unit = depth_unit(crops, focal_lengths(dataset, rows), root, units)
    deep = (space[..., 2:] - root[:, None, None]) / unit[:, None, None]
    positions = np.concatenate([_normalised(crops, pixels), deep], axis=2)
    usable = np.isfinite(positions).all(axis=2) & (root > 0)[:, None]
    return _labels(dataset, rows, crops, positions, np.where(usable, weights, 0.0)[..., None].repeat(3, axis=2))


@dataclass(frozen=True, eq=False)
class SpatialJoints:
    """Joints in the frames of cameras (m, or any unit), their pixels in the original image, and their weights."""

    skeleton: Skeleton
    joints: Float[np.ndarray, "N J 3"]
    pixels: Float[np.ndarray, "N J 2"]
    weights: Float[np.ndarray, "N J"]

    @staticmethod
    def true(dataset: Artifact, rows: Int[np.ndarray, " N"]) -> SpatialJoints:
        """The ground truth of a data set; InputError where it has none."""
        if not dataset.has("samples", "joints3d"):
            raise InputError(
                f"{dataset.path} has no ground truth to learn from",
                hint="Use --supervision self with labels of two views",
            )
        joints = dataset.read("samples", "joints3d", rows).astype(np.float64)
        pixels = dataset.read("samples", "keypoints2d", rows)[..., :2].astype(np.float64)
        known = np.isfinite(joints).all(axis=2) & np.isfinite(pixels).all(axis=2)
        return SpatialJoints(dataset.skeleton, joints, pixels, np.asarray(known, dtype=np.float64))

    @staticmethod
    def labelled(labels: Artifact, rows: Int[np.ndarray, " N"]) -> SpatialJoints:
        """Rows of labels made from two views; those of frames that the filter refused have no weight."""
        weights: np.ndarray = labels.read("samples", "weights", rows).astype(np.float64)
        weights[~labels.read("samples", "ok", rows)] = 0.0
        return SpatialJoints(
            labels.skeleton,
            labels.read("samples", "joints3d", rows).astype(np.float64),
            labels.read("samples", "pixels", rows).astype(np.float64),
            weights,
        )


def moving(
    keypoints: Float[np.ndarray, "N J 2"], track: Int[np.ndarray, " N"], frame: Int[np.ndarray, " N"], least_px: float
) -> Bool[np.ndarray, " N"]:
    """Which frames of each track to keep: those in which some joint moved by `least_px` since the last one kept."""
    keep = np.zeros(len(track), dtype=bool)
    last: dict[int, np.ndarray] = {}
    for row in np.lexsort((frame, track)):
        before = last.get(int(track[row]))
        moved = np.inf if before is None else np.nan_to_num(np.linalg.norm(keypoints[row] - before, axis=-1)).max()
        if moved >= least_px:
            keep[row] = True
            last[int(track[row])] = keypoints[row]
    return keep


def _normalised(crops: Float[np.ndarray, "N 2 3"], pixels: Float[np.ndarray, "N J 2"]) -> Float[np.ndarray, "N J 2"]:
    """From pixels to shares of the crop's side from its centre."""
    return 0.5 * (np.einsum("nij,nkj->nki", crops[..., :2], pixels) + crops[:, None, :, 2])


def _labels(
    dataset: Artifact,
    rows: Int[np.ndarray, " N"],
    crops: Float[np.ndarray, "N 2 3"],
    positions: Float[np.ndarray, "N J 3"],
    weights: Float[np.ndarray, "N J 3"],
) -> PoseLabels:
    """Rows of which at least one joint counts."""
    labels = PoseLabels(rows, crops, dataset.read("samples", "bbox", rows).astype(np.float64), positions, weights)
    return labels.select(np.flatnonzero(weights.any(axis=(1, 2))))
