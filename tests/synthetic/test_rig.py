from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.camera_stack import stack_cameras
from posekit.synthetic.rig import LOOK_AT, STATIONS, rig, subject_extrinsics


@pytest.mark.parametrize("subject", ["S1", "S7", "S11"])
def test_cameras_look_at_the_middle_from_all_sides(subject: str) -> None:
    cameras = stack_cameras(rig(subject, 1000, 0))
    pixels = cameras.project(torch.from_numpy(LOOK_AT)[None])[:, 0]
    assert (pixels - cameras.image_size / 2).abs().max() < 60
    assert (cameras.camera_from_world(torch.from_numpy(LOOK_AT)[None])[..., 2] > 3.0).all()
    centres = cameras.centers().numpy()
    assert (centres[:, 2] > 1.2).all() and (centres[:, 2] < 2.0).all()
    assert len({tuple(np.sign(centre[:2])) for centre in centres}) == 4


def test_cameras_stand_upright() -> None:
    for camera in rig("S1", 1000, 0):
        np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
        assert camera.rotation[1, 2] < -0.9  # the image's down is the world's down


def test_angles_and_centre_tell_the_pose() -> None:
    for station, camera in zip(STATIONS, rig("S5", 1000, 3), strict=True):
        pose = subject_extrinsics(station, "S5", 3)
        (cx, cy, cz), (sx, sy, sz) = np.cos(pose.angles), np.sin(pose.angles)
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        np.testing.assert_allclose(about_x @ about_y @ about_z, camera.rotation, atol=1e-12)
        np.testing.assert_allclose(-camera.rotation.T @ camera.translation * 1000, pose.centre_mm, atol=1e-9)


def test_subjects_have_slightly_different_rigs_with_the_same_lenses() -> None:
    for first, second in zip(rig("S1", 1000, 0), rig("S5", 1000, 0), strict=True):
        moved = np.linalg.norm(first.rotation.T @ first.translation - second.rotation.T @ second.translation)
        assert 0.001 < moved < 0.8
        np.testing.assert_array_equal(first.intrinsics, second.intrinsics)
        assert first.distortion == second.distortion


def test_image_sizes_follow_the_release() -> None:
    assert [(c.width, c.height) for c in rig("S1", 1000, 0)] == [(1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002)]
    assert {c.height for c in rig("S7", 1000, 0)} == {1002}
    assert all(c.width % 2 == 0 and c.height % 2 == 0 for c in rig("S1", 333, 0))


def test_smaller_pictures_show_the_same() -> None:
    points = torch.tensor([[0.3, -0.4, 1.1], [-0.6, 0.2, 0.1]], dtype=torch.float64)
    full, half = (stack_cameras(rig("S1", width, 0)).project(points) for width in (1000, 500))
    np.testing.assert_allclose((full + 0.5) / 2 - 0.5, half, atol=1e-6)


def test_lenses_bend_as_much_as_the_real_ones() -> None:
    for camera in rig("S1", 1000, 0):
        k1, k2, k3, p1, p2 = camera.distortion
        assert -0.25 < k1 < -0.15 and 0.18 < k2 < 0.28 and abs(k3) < 0.012
        assert abs(p1) < 0.003 and abs(p2) < 0.003
