from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.camera_stack import stack_cameras
from posekit.records import Camera
from posekit.skeleton.catalog import MPII16
from posekit.stages.pose_metres import by_bone_length, by_root_depth

ROOT = MPII16.index("pelvis")
LENS = Camera(
    "a", 1000, 1000, np.array([[1100.0, 0.0, 500.0], [0.0, 1150.0, 510.0], [0.0, 0.0, 1.0]]), "human36m",
    (-0.2, 0.25, -0.003, -0.0014, -0.001),
)  # fmt: skip
PLAIN = Camera("b", 640, 480, np.array([[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]]))


def poses(count: int = 5) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.asarray(random.uniform(-0.8, 0.8, (count, len(MPII16), 3)))


def bones_of(points: np.ndarray) -> np.ndarray:
    return sum(np.linalg.norm(points[:, child] - points[:, parent], axis=1) for parent, child in MPII16.bones)


def test_bones_are_together_as_long_as_was_said() -> None:
    made = by_bone_length(0.1 * poses(), MPII16, ROOT, 4.15)
    np.testing.assert_allclose(bones_of(made), 4.15, rtol=1e-12)
    assert not made[:, ROOT].any()


def test_a_weak_perspective_pose_comes_back_whatever_its_size_and_place() -> None:
    true = poses()
    true -= true[:, [ROOT]]
    random = np.random.default_rng(1)
    shares = true * random.uniform(0.05, 0.4, (5, 1, 1)) + random.uniform(-0.3, 0.3, (5, 1, 3))
    for place in range(5):
        length = float(bones_of(true[[place]])[0])
        np.testing.assert_allclose(by_bone_length(shares[[place]], MPII16, ROOT, length), true[[place]], atol=1e-12)


def test_joints_in_one_point_have_no_size() -> None:
    assert np.isnan(by_bone_length(np.full((1, 16, 3), 0.2), MPII16, ROOT, 4.15)).all()


def test_true_depth_leads_back_along_the_rays_of_each_camera() -> None:
    true = poses() + np.array([0.3, -0.2, 4.0])
    camera = np.array([1, 0, 0, 1, 0])
    lenses = [PLAIN, LENS]
    pixels = np.empty((5, 16, 2))
    for row, number in enumerate(camera):
        pixels[row] = stack_cameras([lenses[number]])[0].project_camera(torch.from_numpy(true[row])).numpy()
    root, unit = true[:, ROOT, 2], np.array([2.0, 2.0, 1.7, 2.4, 2.0])
    shares = np.zeros((5, 16, 3))
    shares[..., 2] = (true[..., 2] - root[:, None]) / unit[:, None]
    made = by_root_depth(shares, pixels, unit, root, lenses, camera)
    np.testing.assert_allclose(made, true, atol=1e-6)


@pytest.mark.parametrize("depth", [-0.6, np.nan])
def test_what_is_behind_the_camera_or_nowhere_is_nan(depth: float) -> None:
    shares = np.zeros((1, 16, 3))
    shares[0, 3, 2] = depth
    made = by_root_depth(shares, np.full((1, 16, 2), 300.0), np.array([2.0]), np.array([1.0]), [PLAIN], np.array([0]))
    assert np.isnan(made[0, 3]).all() and np.isfinite(np.delete(made[0], 3, axis=0)).all()
