from __future__ import annotations

import numpy as np
import torch

from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.skeleton.catalog import SMPL24
from posekit.synthetic.anatomy import pose_from_angles
from posekit.synthetic.gestures import gesture
from posekit.synthetic.grounding import floor_under, planted_path

FPS = 60.0


def walked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Path, vertices and joints of four seconds of walking."""
    body, betas = load_body(), np.zeros(10)
    pose = pose_from_angles(gesture("Walking", 4.0, FPS, 0, "S1").angles)
    path = planted_path(body, betas, pose)
    model = BodyModel(body, dtype=torch.float64)
    posed = model(torch.zeros(len(pose), 10, dtype=torch.float64), torch.from_numpy(pose), torch.from_numpy(path))
    return path, posed.vertices.numpy(), posed.joints.numpy()


def test_planted_feet_do_not_slide() -> None:
    path, vertices, _ = walked()
    speed = np.linalg.norm(np.diff(path[:, [0, 2]], axis=0), axis=1).mean() * FPS
    assert 0.6 < speed < 2.0
    lowest = vertices[..., 1].argmin(axis=1)
    rows = np.arange(len(vertices) - 1)
    slid = vertices[rows + 1, lowest[:-1]] - vertices[rows, lowest[:-1]]
    # The lowest point of the soles is at rest while the body moves on.
    assert np.median(np.linalg.norm(slid[:, [0, 2]], axis=1)) * FPS < 0.12 * speed
    assert abs(vertices[..., 1].min(axis=1)).max() < 2e-3


def test_walkers_go_where_they_face() -> None:
    path, _, joints = walked()
    left, right = (joints[:, SMPL24.index(f"{side}_hip")] for side in ("left", "right"))
    across = (left - right)[:, [0, 2]]
    forward = np.stack([-across[:, 1], across[:, 0]], axis=1)
    steps = np.gradient(path[:, [0, 2]], axis=0)
    cosine = (steps * forward).sum(axis=1) / np.linalg.norm(steps, axis=1) / np.linalg.norm(forward, axis=1)
    assert np.median(cosine) > 0.95


def test_built_in_motions_touch_the_floor_always() -> None:
    lowest = np.array([0.1, 0.4, -0.2])
    np.testing.assert_array_equal(floor_under(lowest, 30.0, recorded=False), lowest)


def test_recorded_jumps_stay_jumps_but_slow_drift_goes() -> None:
    times = np.arange(300) / 60.0
    drift = 0.08 * np.sin(0.6 * times)
    jump = np.where(abs(times - 2.5) < 0.25, 0.4 * (1 - ((times - 2.5) / 0.25) ** 2), 0.0)
    above = drift + jump - floor_under(drift + jump, 60.0, recorded=True)
    assert abs(above[np.argmax(jump)] - 0.4) < 0.05
    assert np.abs(above[jump == 0]).max() < 0.03
