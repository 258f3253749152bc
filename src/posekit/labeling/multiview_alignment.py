"""Key points, videos and calibration of one recording brought to agree: one camera, in px of its video, for each view.

Videos may have been scaled, framed or cropped after the calibration, key points may have been found before or after that, and
calibrations may have been turned wrongly. Each such question is answered by a setting or, where people matched between
views make it plain, by what lets their key points agree best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Float

from posekit.datasets.calibration_diagnosis import Axis, Reprojection, mirrored, mirrored_axes, reprojection
from posekit.datasets.calibration_images import ImageFit
from posekit.labeling.association import Association, AssociationSettings, associate
from posekit.records import Camera

KeypointPixels = Literal["video", "calibration"]
PIXELS: tuple[KeypointPixels, ...] = ("calibration", "video")

_MOSTLY = 0.95
_OUTSIDE = 0.02
_RECHECK_PX = 1.0

People = Float[np.ndarray, "_ J 3"]
Detections = list[list[People]]


@dataclass(frozen=True)
class AlignmentSettings:
    """What is known beforehand; "auto" is decided from the key points and reported."""

    keypoint_pixels: KeypointPixels | Literal["auto"] = "auto"
    principal_points: Literal["auto", "given"] = "auto"
    association: AssociationSettings = field(default_factory=AssociationSettings)
    seed: int = 0


@dataclass(frozen=True)
class Alignment:
    """Cameras and key points in px of the videos, who is who, and what was decided.

    `as_given` is the reprojection error of the first person with principal points as the calibration has them, `error` with
    those that were used.
    """

    cameras: list[Camera]
    detections: Detections
    association: Association
    fits: list[ImageFit]
    keypoint_pixels: KeypointPixels
    axes: list[Axis]
    as_given: Reprojection
    error: Reprojection
    alternatives: dict[str, float]


@dataclass(frozen=True)
class _Hypothesis:
    fits: list[ImageFit]
    pixels: KeypointPixels

    @property
    def name(self) -> str:
        changed = sorted({fit.placement for fit in self.fits if fit.placement != "same"})
        return f"{'/'.join(changed)}, key points in px of the {self.pixels}"


def align(
    detections: Detections,
    cameras: Sequence[Camera],
    candidates: Sequence[Sequence[ImageFit]],
    sizes: Sequence[tuple[int, int]],
    joints: int,
    settings: AlignmentSettings,
) -> Alignment:
    """Matches people between views and settles how videos, key points and calibration belong together.

    `detections` are as found in the files, by camera and frame; `candidates` the ways in which each calibrated picture may lie
    in its video, `sizes` those of the videos (width, height).
    """
    results = []
    for hypothesis in _hypotheses(detections, cameras, candidates, sizes, settings):
        results.append(_aligned(detections, cameras, hypothesis, sizes, joints, settings))
    best = max(_views_of_first(result) for result in results)
    believable = [result for result in results if _views_of_first(result) >= _MOSTLY * best]
    chosen = min(believable, key=lambda result: np.nan_to_num(result.error.median_px, nan=np.inf))
    tried = {
        _Hypothesis(result.fits, result.keypoint_pixels).name: result.error.median_px
        for result in results
        if len(results) > 1
    }
    return Alignment(**{**chosen.__dict__, "alternatives": tried})


def person_keypoints(detections: Detections, members: np.ndarray, joints: int) -> Float[np.ndarray, "T C J 3"]:
    """The key points of one person (frames x cameras of `members`); zeros where the person was not found."""
    frames, cameras = members.shape
    keypoints = np.zeros((frames, cameras, joints, 3))
    for t, camera in zip(*np.nonzero(members >= 0), strict=True):
        keypoints[t, camera] = detections[camera][t][members[t, camera]]
    return keypoints


def _hypotheses(
    detections: Detections,
    cameras: Sequence[Camera],
    candidates: Sequence[Sequence[ImageFit]],
    sizes: Sequence[tuple[int, int]],
    settings: AlignmentSettings,
) -> list[_Hypothesis]:
    posed = all(camera.posed for camera in cameras)
    most = max(len(options) for options in candidates)
    fits = [[options[min(i, len(options) - 1)] for options in candidates] for i in range(most if posed else 1)]
    pixels: Sequence[KeypointPixels] = PIXELS
    if all(fit.placement == "same" for fit in fits[0]):
        pixels = ("video",)
    elif settings.keypoint_pixels != "auto":
        pixels = (settings.keypoint_pixels,)
    elif _reach_outside(detections, sizes):
        pixels = ("calibration",)
    elif not posed:
        pixels = ("video",)
    return [_Hypothesis(fit, choice) for fit, choice in product(fits, pixels)]


def _reach_outside(detections: Detections, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether key points lie outside the frames of their videos."""
    for frames, size in zip(detections, sizes, strict=True):
        seen = [people[people[..., 2] > 0][:, :2] for people in frames if len(people)]
        if seen and (np.concatenate(seen) > np.array(size) * (1 + _OUTSIDE)).any():
            return True
    return False


def _aligned(
    detections: Detections,
    cameras: Sequence[Camera],
    hypothesis: _Hypothesis,
    sizes: Sequence[tuple[int, int]],
    joints: int,
    settings: AlignmentSettings,
) -> Alignment:
    moved = [
        [_in_video(people, fit) if hypothesis.pixels == "calibration" else people for people in frames]
        for frames, fit in zip(detections, hypothesis.fits, strict=True)
    ]
    fitted = _fitted(cameras, hypothesis.fits, sizes)
    posed = all(camera.posed for camera in cameras)
    association = associate(moved, fitted, joints, settings.association, seed=settings.seed)
    axes: list[Axis] = [""] * len(cameras)
    error = as_given = Reprojection(float("nan"), (float("nan"),) * len(cameras), 0)
    if posed and len(association.members):
        keypoints = person_keypoints(moved, association.members[0], joints).transpose(0, 2, 1, 3)
        points = keypoints.reshape(-1, len(cameras), 3)
        error = as_given = reprojection(fitted, points)
        if settings.principal_points == "auto" and as_given.median_px > _RECHECK_PX:
            # The question is about the calibrated picture, so it is asked there.
            calibrated = points.copy()
            for index, fit in enumerate(hypothesis.fits):
                calibrated[:, index, :2] = fit.from_video(points[:, index, :2])
            axes, _ = mirrored_axes(cameras, calibrated)
        if any(axes):
            fitted = _fitted(mirrored(cameras, axes), hypothesis.fits, sizes)
            association = associate(moved, fitted, joints, settings.association, seed=settings.seed)
            again = person_keypoints(moved, association.members[0], joints).transpose(0, 2, 1, 3)
            error = reprojection(fitted, again.reshape(-1, len(cameras), 3))
    return Alignment(
        fitted, moved, association, hypothesis.fits, hypothesis.pixels, axes, as_given, error, alternatives={}
    )


def _fitted(cameras: Sequence[Camera], fits: Sequence[ImageFit], sizes: Sequence[tuple[int, int]]) -> list[Camera]:
    return [fit.camera(camera, *size) for camera, fit, size in zip(cameras, fits, sizes, strict=True)]


def _in_video(people: People, fit: ImageFit) -> People:
    """Detections moved from px of the calibrated picture; joints that were not detected stay zero."""
    moved = people.copy()
    moved[..., :2] = np.where(people[..., 2:] > 0, fit.to_video(people[..., :2]), 0.0)
    return moved


def _views_of_first(result: Alignment) -> int:
    return int((result.association.members[0] >= 0).sum()) if len(result.association.members) else 0
