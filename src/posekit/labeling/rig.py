"""A rig of cameras from the people it sees: relative poses of pairs, chained and adjusted together.

Nothing is known but intrinsics and lenses. The result lives in the frame of the first camera, in an arbitrary unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from posekit.errors import DataError
from posekit.geometry.bundle_adjustment import Bundle, BundleSettings, Observations, adjust_bundle
from posekit.geometry.cameras import Cameras
from posekit.geometry.relative_pose import (
    ImagePair,
    PairQuality,
    RelativePoseSettings,
    find_weakness,
    judge_pose,
    relative_pose,
)
from posekit.geometry.triangulation import (
    TriangulationSettings,
    focal_lengths,
    triangulate_dlt,
    triangulate_robust,
)
from posekit.threads import one_thread_each, side_by_side

_ROUNDS = 4
_ROUGH_GAIN = 1e-3
"""Relative gain at which an adjustment ends that only serves to choose observations anew."""


@dataclass(frozen=True)
class RigSettings:
    """How a rig is found.

    `frames` are pooled, evenly spread over those given; key points below `min_confidence` are left out. `inlier_px` is the
    reprojection error up to which an observation takes part in the adjustment. `pairs` restricts the camera pairs that
    are tried (all when empty). All pixels, those of `pose` too, are meant for images of 1000 px and are scaled to
    the larger side of the images at hand.
    """

    frames: int = 200
    min_confidence: float = 0.5
    inlier_px: float = 10.0
    huber_px: float = 3.0
    seed: int = 0
    pairs: tuple[tuple[int, int], ...] = ()
    pose: RelativePoseSettings = field(default_factory=RelativePoseSettings)


class PairGeometry(NamedTuple):
    """Two cameras by index, their relative pose (unit translation), how good it is, and what is wrong with it, if anything."""

    first: int
    second: int
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]
    fundamental: Float[Tensor, "3 3"]
    quality: PairQuality
    weakness: str


class Rig(NamedTuple):
    """Cameras posed in the frame of the first one, in an arbitrary unit, and the pairs they were made from."""

    cameras: Cameras
    pairs: list[PairGeometry]
    rms_px: float


class PooledPoints(NamedTuple):
    """Points seen by several cameras at one moment: undistorted pixels and weights (zero: not seen)."""

    pixels: Float[Tensor, "N C 2"]
    weights: Float[Tensor, "N C"]


def pool_points(
    cameras: Cameras, keypoints: Float[Tensor, "T C J 2"], confidence: Float[Tensor, "T C J"], settings: RigSettings
) -> PooledPoints:
    """All confident key points of evenly spread frames, lens undone."""
    count = len(keypoints)
    chosen = torch.linspace(0, count - 1, min(count, settings.frames), device=keypoints.device).round().long()
    pixels = keypoints[chosen].double().transpose(0, 1).flatten(1, 2)
    weights = confidence[chosen].double().transpose(0, 1).flatten(1)
    undistorted = cameras.to(dtype=torch.float64).undistort_pixels(pixels).transpose(0, 1)
    usable = torch.isfinite(undistorted).all(dim=-1) & (settings.min_confidence <= weights.T)
    return PooledPoints(undistorted, torch.where(usable, weights.T, 0.0))


def estimate_pairs(
    cameras: Cameras, pooled: PooledPoints, settings: RigSettings, names: Sequence[str]
) -> list[PairGeometry]:
    """The two-view geometry of every pair of cameras, weak ones marked, pairs with too few matches left out."""
    chosen = list(settings.pairs or combinations(range(len(cameras)), 2))

    def estimate(which: tuple[int, int]) -> PairGeometry | None:
        return _estimated_pair(cameras, pooled, settings, names, which)

    found = side_by_side(estimate, chosen, pooled.pixels.device)
    return [pair for pair in found if pair is not None]


def _estimated_pair(
    cameras: Cameras, pooled: PooledPoints, settings: RigSettings, names: Sequence[str], which: tuple[int, int]
) -> PairGeometry | None:
    first, second = which
    pair = _image_pair(cameras, pooled, names, which)
    # A generator of its own, so that the result does not depend on which pairs are worked on, nor in what order.
    generator = torch.Generator(device=pooled.pixels.device).manual_seed(settings.seed)
    try:
        pose = relative_pose(pair, generator, _scaled(settings.pose, _image_scale(cameras[[first, second]])))
    except DataError:
        return None
    problem = find_weakness(pose.quality, settings.pose)
    return PairGeometry(
        first,
        second,
        pose.rotation,
        pose.translation,
        pair.fundamental(pose.rotation, pose.translation),
        pose.quality,
        "" if problem is None else f"{problem[0]} is {problem[1]}, accepted: {problem[2]}",
    )


def known_pairs(
    cameras: Cameras, pooled: PooledPoints, settings: RigSettings, names: Sequence[str]
) -> list[PairGeometry]:
    """The two-view geometry of camera pairs whose poses are known, judged by the pooled points; none is called weak."""
    found = []
    for first, second in settings.pairs or combinations(range(len(cameras)), 2):
        views = cameras.to(dtype=torch.float64)
        rotation = views.rotation[second] @ views.rotation[first].T
        shift = views.translation[second] - rotation @ views.translation[first]
        translation = shift / torch.linalg.vector_norm(shift)
        pair = _image_pair(cameras, pooled, names, (first, second))
        quality = judge_pose(
            pair, rotation, translation, _scaled(settings.pose, _image_scale(cameras[[first, second]]))
        )
        fundamental = pair.fundamental(rotation, translation)
        found.append(PairGeometry(first, second, rotation, translation, fundamental, quality, ""))
    return found


def _image_pair(cameras: Cameras, pooled: PooledPoints, names: Sequence[str], which: tuple[int, int]) -> ImagePair:
    first, second = which
    both = (pooled.weights[:, first] > 0) & (pooled.weights[:, second] > 0)
    return ImagePair(
        pooled.pixels[both, first],
        pooled.pixels[both, second],
        cameras.intrinsics[first].double(),
        cameras.intrinsics[second].double(),
        cameras.image_size[first].double(),
        cameras.image_size[second].double(),
        f"{names[first]} - {names[second]}",
    )


def estimate_rig(
    cameras: Cameras,
    keypoints: Float[Tensor, "T C J 2"],
    confidence: Float[Tensor, "T C J"],
    names: Sequence[str],
    settings: RigSettings | None = None,
) -> Rig:
    """The poses of cameras from the key points they saw at the same moments; rotation and translation given are ignored.

    Raises DataError, naming pairs and figures, when no chain of trustworthy pairs joins all cameras.
    """
    settings = settings or RigSettings()
    pooled = pool_points(cameras, keypoints, confidence, settings)
    pairs = estimate_pairs(cameras, pooled, settings, names)
    observations = Observations(_normalized(cameras, pooled.pixels), pooled.weights, focal_lengths(cameras))
    rotation, translation = _chained(observations, _best_tree(pairs, len(cameras), names))
    factor = _image_scale(cameras)
    scaled = replace(settings, inlier_px=settings.inlier_px * factor, huber_px=settings.huber_px * factor)
    with one_thread_each():
        bundle = _adjusted(observations, rotation, translation, scaled)
    posed = replace(cameras.to(dtype=torch.float64), rotation=bundle.rotation, translation=bundle.translation)
    return Rig(posed, pairs, bundle.cost**0.5)


def _image_scale(cameras: Cameras) -> float:
    return float(cameras.image_size.double().amax(dim=-1).mean()) / 1000.0


def _scaled(pose: RelativePoseSettings, factor: float) -> RelativePoseSettings:
    return replace(
        pose,
        robust=replace(pose.robust, threshold_px=pose.robust.threshold_px * factor),
        max_threshold_px=pose.max_threshold_px * factor,
        huber_px=pose.huber_px * factor,
    )


def _normalized(cameras: Cameras, pixels: Float[Tensor, "N C 2"]) -> Float[Tensor, "N C 2"]:
    pinhole = cameras.to(dtype=torch.float64)
    return pinhole.normalized_from_pixels(pixels.transpose(0, 1)).transpose(0, 1)


def _best_tree(pairs: list[PairGeometry], count: int, names: Sequence[str]) -> list[PairGeometry]:
    """The pairs that join all cameras, best ones first, in an order in which each joins a new camera to those before.

    Pairs are ranked by their inliers and by the sine of the angle between their rays: opposite views determine the depth
    of what stands between them as badly as neighbouring ones do.
    """
    trusted = [pair for pair in pairs if not pair.weakness]
    worth = {id(p): p.quality.inliers * math.sin(math.radians(p.quality.median_angle_deg)) for p in trusted}
    ranked = sorted(trusted, key=lambda pair: -worth[id(pair)])
    tree, joined = ranked[:1], {camera for pair in ranked[:1] for camera in (pair.first, pair.second)}
    while len(joined) < count:
        following = next((p for p in ranked if (p.first in joined) != (p.second in joined)), None)
        if following is None:
            apart = [names[camera] for camera in range(count) if camera not in joined]
            weak = [f"{names[p.first]} - {names[p.second]}: {p.weakness}" for p in pairs if p.weakness]
            raise DataError(
                f"no reliable geometry joins {', '.join(apart) if tree else 'these cameras'} to the other cameras",
                got="; ".join(weak) or "too few matches",
                hint="Use more frames with more movement, or known extrinsics",
            )
        tree.append(following)
        joined |= {following.first, following.second}
    return tree


def _chained(observations: Observations, tree: list[PairGeometry]) -> tuple[Tensor, Tensor]:
    """Poses in one frame and unit: each pair's unit is found from points that an earlier camera of the chain sees too."""
    count = observations.normalized.shape[1]
    like = observations.normalized
    rotation = torch.eye(3, dtype=like.dtype, device=like.device).repeat(count, 1, 1)
    translation = torch.zeros(count, 3, dtype=like.dtype, device=like.device)
    rotation[tree[0].second], translation[tree[0].second] = tree[0].rotation, tree[0].translation
    placed = [tree[0].first, tree[0].second]
    for pair in tree[1:]:
        old, new, turn, shift = _from_placed(pair, placed)
        scale = _relative_scale(observations, (rotation, translation), placed, (old, new, turn, shift))
        rotation[new] = turn @ rotation[old]
        translation[new] = turn @ translation[old] + scale * shift
        placed.append(new)
    from_first = rotation[0].clone()
    translation = translation - (rotation @ from_first.T) @ translation[0]
    return rotation @ from_first.T, translation


