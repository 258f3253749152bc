"""Natural flexion of elbows and knees."""

from __future__ import annotations

import numpy as np
import torch

from posekit.body.hinges import hinge_limits
from posekit.body.model import BodyModel
from posekit.body.smpl_file import load_body
from posekit.skeleton.catalog import SMPL24

TIPS = {
    "left_elbow": "left_wrist",
    "right_elbow": "right_wrist",
    "left_knee": "left_ankle",
    "right_knee": "right_ankle",
}


def test_one_radian_of_flexion_moves_forearms_forwards_and_feet_backwards() -> None:
    body = load_body()
    model = BodyModel(body, dtype=torch.float64)
    limits = hinge_limits(body)
    assert {SMPL24.joints[joint] for joint in limits.joints} == set(TIPS)
    for joint, axis in zip(limits.joints, torch.from_numpy(limits.axes), strict=True):
        tip = SMPL24.index(TIPS[SMPL24.joints[joint]])
        pose = torch.zeros(1, 24, 3, dtype=torch.float64)
        at_rest = model.posed_joints(torch.zeros(1, 10, dtype=torch.float64), pose)[0, tip]
        pose[0, joint] = axis
        moved = model.posed_joints(torch.zeros(1, 10, dtype=torch.float64), pose)[0, tip] - at_rest
        forwards = 1.0 if "elbow" in SMPL24.joints[joint] else -1.0
        assert forwards * moved[2] > 0.15
        # the limit exp(-flexion) falls when the joint bends the natural way
        assert torch.exp(-(pose[0, joint] @ axis)) < 1


def test_axes_are_those_that_smplify_limits() -> None:
    limits = hinge_limits(load_body())
    axes = dict(zip((SMPL24.joints[j] for j in limits.joints), limits.axes, strict=True))
    for name, expected in {
        "left_elbow": [0, -1, 0],
        "right_elbow": [0, 1, 0],
        "left_knee": [1, 0, 0],
        "right_knee": [1, 0, 0],
    }.items():
        assert abs(np.linalg.norm(axes[name]) - 1) < 1e-12
        assert axes[name] @ np.array(expected) > 0.98, name


def test_no_other_axis_moves_the_tip_further() -> None:
    body = load_body()
    limits = hinge_limits(body)
    others = np.random.default_rng(0).normal(size=(500, 3))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    for joint, axis in zip(limits.joints, limits.axes, strict=True):
        name = SMPL24.joints[joint]
        bone = body.rest_joints[SMPL24.index(TIPS[name])] - body.rest_joints[joint]
        direction = np.array([0, 0, 1.0 if "elbow" in name else -1.0])
        assert np.cross(axis, bone) @ direction >= (np.cross(others, bone) @ direction).max()
