"""How well a calibration agrees with matched key points, and what that says about pictures changed after it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from posekit.camera_stack import stack_cameras
from posekit.datasets.calibration_images import mirrored_principal_point
from posekit.geometry.triangulation import TriangulationSettings, triangulate
from posekit.records import Camera

Axis = Literal["", "x", "y"]
AXES: tuple[Axis, ...] = ("", "x", "y")

_MOST_POINTS = 1200
_FEWEST_POINTS = 100
_CONFIDENT = 0.3
_TRIANGULATION = TriangulationSettings(threshold_px=60.0, refinement_steps=3)

CONVINCING = 0.75
"""Mirroring must bring the median error below this share of what it was to be believed."""


@dataclass(frozen=True)
class Reprojection:
    """Distance between key points and the projections of the points triangulated from them, px."""

    median_px: float
    per_camera_px: tuple[float, ...]
    points: int


def reprojection(
    cameras: Sequence[Camera], keypoints: Float[np.ndarray, "N C 3"], most: int = _MOST_POINTS
) -> Reprojection:
    """The reprojection error of posed cameras on matched key points (x, y, confidence; 0 or NaN where there is none)."""
    usable = np.isfinite(keypoints).all(axis=-1) & (np.nan_to_num(keypoints[..., 2]) > _CONFIDENT)
    chosen = np.flatnonzero(usable.sum(axis=1) > 2)
    if len(chosen) < _FEWEST_POINTS:
        chosen = np.flatnonzero(usable.sum(axis=1) > 1)
    # Evenly spread, so that the result does not depend on chance.
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(int)] if len(chosen) else chosen
    if not len(chosen):
        return Reprojection(float("nan"), (float("nan"),) * len(cameras), 0)
    pixels = torch.from_numpy(np.where(usable[..., None], keypoints[..., :2], np.nan)[chosen])
    confidence = torch.from_numpy(np.where(usable, keypoints[..., 2], 0.0)[chosen])
    errors = triangulate(stack_cameras(cameras), pixels, confidence, _TRIANGULATION).error_px.numpy()
    per_camera = [column[np.isfinite(column)] for column in errors.T]
    pooled = errors[np.isfinite(errors)]
    return Reprojection(
        float(np.median(pooled)) if len(pooled) else float("nan"),
        tuple(float(np.median(column)) if len(column) else float("nan") for column in per_camera),
        len(chosen),
    )


def mirrored_axes(cameras: Sequence[Camera], keypoints: Float[np.ndarray, "N C 3"]) -> tuple[list[Axis], Reprojection]:
    """Which coordinate of each camera's principal point is mirrored, judged by reprojection; all empty where none is.

    Pictures that stand upright come from cameras turned on their side, each one way or the other, and calibrations that were
    turned with them sometimes had the coordinates of the principal point swapped but not mirrored. Each camera in turn takes
    the axis that lowers the median error of all, until none changes; the outcome counts only when it is convincing.
    """
    given = reprojection(cameras, keypoints)
    if given.points < _FEWEST_POINTS:
        return [""] * len(cameras), given
    best_axes: list[Axis] = [""] * len(cameras)
    best = given
    for start in AXES:
        axes: list[Axis] = [start] * len(cameras)
        current = reprojection(mirrored(cameras, axes), keypoints)
        changed = True
        while changed:
            changed = False
            for index in range(len(cameras)):
                for axis in AXES:
                    trial = [*axes[:index], axis, *axes[index + 1 :]]
                    if axis == axes[index]:
                        continue
                    found = reprojection(mirrored(cameras, trial), keypoints)
                    if found.median_px < current.median_px:
                        axes, current, changed = trial, found, True
        if current.median_px < best.median_px:
            best_axes, best = axes, current
    if best.median_px < CONVINCING * given.median_px:
        return best_axes, best
    return [""] * len(cameras), given


def mirrored(cameras: Sequence[Camera], axes: Sequence[Axis]) -> list[Camera]:
    """The cameras with their principal points mirrored."""
    return [mirrored_principal_point(camera, axis) for camera, axis in zip(cameras, axes, strict=True)]