def _from_placed(pair: PairGeometry, placed: list[int]) -> tuple[int, int, Tensor, Tensor]:
    """The pair as (placed camera, new camera, new_from_placed)."""
    if pair.first in placed:
        return pair.first, pair.second, pair.rotation, pair.translation
    return pair.second, pair.first, pair.rotation.T, -pair.rotation.T @ pair.translation


def _relative_scale(
    observations: Observations,
    poses: tuple[Tensor, Tensor],
    placed: list[int],
    joining: tuple[int, int, Tensor, Tensor],
) -> Tensor:
    """Median ratio of the depths, in the camera shared, of points found by the placed cameras and by the new pair."""
    old, new, turn, shift = joining
    matrices = torch.cat([poses[0], poses[1][..., None]], dim=-1)
    weights = torch.zeros_like(observations.weights)
    weights[:, placed] = observations.weights[:, placed]
    points = triangulate_dlt(matrices, observations.normalized, weights)
    depth_before = (points @ poses[0][old].T + poses[1][old])[:, 2]
    pair = torch.stack([torch.eye(3, 4).to(turn), torch.cat([turn, shift[:, None]], dim=1)])
    of_pair = observations.weights[:, [old, new]]
    of_pair = torch.where((of_pair > 0).all(dim=-1, keepdim=True), of_pair, 0.0)
    depth_of_pair = triangulate_dlt(pair, observations.normalized[:, [old, new]], of_pair)[:, 2]
    ratio = depth_before / depth_of_pair
    usable = (depth_before > 0) & (depth_of_pair > 0)
    return ratio[usable].median() if bool(usable.any()) else torch.ones_like(ratio[0])


def _adjusted(observations: Observations, rotation: Tensor, translation: Tensor, settings: RigSettings) -> Bundle:
    """Bundle adjustment, with the points and the observations that take part chosen anew between rounds."""
    bundle = Bundle(rotation, translation, rotation.new_zeros(0, 3), math.inf)
    for round_ in range(_ROUNDS):
        # The chained poses are rough at first: what they call an outlier need not be one.
        threshold = settings.inlier_px * 2.0 ** (_ROUNDS - 1 - round_)
        matrices = torch.cat([bundle.rotation, bundle.translation[..., None]], dim=-1)
        found = triangulate_robust(
            matrices,
            observations.normalized,
            observations.weights,
            observations.focal_px,
            TriangulationSettings(threshold_px=threshold, huber_px=settings.huber_px),
        )
        weights = torch.where(found.inliers, observations.weights, 0.0)[found.ok]
        some = Observations(observations.normalized[found.ok], weights, observations.focal_px)
        steps = BundleSettings(settings.huber_px)
        if round_ < _ROUNDS - 1:
            steps = replace(steps, least_gain=_ROUGH_GAIN)
        bundle = adjust_bundle(some, bundle.rotation, bundle.translation, found.points[found.ok], steps)
    return bundle
