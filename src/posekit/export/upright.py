"""Which way is up in a recording, and the turn that makes it the up axis of a file.

Calibrated worlds have an axis that points up, though files do not say which; worlds that are a camera's frame are tilted
as the camera was. People tell: most of the time their heads are above their feet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from posekit.geometry.conventions import OPENCV_FROM_OPENGL_CAMERA, Y_UP_FROM_Z_UP
from posekit.skeleton.skeleton import Skeleton

UpAxis = Literal["y", "z"]

_UPPER = (
    "head_top",
    "head",
    "smpl_head",
    "jaw",
    "nose",
    "neck",
    "smpl_neck",
    "thorax",
    "mid_shoulder",
    "left_shoulder",
)
_LOWER = (("left_ankle", "right_ankle"), ("left_knee", "right_knee"), ("left_hip", "right_hip"), ("pelvis",))
_LARGEST_TILT = 25.0
"""Degrees between people and the nearest axis beyond which no axis of the world counts as its vertical."""

_Y_UP_FROM: dict[str, np.ndarray] = {
    "+x": np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "-x": np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "+y": np.eye(3),
    "-y": OPENCV_FROM_OPENGL_CAMERA,
    "+z": Y_UP_FROM_Z_UP,
    "-z": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}


@dataclass(frozen=True)
class Upright:
    """``X_file = rotation @ X_world + translation``; `found` says in words what was taken for up."""

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    found: str

    def apply(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """World points in the axes of the file."""
        return points @ self.rotation.T + self.translation


def find_upright(points: Float[np.ndarray, "T J 3"], skeleton: Skeleton, up: UpAxis, *, camera_frame: bool) -> Upright:
    """The turn of a world into one with the given axis up, from the joints of people in it.

    With `camera_frame` the world is a camera's: it has no floor and no level, so that people are turned upright exactly
    and the lowest joint is put at height zero. Otherwise one of the world's own axes is taken and nothing is moved.
    """
    direction = _mean_direction(points, skeleton)
    guess = np.array([0.0, -1.0, 0.0]) if direction is None else direction
    axis, tilt = _nearest_axis(guess)
    rotation = _Y_UP_FROM[axis]
    level = camera_frame or tilt > _LARGEST_TILT
    if level:
        rotation = _shortest_turn(rotation @ guess, np.array([0.0, 1.0, 0.0])) @ rotation
    found = f"people stand along {np.round(guess, 2).tolist()}" if level else f"{axis} is up"
    translation = np.zeros(3)
    if level:
        heights = (points @ rotation.T)[..., 1]
        translation[1] = -np.nanmin(heights) if np.isfinite(heights).any() else 0.0
    if up == "z":
        rotation, translation = Y_UP_FROM_Z_UP.T @ rotation, Y_UP_FROM_Z_UP.T @ translation
    return Upright(rotation, translation, found if direction is not None else "nobody tells; -y is taken for up")


def _mean_direction(points: Float[np.ndarray, "T J 3"], skeleton: Skeleton) -> Float[np.ndarray, "3"] | None:
    top = next((name for name in _UPPER if name in skeleton), None)
    bottom = next((names for names in _LOWER if all(name in skeleton for name in names)), None)
    if top is None or bottom is None:
        return None
    along = points[:, skeleton.index(top)] - points[:, list(skeleton.indices(*bottom))].mean(axis=1)
    along = along[np.isfinite(along).all(axis=1)]
    total = along.sum(axis=0) if len(along) else np.zeros(3)
    length = np.linalg.norm(total)
    return total / length if length > 0 else None


def _nearest_axis(direction: Float[np.ndarray, "3"]) -> tuple[str, float]:
    index = int(np.argmax(np.abs(direction)))
    axis = f"{'+' if direction[index] > 0 else '-'}{'xyz'[index]}"
    return axis, float(np.degrees(np.arccos(np.clip(abs(direction[index]), -1.0, 1.0))))


def _shortest_turn(source: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation by the smallest angle between two unit vectors that are not opposite (Rodrigues)."""
    x, y, z = np.cross(source, target)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + source @ target)
