"""Whether tracks of different views can be one person when nothing is known of where the cameras stand."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int

from posekit.geometry.epipolar import SAMPLE, RobustSettings, fundamental_from_essential, sampson_distance
from posekit.geometry.relative_pose import ImagePair, RelativePose, RelativePoseSettings, relative_pose
from posekit.labeling.association_views import REFERENCE_WIDTH, View, scaled_intrinsics
from posekit.records import Camera

_FEWEST_MATCHES = 4 * SAMPLE
_MOST_MATCHES = 1000
_HYPOTHESES = 300
_THRESHOLD_PX = 5.0
_WORST_PX = 40.0
_SETTINGS = RelativePoseSettings(robust=RobustSettings(threshold_px=_THRESHOLD_PX, max_hypotheses=1024))

CameraPair = tuple[Camera, Camera]


def track_distance(
    first: Float[np.ndarray, "T J 2"], second: Float[np.ndarray, "T J 2"], cameras: CameraPair, seed: int
) -> float:
    """How badly one camera pose explains all joints of all frames that two tracks share; NaN with too few of them.

    The mean Sampson distance (px, undistorted, at 1000 px image width), truncated at 40 px, under the best relative pose of
    the two cameras that the tracks themselves give; joints behind a camera count as 40 px. The movements of two different
    people rarely fit any one pose, the less so the longer both are seen to move.
    """
    pair = _matches(first, second, cameras, seed)
    if pair is None:
        return float("nan")
    # Two estimators: each is now and then misled by people who hardly move, rarely both.
    return min(_distance_by(pair, method) for method in (cv2.USAC_ACCURATE, cv2.LMEDS))


def _distance_by(pair: ImagePair, method: int) -> float:
    x, y = (points.numpy() for points in pair.normalized())
    focal = float(torch.diagonal(pair.first_intrinsics + pair.second_intrinsics)[:2].mean() / 2)
    essential, inliers = cv2.findEssentialMat(
        x, y, np.eye(3), method=method, prob=0.999, threshold=_THRESHOLD_PX / focal, maxIters=_HYPOTHESES
    )
    if essential is None or essential.shape[0] < 3 or not inliers.any():
        return _WORST_PX
    kept = inliers.ravel().astype(bool)
    in_front = float(cv2.recoverPose(essential[:3], x[kept], y[kept], np.eye(3))[0]) / int(kept.sum())
    fundamental = fundamental_from_essential(
        torch.from_numpy(essential[:3]), pair.first_intrinsics, pair.second_intrinsics
    )
    distances = sampson_distance(fundamental, pair.first, pair.second).abs().clamp_max(_WORST_PX)
    return float(distances.mean()) * in_front + _WORST_PX * (1 - in_front)


def relative_cameras(
    members: Int[np.ndarray, "P T C"],
    views: tuple[View, View],
    columns: tuple[int, int],
    cameras: CameraPair,
    seed: int,
) -> CameraPair | None:
    """Two cameras in the frame of the first, the distance between them being 1, from people matched between their views.

    None where the matches do not give a pose.
    """
    matched = [np.zeros((0, view.pixels.shape[2], 2)) for view in views]
    for person in members[:, :, list(columns)]:
        both = np.flatnonzero((person >= 0).all(axis=1))
        matched = [
            np.concatenate([before, view.pixels[both, person[both, side]]])
            for side, (before, view) in enumerate(zip(matched, views, strict=True))
        ]
    pair = _matches(matched[0], matched[1], cameras, seed)
    if pair is None:
        return None
    pose: RelativePose = relative_pose(pair, torch.Generator().manual_seed(seed), _SETTINGS)
    if pose.quality.in_front < _SETTINGS.min_in_front or pose.quality.inlier_ratio < _SETTINGS.min_inlier_ratio:
        return None
    first = replace(cameras[0], rotation=np.eye(3), translation=np.zeros(3))
    return first, replace(cameras[1], rotation=pose.rotation.numpy(), translation=pose.translation.numpy())


def _matches(
    first: Float[np.ndarray, "T J 2"], second: Float[np.ndarray, "T J 2"], cameras: CameraPair, seed: int
) -> ImagePair | None:
    seen = np.isfinite(first).all(axis=-1) & np.isfinite(second).all(axis=-1)
    x, y = torch.from_numpy(first[seen]), torch.from_numpy(second[seen])
    if len(x) < _FEWEST_MATCHES:
        return None
    if len(x) > _MOST_MATCHES:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_MOST_MATCHES]
        x, y = x[chosen], y[chosen]
    K = [torch.from_numpy(scaled_intrinsics(camera)) for camera in cameras]
    sizes = [torch.tensor([1.0, camera.height / camera.width]).double() * REFERENCE_WIDTH for camera in cameras]
    name = f"{cameras[0].name} and {cameras[1].name}"
    return ImagePair(x, y, K[0], K[1], sizes[0], sizes[1], name)
