"""Detections of several cameras as arrays, and how far two detections of different views are from one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from posekit.camera_stack import stack_cameras
from posekit.geometry.epipolar import essential_from_pose, fundamental_from_essential
from posekit.records import Camera

FEWEST_JOINTS = 5
"""Joints that two detections must share before their distance means anything."""

REFERENCE_WIDTH = 1000.0
"""Distances are given in px at this image width, so that one threshold serves all resolutions."""

_FRAMES_AT_ONCE = 512


@dataclass(frozen=True)
class View:
    """The detections of one camera: frames x people (padded) x joints.

    `pixels` are free of lens distortion, scaled to an image width of 1000 px; NaN where a joint is missing or not certain
    enough. `confidence` is 0 there. `present` says which of the padded detections can be used at all.
    """

    pixels: Float[np.ndarray, "T D J 2"]
    confidence: Float[np.ndarray, "T D J"]
    present: Bool[np.ndarray, "T D"]

    def sizes(self) -> Float[np.ndarray, "T D"]:
        """Diagonal of the box of each detection; NaN where there is none."""
        span = np.full((*self.present.shape, 2), np.nan)
        used = self.pixels[self.present]
        span[self.present] = np.nanmax(used, axis=1) - np.nanmin(used, axis=1)
        return np.linalg.norm(span, axis=-1)


def make_view(frames: Sequence[Float[np.ndarray, "_ J 3"]], camera: Camera, joints: int, min_confidence: float) -> View:
    """The detections of one camera as a `View`; those with fewer than five certain joints are not usable."""
    most = max((len(people) for people in frames), default=0)
    keypoints = np.zeros((len(frames), most, joints, 3))
    for t, people in enumerate(frames):
        keypoints[t, : len(people)] = people
    certain = (keypoints[..., 2] > 0) & (keypoints[..., 2] >= min_confidence)
    pixels = np.full((*certain.shape, 2), np.nan)
    if certain.any():
        single = stack_cameras([camera])
        flat = torch.from_numpy(keypoints[certain][:, :2])
        pixels[certain] = single.undistort_pixels(flat)[0].numpy() * (REFERENCE_WIDTH / camera.width)
    certain &= np.isfinite(pixels).all(axis=-1)
    confidence = np.where(certain, keypoints[..., 2], 0.0)
    return View(pixels, confidence, certain.sum(axis=-1) >= FEWEST_JOINTS)


def scaled_intrinsics(camera: Camera) -> Float[np.ndarray, "3 3"]:
    """The camera matrix for the pixels of a `View`."""
    return np.diag([REFERENCE_WIDTH / camera.width, REFERENCE_WIDTH / camera.width, 1.0]) @ camera.intrinsics


def pair_distances(first: View, second: View, cameras: tuple[Camera, Camera]) -> Float[np.ndarray, "T D E"]:
    """Distance (px) of every detection of one view from every one of the other, frame by frame, for posed cameras.

    The median over joints of the symmetric distance from epipolar lines, which a few wrong joints do not disturb. NaN where
    two detections share too few joints; infinite where the person would be behind a camera.
    """
    rotation = cameras[1].rotation @ cameras[0].rotation.T
    translation = cameras[1].translation - rotation @ cameras[0].translation
    K = [scaled_intrinsics(camera) for camera in cameras]
    essential = essential_from_pose(torch.from_numpy(rotation), torch.from_numpy(translation))
    fundamental = fundamental_from_essential(essential, torch.from_numpy(K[0]), torch.from_numpy(K[1])).numpy()
    frames = len(first.present)
    distances = np.empty((frames, first.present.shape[1], second.present.shape[1]))
    for begin in range(0, frames, _FRAMES_AT_ONCE):
        part = slice(begin, begin + _FRAMES_AT_ONCE)
        x = _homogeneous(first.pixels[part])[:, :, None]
        y = _homogeneous(second.pixels[part])[:, None]
        away = _line_distance(x, y, fundamental)
        rays = x @ np.linalg.inv(K[0]).T @ rotation.T, y @ np.linalg.inv(K[1]).T
        behind = _share_behind(*rays, translation) > 0.5
        enough = np.isfinite(away).sum(axis=-1) >= FEWEST_JOINTS
        median = _median(away)
        distances[part] = np.where(enough, np.where(behind, np.inf, median), np.nan)
    return distances


def _line_distance(x: np.ndarray, y: np.ndarray, fundamental: np.ndarray) -> Float[np.ndarray, "T D E J"]:
    """Mean of the distances of each point from the line of the other."""
    line_second, line_first = x @ fundamental.T, y @ fundamental
    error = np.abs((line_second * y).sum(axis=-1))
    inverse = 1 / np.linalg.norm(line_second[..., :2], axis=-1) + 1 / np.linalg.norm(line_first[..., :2], axis=-1)
    return error * inverse / 2


def _share_behind(turned: np.ndarray, second: np.ndarray, translation: np.ndarray) -> Float[np.ndarray, "T D E"]:
    """Share of joints whose rays meet behind one of the cameras; `turned` are rays of the first in the second's frame."""
    normal = np.cross(turned, second)
    depth_first = (np.cross(second, translation) * normal).sum(axis=-1)
    depth_second = (np.cross(turned, translation) * normal).sum(axis=-1)
    known = np.isfinite(depth_first)
    behind = known & ((depth_first < 0) | (depth_second < 0))
    return behind.sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)


def _median(values: Float[np.ndarray, "*batch J"]) -> Float[np.ndarray, "*batch"]:
    """Median without NaN; NaN where there is nothing, without a warning."""
    ordered = np.sort(values, axis=-1)  # NaN go last
    count = np.isfinite(values).sum(axis=-1)
    low, high = np.maximum((count - 1) // 2, 0), np.maximum(count // 2, 0)
    picked = [np.take_along_axis(ordered, index[..., None], axis=-1)[..., 0] for index in (low, high)]
    return np.asarray((picked[0] + picked[1]) / 2)


def _homogeneous(pixels: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 3"]:
    return np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
