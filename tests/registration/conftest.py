"""Synthetic bodies with exact truth, seen by four cameras around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from posekit.body.landmarks import regressor
from posekit.body.model import BodyModel
from posekit.body.segment_scaled import SegmentScaledBody
from posekit.body.smpl_file import BodyData, load_body
from posekit.geometry.cameras import Cameras
from posekit.geometry.rotations import matrix_from_axis_angle
from posekit.registration.targets import Targets
from posekit.skeleton.catalog import H36M17

FOCAL, SIZE = 1145.0, 1000.0


@dataclass(frozen=True)
class Scene:
    """True bodies (world: y up) and the labels made from them."""

    vertices: Tensor
    joints: Tensor
    cameras: Cameras
    targets: Targets


def four_cameras() -> Cameras:
    """Cameras at 4.5 m around the origin, 1.2 m above it, looking at it."""
    rotations, translations = [], []
    for yaw in (0.6, 2.2, 3.7, 5.3):
        centre = np.array([4.5 * np.sin(yaw), 1.2, 4.5 * np.cos(yaw)])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        rotations.append(rotation)
        translations.append(-rotation @ centre)
    K = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
    return Cameras.checked(np.tile(K, (4, 1, 1)), np.stack(rotations), np.stack(translations), image_size=[SIZE, SIZE])


def random_poses(count: int, seed: int) -> np.ndarray:
    """Local axis-angle poses: relaxed limbs that bend the natural way, and any yaw."""
    random = np.random.default_rng(seed)
    pose = random.normal(0.0, 0.12, (count, 24, 3))
    pose[:, 0] = 0.0
    pose[:, 0, 1] = random.uniform(-np.pi, np.pi, count)
    pose[:, [1, 2], 0] -= random.uniform(-0.2, 1.0, (count, 2))
    pose[:, [4, 5], 0] += random.uniform(0.0, 1.2, (count, 2))
    pose[:, 16, 2] -= random.uniform(0.0, 1.3, count)
    pose[:, 17, 2] += random.uniform(0.0, 1.3, count)
    pose[:, 18, 1] -= random.uniform(0.0, 1.6, count)
    pose[:, 19, 1] += random.uniform(0.0, 1.6, count)
    return pose


def motion_poses(folder: Path, count: int, seed: int) -> np.ndarray:
    """Poses of real motion, at random moments."""
    random = np.random.default_rng(seed)
    clips = sorted(folder.glob("*.npz"))
    poses = []
    for clip in random.choice(len(clips), count):
        with np.load(clips[clip]) as archive:
            frames = archive["poses"]
        poses.append(frames[random.integers(len(frames)), :72].reshape(24, 3))
    return np.stack(poses).astype(np.float64)


def make_scene(
    body: BodyData,
    pose: np.ndarray,
    *,
    points: int = 120,
    noise_px: float = 1.0,
    noise_m: float = 0.005,
    seed: int = 0,
) -> Scene:
    """Labels of posed bodies of random shapes: visible surface points and joints in four views, and 3D joints."""
    random = np.random.default_rng(seed)
    count = len(pose)
    model = BodyModel(body)
    betas = torch.from_numpy(random.normal(0.0, 1.0, (count, model.shape_count))).float()
    shift = torch.from_numpy(random.uniform(-0.3, 0.3, (count, 3))).float()
    with torch.no_grad():
        vertices = model(betas, torch.from_numpy(pose).float(), shift).vertices
    joints = torch.from_numpy(regressor(body, H36M17)).float() @ vertices
    cameras = four_cameras().to(dtype=torch.float32)
    pixels = cameras.project(vertices[:, None])
    chosen = _visible(body, vertices, pixels, cameras, points, random)
    ids = torch.from_numpy(chosen)

    def noisy(values: Tensor, deviation: float) -> Tensor:
        return values + torch.from_numpy(random.normal(0.0, 1.0, values.shape)).float() * deviation

    dense = noisy(torch.gather(pixels, 2, ids[..., None].expand(*ids.shape, 2)), noise_px)
    keypoints = noisy(cameras.project(joints[:, None]), noise_px)
    low, high = pixels.amin(2), pixels.amax(2)
    centre, half = (low + high) / 2, 0.6 * (high - low).amax(-1, keepdim=True)
    unit_from_px = torch.zeros(count, 4, 3, 3)
    unit_from_px[..., 0, 0] = unit_from_px[..., 1, 1] = (1.0 / half)[..., 0]
    unit_from_px[..., :2, 2] = -centre / half
    unit_from_px[..., 2, 2] = 1.0
    targets = Targets(
        projections=unit_from_px @ cameras.projection_matrices(),
        keypoints=(keypoints - centre[:, :, None]) / half[:, :, None],
        keypoint_weights=torch.ones(count, 4, 17),
        joints=noisy(joints, noise_m),
        joint_weights=torch.ones(count, 17, 3),
        points=(dense - centre[:, :, None]) / half[:, :, None],
        point_weights=torch.ones(count, 4, points),
        vertices=ids,
        linked=torch.zeros(count, dtype=torch.bool),
        weak=False,
    )
    return Scene(vertices, joints, cameras, targets)


def _visible(
    body: BodyData, vertices: Tensor, pixels: Tensor, cameras: Cameras, points: int, random: np.random.Generator
) -> np.ndarray:
    """Vertices whose normals face the camera and that nothing near them on the image hides."""
    faces = torch.from_numpy(body.faces)
    corners = vertices[:, faces]
    normals = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    vertex_normals = torch.zeros_like(vertices)
    for corner in range(3):
        vertex_normals.index_add_(1, faces[:, corner], normals)
    towards = cameras.centers()[None, :, None] - vertices[:, None]
    cosine = torch.nn.functional.cosine_similarity(vertex_normals[:, None], towards, dim=-1).numpy()
    depth = cameras.camera_from_world(vertices[:, None])[..., 2].numpy()
    cells = np.floor(pixels.numpy() / 8.0).astype(int)
    chosen = np.empty((*cosine.shape[:2], points), np.int64)
    for b, c in np.ndindex(*cosine.shape[:2]):
        _, cell = np.unique(cells[b, c], axis=0, return_inverse=True)
        nearest = np.full(cell.max() + 1, np.inf)
        np.minimum.at(nearest, cell, depth[b, c])
        seen = np.flatnonzero((cosine[b, c] > 0.2) & (depth[b, c] < nearest[cell] + 0.05))
        chosen[b, c] = random.choice(seen, points, replace=False)
    return chosen


@pytest.fixture(scope="session")
def body_data() -> BodyData:
    return load_body()


@pytest.fixture(scope="session")
def body(body_data: BodyData) -> SegmentScaledBody:
    return SegmentScaledBody(body_data)


SceneMaker = Callable[..., Scene]


@pytest.fixture(scope="session")
def scene_maker(body_data: BodyData) -> SceneMaker:
    """Makes a scene of `count` random bodies."""

    def make(count: int, *, seed: int = 0, **options: float) -> Scene:
        return make_scene(body_data, random_poses(count, seed), seed=seed, **options)

    return make


__all__ = ["Scene", "make_scene", "matrix_from_axis_angle", "motion_poses", "random_poses"]
