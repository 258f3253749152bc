from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posekit.export.upright import find_upright
from posekit.skeleton.catalog import H36M17
from posekit.skeleton.skeleton import Skeleton


def _people(up: np.ndarray, lean: float = 0.1, seed: int = 0) -> np.ndarray:
    """Joints whose heads are above their feet along `up`, somewhere in the world."""
    generator = np.random.default_rng(seed)
    height = np.full(17, 0.9)
    height[list(H36M17.indices("left_ankle", "right_ankle"))] = 0.1
    height[H36M17.index("head")] = 1.7
    points = generator.normal(size=(40, 1, 3)) * 0.2 + lean * generator.normal(size=(40, 17, 3))
    points -= (points @ up)[..., None] * up
    return points + height[:, None] * up


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("up", ["y", "z"])
def test_axes_of_calibrated_worlds(axis: int, sign: float, up: str) -> None:
    direction = np.zeros(3)
    direction[axis] = sign
    points = _people(direction)
    upright = find_upright(points, H36M17, up, camera_frame=False)
    turned = upright.apply(points)
    wanted = np.array([0.0, 1.0, 0.0]) if up == "y" else np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(upright.rotation @ direction, wanted, atol=1e-12)
    np.testing.assert_allclose(upright.translation, 0.0)
    assert np.linalg.det(upright.rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(turned @ wanted, points @ direction, atol=1e-12)


@pytest.mark.parametrize("pitch", [-40.0, 5.0, 20.0])
def test_camera_frames_are_levelled_and_put_on_the_ground(pitch: float) -> None:
    tilt = Rotation.from_euler("x", pitch, degrees=True).as_matrix()
    points = _people(tilt @ np.array([0.0, -1.0, 0.0])) + tilt @ np.array([0.3, 1.0, 4.0])
    upright = find_upright(points, H36M17, "y", camera_frame=True)
    turned = upright.apply(points)
    along = turned[:, H36M17.index("head")] - turned[:, list(H36M17.indices("left_ankle", "right_ankle"))].mean(1)
    mean = along.mean(0) / np.linalg.norm(along.mean(0))
    np.testing.assert_allclose(mean, [0.0, 1.0, 0.0], atol=1e-9)
    assert turned[..., 1].min() == pytest.approx(0.0, abs=1e-12)
    assert np.linalg.det(upright.rotation) == pytest.approx(1.0)


def test_missing_joints_do_not_matter() -> None:
    points = _people(np.array([0.0, 0.0, 1.0]))
    points[3:, H36M17.index("head")] = np.nan
    assert find_upright(points, H36M17, "y", camera_frame=False).found == "+z is up"


def test_without_anybody_a_camera_is_taken_as_level() -> None:
    for points, skeleton in (
        (np.full((2, 17, 3), np.nan), H36M17),
        (np.zeros((2, 1, 3)), Skeleton("one", ("left_hand",), (-1,))),
    ):
        upright = find_upright(points, skeleton, "y", camera_frame=False)
        np.testing.assert_array_equal(upright.rotation, np.diag([1.0, -1.0, -1.0]))
        assert "nobody" in upright.found
