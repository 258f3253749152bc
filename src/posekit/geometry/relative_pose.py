"""The pose of one camera relative to another from matches between their images, intrinsics known, extrinsics not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posekit.errors import DataError
from posekit.geometry.epipolar import (
    SAMPLE,
    RobustSettings,
    cross_matrix,
    essential_from_fundamental,
    essential_from_pose,
    fundamental_from_essential,
    homogeneous,
    robust_fundamental,
    sampson_distance,
)
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.geometry.triangulation import triangulate_dlt

PoseSolver = Literal["f8", "e5"]

_REFINEMENT_STEPS = 50
_SELECTIONS = 8


@dataclass(frozen=True)
class RelativePoseSettings:
    """How a relative pose is found, and what makes it trustworthy.

    Solver "f8" goes through the fundamental matrix, "e5" (Nister 2004) finds the essential matrix from five matches and is
    less easily upset by points that are few or nearly planar. Where the matches are noisier than the threshold of
    `robust` allows for, it is raised to 2.5 standard deviations of what they turn out to be, but not beyond
    `max_threshold_px`; Huber's width grows with it. `min_spread` is the share of the image that the
    matches must span, horizontally and vertically, in both views; `max_homography_ratio` the share of inliers that a
    homography may explain; `min_in_front` the share of inliers that must lie in front of both cameras.
    """

    robust: RobustSettings = field(default_factory=RobustSettings)
    solver: PoseSolver = "f8"
    refine: bool = True
    max_threshold_px: float = 8.0
    huber_px: float = 3.0
    min_inliers: int = 50
    min_inlier_ratio: float = 0.5
    min_spread: float = 0.1
    max_homography_ratio: float = 0.8
    min_in_front: float = 0.9


@dataclass(frozen=True)
class PairQuality:
    """The figures that a relative pose is judged by."""

    matches: int
    inliers: int
    spread: float
    homography_ratio: float
    in_front: float
    median_error_px: float
    threshold_px: float
    median_angle_deg: float

    @property
    def inlier_ratio(self) -> float:
        return self.inliers / max(self.matches, 1)

    def figures(self) -> dict[str, float]:
        """All figures by name."""
        return {name: float(value) for name, value in asdict(self).items()} | {"inlier_ratio": self.inlier_ratio}


class RelativePose(NamedTuple):
    """second_from_first, with a translation of length one, the matches it rests on and how good it is."""

    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]
    inliers: Bool[Tensor, "N"]
    quality: PairQuality


class ImagePair(NamedTuple):
    """Undistorted pixels of the same points in two images; sizes are (width, height)."""

    first: Float[Tensor, "N 2"]
    second: Float[Tensor, "N 2"]
    first_intrinsics: Float[Tensor, "3 3"]
    second_intrinsics: Float[Tensor, "3 3"]
    first_size: Float[Tensor, "2"]
    second_size: Float[Tensor, "2"]
    name: str

    def normalized(self) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N 2"]]:
        """Coordinates x/z, y/z in the cameras' frames."""
        first = homogeneous(self.first) @ torch.linalg.inv(self.first_intrinsics).mT
        second = homogeneous(self.second) @ torch.linalg.inv(self.second_intrinsics).mT
        return first[:, :2], second[:, :2]

    def fundamental(self, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
        """F of a pose, for these pixels."""
        return fundamental_from_essential(
            essential_from_pose(rotation, translation), self.first_intrinsics, self.second_intrinsics
        )


def estimate_relative_pose(
    pair: ImagePair, generator: torch.Generator, settings: RelativePoseSettings | None = None
) -> RelativePose:
    """The pose of the second camera relative to the first; DataError, naming pair and figure, if it cannot be trusted."""
    pose = relative_pose(pair, generator, settings)
    problem = find_weakness(pose.quality, settings or RelativePoseSettings())
    if problem is not None:
        figure, got, accepted = problem
        raise DataError(
            f"cameras {pair.name}: no reliable relative pose, {figure} is out of bounds",
            got=got,
            accepted=accepted,
            hint="Use more frames with more movement, another pair of cameras, or known extrinsics",
        )
    return pose


def relative_pose(
    pair: ImagePair, generator: torch.Generator, settings: RelativePoseSettings | None = None
) -> RelativePose:
    """As `estimate_relative_pose`, with nothing refused but a set of fewer than eight matches."""
    settings = settings or RelativePoseSettings()
    pose = _pose_at_threshold(pair, generator, settings)
    wanted = min(2.5 * 1.4826 * pose.quality.median_error_px, settings.max_threshold_px)
    if wanted > 1.1 * settings.robust.threshold_px:
        widened = replace(settings.robust, threshold_px=wanted)
        wider = settings.huber_px * wanted / settings.robust.threshold_px
        pose = _pose_at_threshold(pair, generator, replace(settings, robust=widened, huber_px=wider))
    return pose


def judge_pose(
    pair: ImagePair, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"], settings: RelativePoseSettings
) -> PairQuality:
    """How well a pose that is known otherwise explains the matches; inliers are those within the threshold."""
    threshold = settings.robust.threshold_px
    distances = sampson_distance(pair.fundamental(rotation, translation), pair.first, pair.second).abs()
    return _quality(pair, rotation, translation, distances <= threshold, threshold)


def _pose_at_threshold(pair: ImagePair, generator: torch.Generator, settings: RelativePoseSettings) -> RelativePose:
    first, second = pair.normalized()
    if settings.solver == "e5" and len(first) >= SAMPLE:
        essential, inliers = _five_point(pair, settings)
    else:
        found = robust_fundamental(pair.first, pair.second, generator, settings.robust)
        essential = essential_from_fundamental(found.matrix, pair.first_intrinsics, pair.second_intrinsics)
        inliers = found.inliers
    rotation, translation = decompose_essential(essential, first[inliers], second[inliers])
    if settings.refine and int(inliers.sum()) >= 5:
        rotation, translation, inliers = _refined_until_settled(pair, rotation, translation, inliers, settings)
    return RelativePose(
        rotation, translation, inliers, _quality(pair, rotation, translation, inliers, settings.robust.threshold_px)
    )


def find_weakness(quality: PairQuality, settings: RelativePoseSettings) -> tuple[str, str, str] | None:
    """The first figure that is out of bounds as (name, value, what is accepted), or None."""
    bounds = (
        ("the number of inliers", quality.inliers, settings.min_inliers, True),
        ("the share of inliers", quality.inlier_ratio, settings.min_inlier_ratio, True),
        ("the spread of the points over the image", quality.spread, settings.min_spread, True),
        ("the share of inliers on one plane", quality.homography_ratio, settings.max_homography_ratio, False),
        ("the share of points in front of both cameras", quality.in_front, settings.min_in_front, True),
    )
    for figure, value, bound, at_least in bounds:
        if (value < bound) if at_least else (value > bound):
            return figure, f"{value:.3g}", f"{'at least' if at_least else 'at most'} {bound:g}"
    return None


def decompose_essential(
    essential: Float[Tensor, "3 3"], first: Float[Tensor, "N 2"], second: Float[Tensor, "N 2"]
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """The one of the four poses that puts most matches (normalised coordinates) in front of both cameras.

    Hartley and Zisserman 2004, section 9.6.2.
    """
    u, _, vh = torch.linalg.svd(essential)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=u.dtype, device=u.device)
    rotations = [rotation * torch.linalg.det(rotation).sign() for rotation in (u @ turn @ vh, u @ turn.mT @ vh)]
    poses = [(rotation, sign * u[:, 2]) for rotation in rotations for sign in (1.0, -1.0)]
    votes = [int(in_front_of_both(rotation, t, first, second).sum()) for rotation, t in poses]
    return poses[votes.index(max(votes))]


def in_front_of_both(
    rotation: Float[Tensor, "3 3"],
    translation: Float[Tensor, "3"],
    first: Float[Tensor, "N 2"],
    second: Float[Tensor, "N 2"],
) -> Bool[Tensor, "N"]:
    """Which matches (normalised coordinates) triangulate to a point in front of both cameras."""
    points = triangulate_dlt(_two_cameras(rotation, translation), torch.stack([first, second], dim=1))
    return (points[:, 2] > 0) & ((points @ rotation.T + translation)[:, 2] > 0)


def refine_relative_pose(
    pair: ImagePair,
    rotation: Float[Tensor, "3 3"],
    translation: Float[Tensor, "3"],
    *,
    huber_px: float,
    steps: int = _REFINEMENT_STEPS,
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Least Sampson error of all matches under Huber's loss, over the five degrees of freedom of a relative pose."""
    damping, cost = 1e-4, torch.tensor(torch.inf)
    residuals, jacobian, cost = _sampson_system(pair, rotation, translation, huber_px)
    for _ in range(steps):
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ residuals
        damped = normal + damping * torch.diag(torch.diagonal(normal).clamp_min(1e-12))
        step = torch.linalg.solve(damped, -gradient)
        trial = (rotation @ matrix_from_axis_angle(step[:3]), _moved_on_sphere(translation, step[3:]))
        trial_residuals, trial_jacobian, trial_cost = _sampson_system(pair, *trial, huber_px)
        if trial_cost < cost:
            gained = float(cost - trial_cost)
            (rotation, translation), damping = trial, max(damping / 10, 1e-12)
            residuals, jacobian, cost = trial_residuals, trial_jacobian, trial_cost
            if gained <= 1e-12 * float(cost):
                break
        else:
            damping *= 10
            if damping > 1e8:
                break
    return rotation, translation


def _refined_until_settled(
    pair: ImagePair, rotation: Tensor, translation: Tensor, inliers: Tensor, settings: RelativePoseSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Refinement, with the inliers chosen anew in between: those of the first guess may be few."""
    for _ in range(_SELECTIONS):
        rotation, translation = refine_relative_pose(
            _of_matches(pair, inliers), rotation, translation, huber_px=settings.huber_px
        )
        distances = sampson_distance(pair.fundamental(rotation, translation), pair.first, pair.second).abs()
        closer = distances <= settings.robust.threshold_px
        if int(closer.sum()) < SAMPLE or torch.equal(closer, inliers):
            break
        inliers = closer
    return rotation, translation, inliers


def _five_point(pair: ImagePair, settings: RelativePoseSettings) -> tuple[Tensor, Tensor]:
    first, second = pair.normalized()
    focal = torch.diagonal(pair.first_intrinsics + pair.second_intrinsics)[:2].mean() / 2
    essential, _ = cv2.findEssentialMat(
        first.cpu().numpy(),
        second.cpu().numpy(),
        np.eye(3),
        method=cv2.RANSAC if settings.robust.method == "ransac" else cv2.LMEDS,
        prob=settings.robust.confidence,
        threshold=settings.robust.threshold_px / float(focal),
    )
    if essential is None:
        raise DataError(f"cameras {pair.name}: no essential matrix fits the matches", got=f"{len(first)} matches")
    matrix = torch.from_numpy(essential[:3]).to(first)
    fundamental = fundamental_from_essential(matrix, pair.first_intrinsics, pair.second_intrinsics)
    return matrix, sampson_distance(fundamental, pair.first, pair.second).abs() <= settings.robust.threshold_px


def _sampson_system(
    pair: ImagePair, rotation: Tensor, translation: Tensor, huber_px: float
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 5"], Float[Tensor, ""]]:
    """Residuals and Jacobian, both times the square root of Huber's weight, and the cost."""
    essential = essential_from_pose(rotation, translation)
    turns = essential @ cross_matrix(torch.eye(3, dtype=rotation.dtype, device=rotation.device))
    shifts = essential_from_pose(rotation.expand(2, 3, 3), _tangents(translation))
    slopes = fundamental_from_essential(torch.cat([turns, shifts]), pair.first_intrinsics, pair.second_intrinsics)
    F = fundamental_from_essential(essential, pair.first_intrinsics, pair.second_intrinsics)
    x, y = homogeneous(pair.first), homogeneous(pair.second)
    line_second, line_first = (x @ F.T)[:, :2], (y @ F)[:, :2]
    error = ((x @ F.T) * y).sum(dim=-1)
    square = line_second.square().sum(dim=-1) + line_first.square().sum(dim=-1)
    slope_second, slope_first = x @ slopes.mT, (y @ slopes)[..., :2]
    error_slope = (slope_second * y).sum(dim=-1)
    square_slope = 2 * ((slope_second[..., :2] * line_second).sum(dim=-1) + (slope_first * line_first).sum(dim=-1))
    residuals = error / square.sqrt()
    jacobian = (error_slope / square.sqrt() - 0.5 * error * square_slope / square**1.5).T
    size = residuals.abs()
    weight = (huber_px / size.clamp_min(huber_px)).sqrt()
    cost = torch.where(size <= huber_px, size.square(), huber_px * (2 * size - huber_px)).sum()
    return residuals * weight, jacobian * weight[:, None], cost


def _tangents(direction: Float[Tensor, "3"]) -> Float[Tensor, "2 3"]:
    """Two unit vectors that are perpendicular to a direction and to each other."""
    axis = torch.zeros_like(direction)
    axis[direction.abs().argmin()] = 1.0
    across = torch.nn.functional.normalize(torch.linalg.cross(direction, axis), dim=-1)
    return torch.stack([across, torch.linalg.cross(direction, across)])


def _moved_on_sphere(direction: Float[Tensor, "3"], step: Float[Tensor, "2"]) -> Float[Tensor, "3"]:
    return torch.nn.functional.normalize(direction + step @ _tangents(direction), dim=-1)


def _quality(
    pair: ImagePair, rotation: Tensor, translation: Tensor, inliers: Tensor, threshold_px: float
) -> PairQuality:
    first, second = (points[inliers] for points in pair.normalized())
    distances = sampson_distance(pair.fundamental(rotation, translation), pair.first, pair.second).abs()
    in_front = in_front_of_both(rotation, translation, first, second)
    turned = torch.nn.functional.normalize(homogeneous(first) @ rotation.T, dim=-1)
    cosines = (turned * torch.nn.functional.normalize(homogeneous(second), dim=-1)).sum(dim=-1).clamp(-1, 1)
    return PairQuality(
        matches=len(inliers),
        inliers=int(inliers.sum()),
        spread=min(_spread(pair.first[inliers], pair.first_size), _spread(pair.second[inliers], pair.second_size)),
        homography_ratio=_homography_inliers(_of_matches(pair, inliers), threshold_px) / max(int(inliers.sum()), 1),
        in_front=float(in_front.double().mean()) if len(in_front) else 0.0,
        median_error_px=float(distances.median()),
        threshold_px=threshold_px,
        median_angle_deg=float(torch.rad2deg(torch.arccos(cosines)).median()) if len(cosines) else 0.0,
    )


def _spread(points: Float[Tensor, "N 2"], size: Float[Tensor, "2"]) -> float:
    """The smaller share of width and height that the central 95 % of the points span."""
    if len(points) < 2:
        return 0.0
    low, high = torch.quantile(points, 0.025, dim=0), torch.quantile(points, 0.975, dim=0)
    return float(((high - low) / size).min())


def _homography_inliers(pair: ImagePair, threshold_px: float) -> int:
    if len(pair.first) < 4:
        return len(pair.first)
    _, mask = cv2.findHomography(pair.first.cpu().numpy(), pair.second.cpu().numpy(), cv2.RANSAC, threshold_px)
    return 0 if mask is None else int(mask.sum())


def _of_matches(pair: ImagePair, which: Bool[Tensor, "N"]) -> ImagePair:
    return pair._replace(first=pair.first[which], second=pair.second[which])


def _two_cameras(rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"]) -> Float[Tensor, "2 3 4"]:
    second = torch.cat([rotation, translation[:, None]], dim=1)
    return torch.stack([torch.eye(3, 4, dtype=second.dtype, device=second.device), second])
